//! Facebook's controlled delay with an adaptive LIFO, in front of a pool of fixed size.
//!
//! Source: "Fail at Scale", ACM Queue 2015: a queue that has not been empty for N = 100 ms lets new entries wait
//! M = 5 ms, otherwise N; while it stands, the newest goes first. The pool has the size that a sweep found best.

use std::collections::VecDeque;

use super::{Arrival, Decision, Departure, Effects, Policy, Refusal, Signals};
use crate::time::Nanos;

const INTERVAL: Nanos = Nanos::from_millis(100);
const TARGET: Nanos = Nanos::from_millis(5);

/// Entries; a bound that the publication leaves open.
const QUEUE_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct CodelLifo {
    pool: u32,
    running: u32,
    /// Oldest first.
    queue: VecDeque<Entry>,
    last_empty: Nanos,
}

#[derive(Debug)]
struct Entry {
    call: u32,
    expires: Nanos,
}

impl CodelLifo {
    pub(super) fn new(pool: u32) -> Self {
        Self { pool: pool.max(1), running: 0, queue: VecDeque::new(), last_empty: Nanos::ZERO }
    }

    fn standing(&self, now: Nanos) -> bool {
        now.since(self.last_empty) > INTERVAL
    }

    fn expire(&mut self, now: Nanos, effects: &mut Effects) {
        while let Some(entry) = self.queue.front()
            && entry.expires < now
        {
            effects.refuse.push((entry.call, Refusal::default()));
            self.queue.pop_front();
        }
    }
}

impl Policy for CodelLifo {
    fn arrive(&mut self, arrival: &Arrival, now: Nanos, effects: &mut Effects) -> Decision {
        if self.queue.is_empty() {
            self.last_empty = now;
        }
        if self.running < self.pool {
            self.running += 1;
            return Decision::Run;
        }
        self.expire(now, effects);
        if self.queue.len() >= QUEUE_MAX {
            return Decision::Refuse(Refusal::default());
        }
        let patience = if self.standing(now) { TARGET } else { INTERVAL };
        self.queue.push_back(Entry { call: arrival.call, expires: now + patience });
        Decision::Wait
    }

    fn depart(&mut self, _departure: &Departure, now: Nanos, effects: &mut Effects) {
        self.running = self.running.saturating_sub(1);
        self.expire(now, effects);
        let next = if self.standing(now) { self.queue.pop_back() } else { self.queue.pop_front() };
        if let Some(entry) = next {
            self.running += 1;
            effects.run.push(entry.call);
        }
        if self.queue.is_empty() {
            self.last_empty = now;
        }
    }

    fn tick(&mut self, _signals: &Signals, now: Nanos, effects: &mut Effects) {
        self.expire(now, effects);
    }

    fn tick_interval(&self) -> Option<Nanos> {
        Some(TARGET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{arrival, departure};

    #[test]
    fn a_standing_queue_serves_the_newest_and_lets_it_wait_five_milliseconds() {
        let (mut policy, mut effects) = (CodelLifo::new(1), Effects::default());
        let ask = |policy: &mut CodelLifo, call, at, effects: &mut Effects| {
            policy.arrive(&arrival(call, 0, Nanos::from_millis(at)), Nanos::from_millis(at), effects)
        };
        assert_eq!(ask(&mut policy, 1, 0, &mut effects), Decision::Run);
        for (call, at) in [(2, 1), (3, 60), (4, 120), (5, 121)] {
            assert_eq!(ask(&mut policy, call, at, &mut effects), Decision::Wait);
        }
        assert_eq!(effects.refuse, [(2, Refusal::default())], "waited its 100 ms");
        policy.depart(&departure(1, Nanos::ZERO, 1), Nanos::from_millis(122), &mut effects);
        assert_eq!(effects.run, [5], "the newest");
        policy.tick(&Signals::default(), Nanos::from_millis(161), &mut effects);
        let refused: Vec<_> = effects.refuse.iter().map(|(call, _)| *call).collect();
        assert_eq!(refused, [2, 3, 4], "4 had 5 ms and waits behind 3, which had 100");
    }
}
