//! A gateway or a worker.

use std::collections::VecDeque;

use crate::cpu::Cpu;
use crate::plan::{Plan, ServerPlan};
use crate::policy::{Policy, Signals, Site};
use crate::random::mix;
use crate::station::Station;
use crate::time::Nanos;

/// Attempts that a server can hold; more are lost as in a kernel whose buffers are full.
pub(super) const PRESENT_MAX: u32 = 50_000;

/// Waits for a processor of which the 90th percentile is taken.
const WAITS_KEPT: usize = 512;

#[derive(Debug)]
pub(super) struct Server {
    pub(super) hop: usize,
    pub(super) plan: ServerPlan,
    pub(super) policy: Box<dyn Policy>,
    pub(super) cpu: Cpu,
    pub(super) station: Option<Station>,
    pub(super) up: bool,
    pub(super) paused: bool,
    /// Lives so far; a restart begins another.
    pub(super) epoch: u32,
    /// Attempts that are here, whatever they do.
    pub(super) present: u32,
    /// Connections in the accept queue of the kernel.
    pub(super) knocking: VecDeque<u32>,
    /// Attempts that the policy let run.
    pub(super) running: u32,
    busy_since: Nanos,
    waits: Vec<Nanos>,
    /// Core-nanoseconds since the autoscaler looked.
    pub(super) busy_for_scaler: f64,
    site: Site,
    seed: u64,
}

impl Server {
    pub(super) fn new(plan: &Plan, hop: usize, id: u32) -> Self {
        let server = if hop == 0 { plan.gateway } else { plan.worker };
        let cores = server.cores.ceil() as u32;
        let site = Site {
            limit: plan.limits[hop],
            cores,
            passes_on: hop == 0 && plan.workers > 0,
            handshake: plan.connections.map(|connections| Nanos(connections.handshake as u64)),
            seed: mix(plan.seed ^ u64::from(id)),
        };
        Self {
            hop,
            plan: server,
            policy: plan.law.build(&site),
            cpu: Cpu::new(server.cores),
            station: server.station.map(|station| Station::new(station.places, station.contention)),
            up: true,
            paused: false,
            epoch: 0,
            present: 0,
            knocking: VecDeque::new(),
            running: 0,
            busy_since: Nanos::ZERO,
            waits: Vec::new(),
            busy_for_scaler: 0.0,
            site,
            seed: plan.seed,
        }
    }

    /// The process starts anew and knows nothing.
    pub(super) fn restart(&mut self, law: crate::policy::Law, now: Nanos) {
        self.epoch += 1;
        self.site.seed = mix(self.seed ^ self.site.seed);
        self.policy = law.build(&self.site);
        self.cpu.clear(now);
        if let Some(station) = &mut self.station {
            station.clear();
        }
        self.present = 0;
        self.running = 0;
        self.waits.clear();
    }

    /// A task waited so long for a processor.
    pub(super) fn waited(&mut self, wait: Nanos) {
        if self.waits.len() < WAITS_KEPT {
            self.waits.push(wait);
        }
    }

    pub(super) fn busy(&mut self, now: Nanos) -> f64 {
        let busy = self.cpu.take_busy(now);
        self.busy_for_scaler += busy;
        busy
    }

    /// What was measured since the last time.
    pub(super) fn signals(&mut self, now: Nanos) -> Signals {
        let span = now.since(self.busy_since).0 as f64 * self.plan.cores;
        self.busy_since = now;
        let busy = self.busy(now);
        self.waits.sort_unstable();
        let run_queue = self.waits.get(self.waits.len() * 9 / 10).copied().unwrap_or_default();
        self.waits.clear();
        Signals { cpu: if span > 0.0 { busy / span } else { 0.0 }, run_queue }
    }
}
