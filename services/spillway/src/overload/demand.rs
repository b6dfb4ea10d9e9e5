//! What a hop has to do, over what it can: the signal by which replicas are added. In seats, so that a role can add its processes up.
//!
//! Demand is what would be in use if nothing were refused. It is the larger of two views of the same: seats in use and waited for,
//! with what the gate cuts added; and the flow that arrives over the flow that can be served, once that has been measured. The first is
//! true from the first call on, and the second goes on above the limit, where the first saturates.
//!
//! Where a hop below is what bounds, more of this one would not help: a process then asks for no more than keeps what there is.

use std::collections::VecDeque;

use spillway_admission::{Source, View};

/// A second: beacons come as often, and a single tick says little about calls that last some milliseconds.
const TICKS: usize = 10;
/// All but this share of what is offered is refused, and it still means something.
const CUT_MAX: f64 = 0.99;
/// What is told at most while something below bounds: what autoscalers aim at by default, so that they neither add nor take away.
const HELD_RATIO: f64 = 0.7;

/// Means over the last second, in seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) in_flight: u64,
    pub(crate) queued: u64,
    pub(crate) refused: u64,
    pub(crate) capacity: u64,
}

/// The last second of one hop.
#[derive(Debug, Default)]
pub(super) struct Meter(VecDeque<Sample>);

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    in_flight: f64,
    queued: f64,
    demand: f64,
    capacity: f64,
}

impl Meter {
    pub(super) fn tick(&mut self, view: &View) {
        if view.limit == 0 {
            // It has not begun.
            return;
        }
        if self.0.len() == TICKS {
            self.0.pop_front();
        }
        self.0.push_back(Sample::of(view));
    }

    /// `None` before the first tick.
    pub(super) fn load(&self) -> Option<Load> {
        let ticks = self.0.len();
        let mean = |of: fn(&Sample) -> f64| self.0.iter().map(of).sum::<f64>() / ticks as f64;
        let (in_flight, queued) = (mean(|sample| sample.in_flight), mean(|sample| sample.queued));
        let refused = mean(|sample| sample.demand) - in_flight - queued;
        // `as` saturates.
        (ticks > 0).then(|| Load {
            in_flight: in_flight.round() as u64,
            queued: queued.round() as u64,
            refused: refused.max(0.0).round() as u64,
            capacity: mean(|sample| sample.capacity).round().max(1.0) as u64,
        })
    }
}

impl Sample {
    fn of(view: &View) -> Self {
        let (in_flight, queued, capacity) =
            (f64::from(view.inflight), view.queued as f64, f64::from(view.limit));
        let cut = if view.overloaded { view.rho.clamp(0.0, CUT_MAX) } else { 0.0 };
        let used = (in_flight + queued) / capacity;
        // Where refusals have begun it is full, whatever the limit is: a processor can be short before seats are.
        let offered = if cut > 0.0 { (in_flight / capacity).max(1.0) / (1.0 - cut) } else { 0.0 };
        let flow = match view.capacity {
            Some(rate) if rate > 0.0 && view.overloaded => view.offered / rate,
            // What can be served may be more than was ever seen.
            Some(rate) if rate > 0.0 => (view.offered / rate).min(1.0),
            _ => 0.0,
        };
        let ratio = used.max(offered).max(flow);
        let ratio = if is_bounded_below(view) { ratio.min(HELD_RATIO) } else { ratio };
        let demand = ratio * capacity;
        // Told as one sum, so what is held must not show as seats that are in use.
        let shown = (in_flight + queued).min(demand);
        let queued = queued.min(shown);
        Self { in_flight: shown - queued, queued, demand, capacity }
    }
}

fn is_bounded_below(view: &View) -> bool {
    let below = view.pressures[Source::Downstream as usize];
    let own = Source::ALL.into_iter().zip(view.pressures).filter(|(source, _)| *source != Source::Downstream);
    below > 1.0 && own.fold(0.0, |worst: f64, (_, pressure)| worst.max(pressure)) < below
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use spillway_admission::{Admission, AdmissionConfig, AdmissionMetrics};
    use spillway_rpc::Waiter;

    use super::*;

    fn view() -> View {
        let metrics = AdmissionMetrics::register(&Registry::new(), "gateway").unwrap();
        let admission = Admission::<Waiter>::new(AdmissionConfig::default(), metrics).unwrap();
        View { limit: 100, ..admission.view() }
    }

    fn load(view: &View) -> Load {
        let mut meter = Meter::default();
        (0..TICKS).for_each(|_| meter.tick(view));
        meter.load().unwrap()
    }

    fn ratio(view: &View) -> f64 {
        let Load { in_flight, queued, refused, capacity } = load(view);
        (in_flight + queued + refused) as f64 / capacity as f64
    }

    #[test]
    fn what_is_in_use_and_waits_counts_and_a_second_is_remembered() {
        let busy = View { inflight: 40, queued: 20, ..view() };
        assert_eq!(load(&busy), Load { in_flight: 40, queued: 20, refused: 0, capacity: 100 });
        let mut meter = Meter::default();
        assert_eq!(meter.load(), None);
        (0..5).for_each(|_| meter.tick(&busy));
        (0..5).for_each(|_| meter.tick(&view()));
        assert_eq!(meter.load().unwrap().in_flight, 20);
        (0..TICKS).for_each(|_| meter.tick(&view()));
        assert_eq!(meter.load().unwrap().in_flight, 0);
    }

    #[test]
    fn what_is_refused_is_demand_and_shedding_is_no_idleness() {
        // Short of a processor at half of the seats: three quarters are cut.
        let cut = View { inflight: 50, overloaded: true, rho: 0.75, ..view() };
        assert_eq!(ratio(&cut), 4.0);
        // The limit is full, and ten times what can be served arrives.
        let flooded =
            View { inflight: 100, overloaded: true, offered: 5_000.0, capacity: Some(500.0), ..view() };
        assert_eq!(ratio(&flooded), 10.0);
        assert_eq!(load(&flooded).refused, 900);
        let all = View { overloaded: true, rho: 1.0, ..view() };
        assert!(ratio(&all) <= 101.0, "bounded");
    }

    #[test]
    fn a_capacity_that_was_seen_once_makes_nobody_overloaded() {
        let calm = View { inflight: 10, offered: 900.0, capacity: Some(300.0), ..view() };
        assert_eq!(ratio(&calm), 1.0);
    }

    #[test]
    fn more_gateways_are_no_answer_to_a_store_that_is_full() {
        let below =
            View { inflight: 100, overloaded: true, rho: 0.9, pressures: [0.5, 0.1, 0.1, 5.0], ..view() };
        assert_eq!(ratio(&below), HELD_RATIO);
        let both = View { pressures: [6.0, 0.1, 0.1, 5.0], ..below };
        assert!(ratio(&both) > 9.0);
    }
}
