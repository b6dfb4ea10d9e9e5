//! WeChat's DAGOR: a level that moves by fixed steps, told by the mean time in the queue.
//!
//! Source: "Overload Control for Scaling WeChat Microservices", SoCC'18: overloaded when the mean queueing time of a
//! window (1 s or 2000 requests) exceeds 20 ms; then the level is lowered until 5 % fewer would have been admitted,
//! otherwise raised by 1 % of what came in. Levels are business priority and user cohort, found by prefix sums over a
//! histogram of the window. A callee's level travels to its callers, who reject before they send. The pool behind the
//! queue has the size that a sweep found best.

use std::collections::{HashMap, VecDeque};

use super::{Advice, Arrival, Decision, Departure, Effects, LEVELS, Policy, Refusal, Signals};
use crate::time::Nanos;

const OVERLOADED: Nanos = Nanos::from_millis(20);
const WINDOW: Nanos = Nanos::SECOND;
const WINDOW_REQUESTS: u32 = 2_000;
const ALPHA: f64 = 0.05;
const BETA: f64 = 0.01;

/// Entries; a bound that the publication leaves open.
const QUEUE_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct Dagor {
    pool: u32,
    running: u32,
    queue: VecDeque<(u32, Nanos, Nanos)>,
    /// Levels below it are admitted.
    open: usize,
    histogram: Vec<u32>,
    offered: u32,
    admitted: u32,
    window_ends: Nanos,
    waited: Nanos,
    started: u64,
    /// What the servers behind this one admit.
    downstream: HashMap<usize, u16>,
}

impl Dagor {
    pub(super) fn new(pool: u32) -> Self {
        Self {
            pool: pool.max(1),
            running: 0,
            queue: VecDeque::new(),
            open: LEVELS,
            histogram: vec![0; LEVELS],
            offered: 0,
            admitted: 0,
            window_ends: Nanos::ZERO + WINDOW,
            waited: Nanos::ZERO,
            started: 0,
            downstream: HashMap::new(),
        }
    }

    fn start(&mut self, reached: Nanos, now: Nanos) {
        self.running += 1;
        self.waited += now.since(reached);
        self.started += 1;
    }

    fn end_window(&mut self, now: Nanos) {
        // What still waits counts too: under a standing queue nothing may have started.
        let standing = self.queue.front().map_or(Nanos::ZERO, |(_, reached, _)| now.since(*reached));
        let mean = Nanos(self.waited.0 / self.started.max(1));
        let overloaded = mean > OVERLOADED || (self.started == 0 && standing > OVERLOADED);
        let admitted = f64::from(self.admitted);
        let wanted =
            if overloaded { admitted * (1.0 - ALPHA) } else { admitted + BETA * f64::from(self.offered) };
        self.move_level(wanted, overloaded);
        self.histogram.fill(0);
        (self.offered, self.admitted, self.started, self.waited) = (0, 0, 0, Nanos::ZERO);
        self.window_ends = now + WINDOW;
    }

    fn move_level(&mut self, wanted: f64, overloaded: bool) {
        let mut below: f64 = self.histogram[..self.open].iter().copied().map(f64::from).sum();
        if overloaded {
            while self.open > 1 && below > wanted {
                self.open -= 1;
                below -= f64::from(self.histogram[self.open]);
            }
        } else {
            while self.open < LEVELS && below < wanted {
                below += f64::from(self.histogram[self.open]);
                self.open += 1;
            }
        }
    }

    fn refuses(&self, level: u16) -> bool {
        let worst = self.downstream.values().copied().max();
        usize::from(level) >= self.open || worst.is_some_and(|worst| level > worst)
    }
}

impl Policy for Dagor {
    fn arrive(&mut self, arrival: &Arrival, now: Nanos, _effects: &mut Effects) -> Decision {
        if now >= self.window_ends || self.offered >= WINDOW_REQUESTS {
            self.end_window(now);
        }
        self.offered += 1;
        self.histogram[usize::from(arrival.level).min(LEVELS - 1)] += 1;
        if self.refuses(arrival.level) || self.queue.len() >= QUEUE_MAX {
            return Decision::Refuse(Refusal::default());
        }
        self.admitted += 1;
        if self.running < self.pool {
            self.start(arrival.reached, now);
            return Decision::Run;
        }
        self.queue.push_back((arrival.call, arrival.reached, arrival.deadline));
        Decision::Wait
    }

    fn depart(&mut self, _departure: &Departure, now: Nanos, effects: &mut Effects) {
        self.running = self.running.saturating_sub(1);
        while self.running < self.pool {
            let Some((call, reached, deadline)) = self.queue.pop_front() else { return };
            if deadline <= now {
                self.waited += now.since(reached);
                self.started += 1;
                effects.refuse.push((call, Refusal::default()));
                continue;
            }
            self.start(reached, now);
            effects.run.push(call);
        }
    }

    fn tick(&mut self, _signals: &Signals, now: Nanos, _effects: &mut Effects) {
        if now >= self.window_ends {
            self.end_window(now);
        }
    }

    fn tick_interval(&self) -> Option<Nanos> {
        Some(WINDOW)
    }

    fn advice(&self) -> Option<Advice> {
        Some(Advice { open_level: (self.open - 1) as u16, pressure: 0.0 })
    }

    fn hear(&mut self, server: usize, advice: Advice, _now: Nanos) {
        self.downstream.insert(server, advice.open_level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::arrival;

    /// A window with one request at each of 1000 levels.
    fn window(policy: &mut Dagor, waited: Nanos) {
        let now = policy.window_ends - Nanos(1);
        for level in 0..1_000 {
            policy.arrive(&arrival(u32::from(level), level, now), now, &mut Effects::default());
        }
        (policy.waited, policy.started) = (waited, 1);
        policy.end_window(now);
        (policy.running, policy.queue) = (0, VecDeque::new());
    }

    #[test]
    fn it_sheds_a_twentieth_and_takes_back_a_hundredth() {
        let mut policy = Dagor::new(5_000);
        window(&mut policy, Nanos::from_millis(21));
        assert_eq!(policy.open, 950);
        window(&mut policy, Nanos::from_millis(21));
        assert_eq!(policy.open, 902, "0.95 of 950, rounded to whole levels");
        window(&mut policy, Nanos::from_millis(19));
        assert_eq!(policy.open, 912, "10 of 1000 more");
    }

    #[test]
    fn shedding_for_ten_times_takes_45_windows() {
        let mut policy = Dagor::new(5_000);
        let windows = (1..).find(|_| {
            window(&mut policy, Nanos::from_millis(30));
            policy.open <= 100
        });
        let windows = windows.unwrap();
        assert!((40..=46).contains(&windows), "computed in overload.md 0.3 as 45: {windows}");
    }

    #[test]
    fn a_callers_gate_closes_with_its_callees() {
        let mut policy = Dagor::new(10);
        policy.hear(3, Advice { open_level: 200, pressure: 0.0 }, Nanos::ZERO);
        assert!(policy.refuses(201) && !policy.refuses(200));
    }
}
