//! Netflix' Gradient2: the limit follows the ratio of a long average of the response time to a short one.
//!
//! Source: concurrency-limits 78a74b9, `Gradient2Limit.java`, with its defaults: initial and least limit 20, most 200,
//! 4 calls of queue, tolerance 1.5, long window 600 samples with 10 to warm up, smoothing 0.2; left alone while fewer
//! than half of the limit run. Under a `WindowedLimit`, as its README advises.

use super::limited::{Limit, Limited, Sample, Window};
use super::statistics::Average;

const LIMIT_MIN: f64 = 20.0;
const LIMIT_MAX: f64 = 200.0;
const QUEUE: f64 = 4.0;
const TOLERANCE: f64 = 1.5;
const SMOOTHING: f64 = 0.2;

#[derive(Debug)]
pub(super) struct Gradient2 {
    limit: f64,
    long: Average,
    window: Window,
}

pub(super) fn gradient2() -> Limited<Gradient2> {
    Limited::new(Gradient2 { limit: LIMIT_MIN, long: Average::new(600, 10), window: Window::default() })
}

impl Gradient2 {
    fn update(&mut self, short: f64, inflight: u32) {
        let long = self.long.add(short);
        // A long average that is twice the present drains faster, so that a bad hour is forgotten.
        if long / short > 2.0 {
            self.long.scale(0.95);
        }
        if f64::from(inflight) < self.limit / 2.0 {
            return;
        }
        let gradient = (TOLERANCE * long / short).clamp(0.5, 1.0);
        let limit = self.limit * gradient + QUEUE;
        self.limit = (self.limit * (1.0 - SMOOTHING) + limit * SMOOTHING).clamp(LIMIT_MIN, LIMIT_MAX);
    }
}

impl Limit for Gradient2 {
    fn limit(&self) -> u32 {
        self.limit as u32
    }

    fn sample(&mut self, sample: &Sample) {
        if let Some(mean) = self.window.add(sample) {
            self.update(mean.rtt, mean.inflight_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_time_lets_the_limit_grow_for_ever() {
        let mut law = gradient2().law;
        for _ in 0..400 {
            law.update(0.010, 200);
        }
        assert_eq!(law.limit(), 200, "the hole that issue 137 of the project names");
    }

    #[test]
    fn a_time_that_doubles_and_more_halves_it() {
        let mut law = gradient2().law;
        for _ in 0..100 {
            law.update(0.010, 200);
        }
        let before = law.limit;
        law.update(0.100, 200);
        // gradient 0.5: L' = 0.8 L + 0.2 (0.5 L + 4)
        assert!((law.limit - (0.9 * before + 0.8)).abs() < 1e-9, "{before} {}", law.limit);
    }

    #[test]
    fn an_idle_server_learns_nothing() {
        let mut law = gradient2().law;
        law.update(0.010, 9);
        assert_eq!(law.limit, 20.0);
    }
}
