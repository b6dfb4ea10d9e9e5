//! The autoscaler: it sees what processors did, late, and what it orders comes later.

use super::{Event, World};
use crate::time::Nanos;

/// The ratio of measured to wanted that it leaves alone (Kubernetes' default tolerance).
const TOLERANCE: f64 = 0.1;

impl World<'_> {
    pub(super) fn observe(&mut self) {
        let Some(scaler) = self.plan.autoscaler else { return };
        let now = self.now();
        let (mut busy, mut cores) = (0.0, 0.0);
        for id in &self.gateways {
            let server = &mut self.servers[*id as usize];
            server.busy(now);
            busy += std::mem::take(&mut server.busy_for_scaler);
            cores += server.plan.cores;
        }
        let ratio = busy / (cores * scaler.interval.0 as f64) / scaler.target;
        let present = self.gateways.len() as f64;
        if ratio > 1.0 + TOLERANCE {
            let wanted = (present * ratio).ceil().min(2.0 * present).min(f64::from(scaler.most)) as u32;
            self.events.at(now + scaler.lag, Event::Decide { wanted });
        }
        if now < self.plan.end {
            self.events.at(now + scaler.interval, Event::Observe);
        }
    }

    /// What was ordered and is not there yet counts, so nothing is ordered twice.
    pub(super) fn scale_to(&mut self, wanted: u32) {
        let Some(scaler) = self.plan.autoscaler else { return };
        let ordered = self.gateways.len() as u32 + self.weather.servers_ordered;
        let more = wanted.saturating_sub(ordered);
        let at: Nanos = self.now() + scaler.start + scaler.ready;
        for _ in 0..more {
            self.weather.servers_ordered += 1;
            self.events.at(at, Event::Ready);
        }
    }
}
