//! What a pod serves of what it is offered, and what its processors show meanwhile.

use serde::{Deserialize, Serialize};

/// What is left of goodput whatever comes: measured at ten times the capacity with callers that do not listen
/// (`README.md`, "Figures", one process with its store).
const GOODPUT_LEAST: f64 = 0.06;

/// Of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Requests a second that the gate lets through.
    pub capacity_per_s: f64,
    /// Of the requested processors, what is busy when it lets them all through. Below 1 the pod waits for others, a store for
    /// example, and its processors never get full.
    pub busy_at_capacity: f64,
    /// What a refusal costs, over what a served request costs.
    pub refusal_cost: f64,
}

/// A second of all pods that serve.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    pub offered: f64,
    pub served: f64,
    pub refused: f64,
    /// Of the processors that a pod requests.
    pub busy: f64,
}

impl Limits {
    /// `pods` share evenly what is offered.
    ///
    /// Who is refused costs something, so refusing takes from serving once the processors are full. While they are not, it does not.
    pub fn second(&self, offered: f64, pods: u32) -> Second {
        let capacity = self.capacity_per_s * f64::from(pods);
        if capacity <= 0.0 {
            return Second { offered, refused: offered, ..Second::default() };
        }
        let (load, cost) = (offered / capacity, self.refusal_cost);
        let work = 1.0 / self.busy_at_capacity;
        let served = if load <= 1.0 {
            load
        } else {
            // Served and refused together are no more work than there are processors.
            let left = (work - cost * load) / (1.0 - cost);
            left.clamp(GOODPUT_LEAST, 1.0)
        };
        let busy = self.busy_at_capacity * (served + cost * (load - served));
        // In so many words, because a quotient times its divisor is not always the number that it was.
        let served = if load <= 1.0 { offered } else { served * capacity };
        Second { offered, served, refused: offered - served, busy: busy.min(1.0) }
    }

    /// What the offered load fills, in pods: what `services/spillway/src/overload/demand.rs` counts in seats.
    pub fn pods_filled(&self, offered: f64) -> f64 {
        offered / self.capacity_per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoscale::Setting;

    #[test]
    fn goodput_at_ten_times_the_capacity_is_what_was_measured() {
        let limits = Setting::default().limits;
        let second = limits.second(10.0 * limits.capacity_per_s, 1);
        let goodput = second.served / limits.capacity_per_s;
        assert!((goodput - 0.84).abs() < 0.005, "{goodput}");
        assert!((second.busy - 1.0).abs() < 1e-9);
    }

    #[test]
    fn processors_of_a_pod_that_waits_do_not_show_what_is_refused() {
        let limits = Limits { busy_at_capacity: 0.5, ..Setting::default().limits };
        let (full, ten) =
            (limits.second(limits.capacity_per_s, 1), limits.second(10.0 * limits.capacity_per_s, 1));
        assert!((full.busy - 0.5).abs() < 1e-9 && ten.busy < 0.6, "{} {}", full.busy, ten.busy);
        assert!((ten.served - full.served).abs() < 1e-6);
    }

    #[test]
    fn nobody_serves_nobody() {
        let second = Setting::default().limits.second(100.0, 0);
        assert_eq!((second.served, second.refused), (0.0, 100.0));
    }
}
