//! Envoy's adaptive concurrency: the limit follows the ratio of a response time measured under almost no load to the
//! present median.
//!
//! Source: Envoy, `adaptive_concurrency/controller/gradient_controller.cc`: gradient = minRTT (1 + buffer) / median, in
//! [0.5, 2]; L = gradient L + sqrt(gradient L). Defaults: buffer 25 %, jitter 15 %, at least 3, at most 1000, 50
//! requests for a minRTT; a new measurement after 5 windows at the minimum. The two intervals have no default; its
//! documentation's example has 60 s for minRTT and 0.1 s for the update.

use super::limited::{Limit, Limited, Sample};
use super::statistics::quantile;
use crate::random::Stream;
use crate::time::Nanos;

const LIMIT_MIN: u32 = 3;
const LIMIT_MAX: f64 = 1_000.0;
const BUFFER: f64 = 0.25;
const JITTER: f64 = 0.15;
const REQUESTS: usize = 50;
const MEASURE_EVERY: Nanos = Nanos::from_secs(60);
const UPDATE_EVERY: Nanos = Nanos::from_millis(100);
const AT_MINIMUM_MAX: u32 = 5;

#[derive(Debug)]
pub(super) struct Envoy {
    limit: u32,
    samples: Vec<f64>,
    unloaded: f64,
    /// The limit to come back to, while the response time without load is being measured.
    measuring: Option<u32>,
    measuring_since: Nanos,
    measure_at: Nanos,
    at_minimum: u32,
    chance: Stream,
}

pub(super) fn envoy(seed: u64) -> Limited<Envoy> {
    Limited::new(Envoy {
        limit: LIMIT_MIN,
        samples: Vec::new(),
        unloaded: 0.0,
        measuring: Some(LIMIT_MIN),
        measuring_since: Nanos::ZERO,
        measure_at: Nanos::MAX,
        at_minimum: 0,
        chance: Stream::new(seed, 0xe4707),
    })
}

impl Envoy {
    fn begin_measuring(&mut self, now: Nanos) {
        self.measuring = Some(self.limit);
        self.measuring_since = now;
        self.limit = LIMIT_MIN;
        self.samples.clear();
    }

    fn end_measuring(&mut self, back_to: u32, now: Nanos) {
        self.unloaded = quantile(&mut self.samples, 0.5);
        self.samples.clear();
        self.measuring = None;
        self.set(back_to);
        let jitter = MEASURE_EVERY.as_secs_f64() * JITTER * self.chance.share();
        self.measure_at = now + MEASURE_EVERY + Nanos::from_secs_f64(jitter);
    }

    fn next_limit(&mut self) -> u32 {
        let median = quantile(&mut self.samples, 0.5);
        self.samples.clear();
        let gradient = (self.unloaded * (1.0 + BUFFER) / median).clamp(0.5, 2.0);
        let limit = f64::from(self.limit) * gradient;
        ((limit + limit.sqrt()).min(LIMIT_MAX) as u32).max(LIMIT_MIN)
    }

    fn set(&mut self, limit: u32) {
        let still = self.limit == LIMIT_MIN && limit == LIMIT_MIN;
        self.at_minimum = if still { self.at_minimum + 1 } else { 0 };
        self.limit = limit;
        if self.at_minimum >= AT_MINIMUM_MAX {
            self.measure_at = Nanos::ZERO;
        }
    }
}

impl Limit for Envoy {
    fn limit(&self) -> u32 {
        self.limit
    }

    fn sample(&mut self, sample: &Sample) {
        if sample.dropped || sample.started < self.measuring_since {
            return;
        }
        self.samples.push(sample.rtt());
        if let Some(back_to) = self.measuring
            && self.samples.len() >= REQUESTS
        {
            self.end_measuring(back_to, sample.now);
        }
    }

    fn tick(&mut self, now: Nanos) {
        if self.measuring.is_some() {
            return;
        }
        if now >= self.measure_at {
            self.begin_measuring(now);
        } else if !self.samples.is_empty() {
            let limit = self.next_limit();
            self.set(limit);
        }
    }

    fn tick_interval(&self) -> Option<Nanos> {
        Some(UPDATE_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(law: &mut Envoy, count: usize, started: Nanos, rtt: Nanos) {
        for _ in 0..count {
            law.sample(&Sample { now: started + rtt, started, inflight_at_start: 3, dropped: false });
        }
    }

    #[test]
    fn it_starts_at_three_until_fifty_requests_were_seen() {
        let mut law = envoy(1).law;
        feed(&mut law, 49, Nanos(1), Nanos::from_millis(10));
        law.tick(Nanos::SECOND);
        assert!(law.measuring.is_some() && law.limit() == 3);
        feed(&mut law, 1, Nanos(1), Nanos::from_millis(10));
        assert!(law.measuring.is_none());
        feed(&mut law, 10, Nanos(2), Nanos::from_millis(10));
        law.tick(Nanos::SECOND);
        // gradient 1.25: 3.75 + 1.94
        assert_eq!(law.limit(), 5);
    }

    #[test]
    fn it_settles_where_the_gradient_and_the_root_balance() {
        let mut law = envoy(1).law;
        feed(&mut law, 50, Nanos(1), Nanos::from_millis(10));
        law.limit = 100;
        // 1.25 / 1.389 = 0.9: 90 + 9.5
        feed(&mut law, 10, Nanos(2), Nanos::from_millis_f64(13.89));
        law.tick(Nanos::SECOND);
        assert_eq!(law.limit(), 99, "computed in overload.md a.1: it tolerates 1.39 at 100");
    }

    #[test]
    fn a_measurement_pins_it_to_three_and_gives_it_back() {
        let mut law = envoy(1).law;
        feed(&mut law, 50, Nanos(1), Nanos::from_millis(10));
        law.limit = 80;
        law.tick(Nanos::from_secs(100));
        assert_eq!(law.limit(), 3);
        feed(&mut law, 50, Nanos::from_secs(100), Nanos::from_millis(12));
        assert_eq!(law.limit(), 80);
    }
}
