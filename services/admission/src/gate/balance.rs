//! How much to admit: flow balance with feed-forward.
//!
//! What can be served is known from what was served while the limiter was full, what is offered is counted; their
//! ratio is what to refuse, after one tick and without a loop that would have to be tuned (`reference/overload.md`
//! b.4). The queue only corrects. A loop on the delay alone would ring: at ten times the capacity the delay grows by
//! its target in a few milliseconds, far inside one tick.

use std::time::Duration;

use crate::config::GateConfig;
use crate::gate::below::Below;

/// What one tick measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flows {
    /// Length of the tick.
    pub(crate) tick: Duration,
    /// Seats offered in the window of arrivals, and its length in ticks.
    pub(crate) offered: f64,
    pub(crate) window_ticks: f64,
    pub(crate) thin: bool,
    /// Seats a second that finish while the limiter is full; `None` before it ever was.
    pub(crate) capacity: Option<f64>,
    pub(crate) limit: f64,
    /// Seats in use, the mean of the tick, and those that were given back in it.
    pub(crate) inflight: f64,
    pub(crate) finished: f64,
    pub(crate) queued: f64,
    /// The fewest seats that were queued at any time in the tick.
    pub(crate) queued_min: f64,
    /// Somebody was pushed out or found the queue full.
    pub(crate) overflowed: bool,
    /// The limiter was full for most of the tick.
    pub(crate) full: bool,
    /// The worst of this process's own signals over their targets; above 1 is too much.
    pub(crate) pressure: f64,
    /// What reaches the hop below over what it can do, as it has told.
    pub(crate) downstream: f64,
}

/// What the tick decided.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Balance {
    pub(crate) overloaded: bool,
    /// The fraction of what is offered that is to be refused.
    pub(crate) rho: f64,
}

#[derive(Debug)]
pub(crate) struct FlowBalance {
    config: GateConfig,
    now: Balance,
    /// Of [`Balance::rho`], what flows alone say.
    balanced: f64,
    below: Below,
    calm_ticks: u32,
}

/// A jump of more than this is a step in the load and taken at once.
const STEP: f64 = 0.3;
/// Towards more refusing fast, towards less slowly: 95 % in 2.8 s. Whether there is room now is seen at once elsewhere.
const RISE: f64 = 0.5;
const FALL: f64 = 0.1;
/// How much of the queue's distance from its target is corrected in a tick. Free seats are filled at once. Neither moves
/// what is admitted by more than this share of the capacity, or the gate would swing between shut and open.
const CORRECTION: f64 = 0.5;
const CALM_RHO: f64 = 0.01;
const CALM_TICKS: u32 = 10;
/// Arrivals are more or less Poisson, so they exceed their mean by five times its root once in some million ticks.
const SIGNIFICANT: f64 = 5.0;
/// The queue that ordinary randomness makes, in calls: at 0.9 of capacity a queue of exponential services is longer
/// than this once in 700,000 (0.9^128). A server of 300 calls/s needs 430 ms for them, one of 50,000/s needs 3 ms.
pub(crate) const CHANCE_CALLS: f64 = 128.0;
/// The queue that is aimed at, over the root of the calls of a tick. What is let in during a tick, what is served in it, and the
/// estimate that the former is based on each vary by about that root, and half of a distance is left until the next tick: together by
/// almost two roots, of which this is three deviations. Where fewer find a place, those who are too many are pushed out, the least
/// important first: that costs less than a seat that stands empty until the next tick. With a fixed 16 calls a simulated server of
/// 2,000 calls/s stood idle for 1.5 % of the time at twice its capacity.
const QUEUE_TARGET_ROOTS: f64 = 6.0;
/// The same for servers so small that a root says nothing, in calls.
const QUEUE_TARGET_CALLS: f64 = 16.0;

impl FlowBalance {
    pub(crate) fn new(config: GateConfig) -> Self {
        Self { config, now: Balance::default(), balanced: 0.0, below: Below::default(), calm_ticks: 0 }
    }

    pub(crate) fn configure(&mut self, config: GateConfig) {
        self.config = config;
    }

    pub(crate) fn tick(&mut self, flows: &Flows) -> Balance {
        let tick_s = flows.tick.as_secs_f64().max(1e-3);
        let offered = flows.offered / flows.window_ticks.max(1.0);
        if !self.now.overloaded && self.overload_begins(flows, offered, tick_s) {
            self.now.overloaded = true;
            self.calm_ticks = 0;
        }
        let too_much_below = self.below.tick(offered, self.now.rho, flows.downstream);
        if !self.now.overloaded {
            return self.now;
        }
        let capacity = flows.capacity.map(|per_second| per_second * tick_s);
        let target =
            capacity.map_or(0.0, |capacity| 1.0 - (capacity + spare(flows, capacity)) / offered.max(1e-9));
        let target = target.clamp(0.0, self.config.rho_max);
        let mut balanced = self.approach(target);
        if flows.queued == 0.0 {
            // Nobody waits: what fits now must not wait for a filter.
            balanced = balanced.min(target);
        }
        // Not filtered, or the queue would be full and empty by turns.
        let correction = capacity.map_or(0.0, |capacity| self.correction(flows, capacity, tick_s));
        let rho = (balanced + correction / offered.max(1e-9)).clamp(0.0, self.config.rho_max);
        let told = if flows.pressure > 1.0 { 1.0 - 1.0 / flows.pressure } else { 0.0 };
        let told = told.max(too_much_below).min(self.config.rho_max);
        let (rho, balanced) = (rho.max(told), balanced.max(told));
        let (rho, balanced) =
            if flows.thin { (rho.min(self.now.rho), balanced.min(self.balanced)) } else { (rho, balanced) };
        (self.now.rho, self.balanced) = (rho, balanced);
        self.calm_ticks = if rho < CALM_RHO { self.calm_ticks + 1 } else { 0 };
        if self.calm_ticks >= CALM_TICKS {
            self.now = Balance::default();
            self.balanced = 0.0;
        }
        self.now
    }

    /// Seats to let in fewer in the next tick because so many wait, or more if that is negative. `capacity` is of a tick.
    fn correction(&self, flows: &Flows, capacity: f64, tick_s: f64) -> f64 {
        let by_chance = (QUEUE_TARGET_ROOTS * capacity.sqrt()).max(QUEUE_TARGET_CALLS);
        let wanted = (capacity / tick_s * self.config.queue_target.as_secs_f64()).max(by_chance);
        let most = CORRECTION * capacity;
        (CORRECTION * (flows.queued - wanted)).clamp(-most, most)
    }

    fn overload_begins(&self, flows: &Flows, offered: f64, tick_s: f64) -> bool {
        if flows.pressure > 1.0 || flows.downstream > 1.0 || flows.overflowed {
            return true;
        }
        let Some(capacity) = flows.capacity else { return false };
        if flows.queued_min > CHANCE_CALLS + capacity * self.config.queue_target.as_secs_f64() {
            return true;
        }
        // More is offered than randomness explains, and it does wait.
        let (offered, fits) = (offered * flows.window_ticks, capacity * tick_s * flows.window_ticks);
        flows.queued > 0.0 && flows.full && offered - fits > SIGNIFICANT * offered.sqrt()
    }

    fn approach(&self, target: f64) -> f64 {
        let gap = target - self.balanced;
        match gap {
            gap if gap > STEP => target,
            gap if gap > 0.0 => self.balanced + RISE * gap,
            gap => self.balanced + FALL * gap,
        }
    }
}

/// Seats a tick that free ones could serve: each as much as each of the others did. `capacity` is of a tick.
fn spare(flows: &Flows, capacity: f64) -> f64 {
    let free = (flows.limit - flows.inflight).max(0.0);
    let each = (flows.finished / flows.inflight.max(1.0)).max(CORRECTION);
    (each * free).min(CORRECTION * capacity)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    /// A full server of 10,000 seats/s at some multiple of its capacity.
    fn at(load: f64) -> Flows {
        Flows {
            tick: TICK,
            offered: 1_000.0 * load,
            window_ticks: 1.0,
            thin: false,
            capacity: Some(10_000.0),
            limit: 100.0,
            inflight: 100.0,
            finished: 1_000.0,
            // As many as are aimed at.
            queued: 190.0,
            queued_min: 0.0,
            overflowed: false,
            full: true,
            pressure: 0.0,
            downstream: 0.0,
        }
    }

    fn balance() -> FlowBalance {
        FlowBalance::new(GateConfig::default())
    }

    #[test]
    fn one_tick_finds_what_to_refuse() {
        for load in [1.5, 2.0, 4.0, 10.0, 100.0] {
            let rho = balance().tick(&at(load)).rho;
            let exact = 1.0 - 1.0 / load;
            assert!(
                (rho - exact).abs() < 0.01 || (exact < STEP + 0.1 && rho > 0.0),
                "{load}: {rho}, not {exact}"
            );
        }
    }

    #[test]
    fn nine_tenths_is_no_overload_even_with_a_queue() {
        let mut balance = balance();
        for _ in 0..1_000 {
            assert_eq!(balance.tick(&at(0.9)), Balance::default());
            assert_eq!(balance.tick(&at(1.1)), Balance::default(), "1100 are 1000 and 3.2 of its roots");
        }
    }

    #[test]
    fn when_the_load_goes_nobody_is_refused_after_one_tick() {
        let mut balance = balance();
        balance.tick(&at(10.0));
        let gone = Flows { inflight: 30.0, queued: 0.0, full: false, ..at(0.5) };
        let rho = balance.tick(&gone).rho;
        assert_eq!(rho, 0.0);
        for _ in 0..CALM_TICKS {
            balance.tick(&gone);
        }
        assert!(!balance.now.overloaded);
    }

    #[test]
    fn a_pause_does_not_spiral() {
        // The server stands still for a tick: nothing finishes, the queue is full, what it can do is as before.
        let mut balance = balance();
        balance.tick(&at(2.0));
        let stalled = balance.tick(&Flows { queued: 1_000.0, finished: 0.0, ..at(2.0) }).rho;
        let free = Flows { inflight: 20.0, queued: 0.0, full: false, ..at(2.0) };
        let after = balance.tick(&free).rho;
        assert!(stalled > 0.5 && after <= 0.25, "{stalled}, then {after}");
    }

    /// What is served of what could be, in a minute at some multiple of it. Who comes and who is served is drawn for each slice of a tick.
    fn served(per_second: f64, load: f64, seed: u64) -> f64 {
        const SLICES: u32 = 50;
        let mut random = SmallRng::seed_from_u64(seed);
        // Poisson: as many as fit in, of pauses that are drawn (Knuth).
        let mut about = |mean: f64| -> f64 {
            let mut left = mean;
            let pauses = std::iter::from_fn(|| {
                left += (1.0 - random.random::<f64>()).ln();
                (left > 0.0).then_some(())
            });
            pauses.count() as f64
        };
        let capacity = per_second * TICK.as_secs_f64();
        let slice = capacity / f64::from(SLICES);
        let places = (per_second * 0.02).max(64.0);
        let (mut balance, mut rho, mut queued) = (balance(), 0.0, 0.0_f64);
        let (mut served, mut could_all) = (0.0, 0.0);
        for _ in 0..600 {
            let (mut offered, mut finished, mut could) = (0.0, 0.0, 0.0);
            for _ in 0..SLICES {
                let (passed, refused) = (about(slice * load * (1.0 - rho)), about(slice * load * rho));
                offered += passed + refused;
                let able = about(slice);
                let done = able.min(queued + passed);
                (could, finished) = (could + able, finished + done);
                queued = (queued + passed - done).min(places);
            }
            let busy = finished / could.max(1.0);
            let (inflight, full, capacity) = (100.0 * busy, busy > 0.5, Some(per_second));
            let flows = Flows { offered, capacity, inflight, finished, queued, full, ..at(load) };
            rho = balance.tick(&flows).rho;
            (served, could_all) = (served + finished, could_all + could);
        }
        served / could_all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn chance_leaves_no_seat_empty(per_second in 300.0..3_000.0, load in 1.5..5.0, seed: u64) {
            let served = served(per_second, load, seed);
            prop_assert!(served > 0.99, "{served} of {per_second}/s at {load} x, seed {seed}");
        }
    }

    #[test]
    fn pressure_alone_refuses_its_excess() {
        let calm = Flows { inflight: 10.0, queued: 0.0, full: false, ..at(0.5) };
        let rho = balance().tick(&Flows { pressure: 2.0, ..calm }).rho;
        assert!((rho - 0.5).abs() < 1e-9);
        let rho = balance().tick(&Flows { pressure: f64::INFINITY, ..calm }).rho;
        assert!(rho <= GateConfig::default().rho_max);
    }

    #[test]
    fn few_arrivals_only_open() {
        let mut balance = balance();
        let thin = Flows { thin: true, overflowed: true, ..at(5.0) };
        assert_eq!(balance.tick(&thin).rho, 0.0);
    }

    #[test]
    fn a_small_server_is_given_the_queue_that_chance_needs() {
        let small = Flows { capacity: Some(300.0), offered: 30.0, queued_min: 120.0, ..at(1.0) };
        assert!(!balance().tick(&small).overloaded);
        assert!(balance().tick(&Flows { queued_min: 135.0, ..small }).overloaded);
        assert!(
            balance().tick(&Flows { offered: 90.0, ..small }).overloaded,
            "three times is seen in a tick"
        );
    }
}
