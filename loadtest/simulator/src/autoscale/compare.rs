//! All autoscalers on all curves, and the order in which they must come out.

use serde::{Deserialize, Serialize};

use super::curve::Curve;
use super::figures::{Figures, table};
use super::scaler::Kind;
use super::setting::Setting;

/// Runs of each, which differ in the delays that are drawn.
pub const DRAWS: u64 = 5;
/// Below this share of what is offered nothing is compared: it is whether a pod came a second sooner.
const MATTERS: f64 = 1e-4;

/// Who must refuse less than whom. Not processors at the chart's 60 %, which keep more room, and more pods, than demand at 70 %.
const ORDER: [(Kind, Kind); 5] = [
    (Kind::Demand, Kind::CpuEqual),
    (Kind::Keda, Kind::CpuEqual),
    (Kind::Demand, Kind::CpuWaiting),
    (Kind::KedaBurst, Kind::Keda),
    (Kind::KedaBurst, Kind::Demand),
];

/// What came of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub seed: u64,
    pub clusters: Vec<Cluster>,
}

/// The same curves where room for so many pods is kept warm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    pub buffer: u32,
    pub figures: Vec<Figures>,
}

/// A pair that must come in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub curve: String,
    pub buffer: u32,
    pub less: Kind,
    pub more: Kind,
    pub holds: bool,
}

impl Comparison {
    /// With the buffer of `values-surge.yaml`, and with none, which is the chart's default.
    pub fn of(curves: &[Curve], setting: &Setting, seed: u64) -> Self {
        let clusters = [setting.buffer, 0].map(|buffer| {
            let setting = Setting { buffer, ..*setting };
            let pairs = curves.iter().flat_map(|curve| Kind::ALL.map(|kind| (curve, kind)));
            let figures = pairs.filter_map(|(curve, kind)| {
                let draw = |seed| Figures::of(curve, kind, &setting, seed);
                Figures::of_all((seed..seed + DRAWS).map(draw).collect())
            });
            Cluster { buffer, figures: figures.collect() }
        });
        Self { seed, clusters: clusters.to_vec() }
    }

    /// Every pair of which the second refuses enough to be compared.
    pub fn orders(&self) -> Vec<Order> {
        let mut orders = Vec::new();
        for Cluster { buffer, figures } in &self.clusters {
            for block in figures.chunk_by(|a, b| a.curve == b.curve) {
                let of = |kind| block.iter().find(|of| of.autoscaler == kind);
                for (less, more) in ORDER {
                    let (Some(a), Some(b)) = (of(less), of(more)) else { continue };
                    if b.refused_share() < MATTERS {
                        continue;
                    }
                    let holds = a.refused_share() < b.refused_share();
                    orders.push(Order { curve: a.curve.clone(), buffer: *buffer, less, more, holds });
                }
            }
        }
        orders
    }

    /// A table for each curve, then which orders do not hold.
    pub fn print(&self) -> String {
        let draws = format!(
            "means of {DRAWS} draws of the delays, from seed {}; longest and peak: of the worst",
            self.seed
        );
        let mut text = format!("{draws}\n\n");
        for Cluster { buffer, figures } in &self.clusters {
            text += &match buffer {
                0 => "No room is kept: new pods wait for nodes\n\n".to_owned(),
                _ => format!("Room for {buffer} pods is kept warm\n\n"),
            };
            text += &table(figures);
        }
        let orders = self.orders();
        for Order { curve, buffer, less, more, .. } in orders.iter().filter(|order| !order.holds) {
            let (less, more) = (less.name(), more.name());
            text += &format!("MISSED: {less} does not refuse less than {more} ({curve}, buffer {buffer})\n");
        }
        let held = orders.iter().filter(|order| order.holds).count();
        text + &format!("{held} of {} orders hold\n", orders.len())
    }
}
