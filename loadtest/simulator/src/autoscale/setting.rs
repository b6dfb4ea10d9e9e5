//! Everything that is the same for all who are compared.

use serde::{Deserialize, Serialize};

use super::gate::Limits;

/// Seconds from, to: where in between, chance says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span(pub f64, pub f64);

/// Seconds; the ranges of `kubernetes_and_observability.md` §2.3.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delays {
    /// From the write to the pod's place on a node that has room.
    pub schedule: Span,
    /// Until a pod that held the room has made way.
    pub make_way: Span,
    /// Until a new node is there.
    pub node: Span,
    /// On a node that has never run the image.
    pub pull: Span,
    pub start: Span,
    /// Asked every second at the start, and every two for readiness.
    pub probe: Span,
    /// Until those who connect hear of it.
    pub discovery: Span,
    /// A whole drain, as the chart adds it up: 5 + 5 + 120 + 10 + 20.
    pub drain: u64,
    /// Between two looks of who adds nodes.
    pub node_scan: u64,
    /// A node that nobody is on stays for so long.
    pub node_unneeded: u64,
    /// Of metrics-server, and the span over which it computes a use.
    pub cpu_resolution: u64,
    /// Since a pod's start, in which its use counts only once it has been ready for a whole span.
    pub cpu_initialization: u64,
    /// Between two looks of a HorizontalPodAutoscaler.
    pub sync: u64,
    /// From what happens to what `control` knows: the mean of a second, told once a second.
    pub told: u64,
    /// `monitoring.podMonitor.interval` of the chart.
    pub scrape: u64,
    /// From what `control` knows to the write of a burst's replicas: half a second, and KEDA's own call.
    pub push: u64,
}

/// A role, its cluster, and how much comes. The numbers of replicas are those of `helm/spillway/values-surge.yaml`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    pub limits: Limits,
    pub delays: Delays,
    /// What existing users ask for at all times, in pods that it fills.
    pub existing_pods: f64,
    /// What sign-ups ask for at the curve's highest, in pods that it fills.
    pub sign_ups_pods: f64,
    pub least: u32,
    pub most: u32,
    pub burst_least: u32,
    pub burst_most: u32,
    /// Pods' worth of room that the cluster keeps warm.
    pub buffer: u32,
    pub pods_per_node: u32,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            schedule: Span(1.0, 2.0),
            make_way: Span(1.0, 2.0),
            node: Span(60.0, 180.0),
            pull: Span(10.0, 60.0),
            start: Span(2.0, 4.0),
            probe: Span(0.0, 3.0),
            discovery: Span(1.0, 5.0),
            drain: 160,
            node_scan: 10,
            node_unneeded: 600,
            cpu_resolution: 15,
            cpu_initialization: 300,
            sync: 15,
            told: 2,
            scrape: 5,
            push: 1,
        }
    }
}

impl Default for Setting {
    /// Quiet for the pods that `values-surge.yaml` starts with (0.44 of their capacity), and ten times that at the highest.
    fn default() -> Self {
        Self {
            limits: Limits {
                // Durable sends on two cores, which is what a gateway requests in `values-prod.yaml` (`README.md`, "Figures").
                capacity_per_s: 18_000.0,
                busy_at_capacity: 1.0,
                // Goodput was 0.84 at ten times the capacity with clients that listen (`README.md`, "Figures"): (1 - 10 c)/(1 - c).
                refusal_cost: 0.0175,
            },
            delays: Delays::default(),
            existing_pods: 4.0,
            sign_ups_pods: 40.0,
            least: 9,
            most: 150,
            burst_least: 12,
            burst_most: 60,
            buffer: 12,
            pods_per_node: 3,
        }
    }
}
