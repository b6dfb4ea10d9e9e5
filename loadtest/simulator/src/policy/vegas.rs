//! Netflix' Vegas: the limit follows the number of calls that seem to wait, L (1 - rtt without load / rtt).
//!
//! Source: concurrency-limits 78a74b9, `VegasLimit.java`, with its defaults: initial 20, most 1000, alpha 3 log10 L,
//! beta 6 log10 L, threshold and steps log10 L, a new measurement without load every 30 L U(0.5, 1) samples. Under a
//! `WindowedLimit`, as its README advises: on single samples of a service time that varies, its minimum is an outlier and the
//! limit falls to 1.

use super::limited::{Limit, Limited, Sample, Window};
use crate::random::Stream;

const INITIAL: f64 = 20.0;
const LIMIT_MAX: f64 = 1_000.0;
const PROBE_MULTIPLIER: f64 = 30.0;

#[derive(Debug)]
pub(super) struct Vegas {
    limit: f64,
    /// Seconds; none before the first window.
    unloaded: Option<f64>,
    windows_since_probe: f64,
    jitter: f64,
    window: Window,
    chance: Stream,
}

pub(super) fn vegas(seed: u64) -> Limited<Vegas> {
    Limited::new(Vegas {
        limit: INITIAL,
        unloaded: None,
        windows_since_probe: 0.0,
        jitter: 1.0,
        window: Window::default(),
        chance: Stream::new(seed, 0x5e6a5),
    })
}

/// Java's `max(1, (int) log10(limit))`.
fn log10(limit: f64) -> f64 {
    limit.max(1.0).log10().floor().max(1.0)
}

impl Vegas {
    fn update(&mut self, rtt: f64, inflight: u32, dropped: bool) {
        self.windows_since_probe += 1.0;
        if PROBE_MULTIPLIER * self.jitter * self.limit <= self.windows_since_probe {
            self.jitter = 0.5 + 0.5 * self.chance.share();
            self.windows_since_probe = 0.0;
            self.unloaded = Some(rtt);
            return;
        }
        let unloaded = match self.unloaded {
            Some(unloaded) if unloaded <= rtt => unloaded,
            _ => {
                self.unloaded = Some(rtt);
                return;
            }
        };
        let step = log10(self.limit);
        let waiting = (self.limit * (1.0 - unloaded / rtt)).ceil();
        let (alpha, beta) = (3.0 * step, 6.0 * step);
        let limit = if dropped {
            self.limit - step
        } else if f64::from(inflight) * 2.0 < self.limit {
            return;
        } else if waiting <= step {
            self.limit + beta
        } else if waiting < alpha {
            self.limit + step
        } else if waiting > beta {
            self.limit - step
        } else {
            return;
        };
        self.limit = limit.clamp(1.0, LIMIT_MAX);
    }
}

impl Limit for Vegas {
    fn limit(&self) -> u32 {
        self.limit as u32
    }

    fn sample(&mut self, sample: &Sample) {
        if let Some(mean) = self.window.add(sample) {
            self.update(mean.rtt, mean.inflight_max, mean.dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_by_beta_while_nobody_waits_and_shrinks_by_a_step_when_many_do() {
        let mut law = vegas(1).law;
        law.update(0.010, 20, false);
        law.update(0.010, 20, false);
        assert_eq!(law.limit, 26.0, "beta is 6 log10 20 = 6");
        law.update(0.020, 20, false);
        assert_eq!(law.limit, 25.0, "13 wait, more than 6");
        law.update(0.012, 20, false);
        assert_eq!(law.limit, 25.0, "ceil(25/6) = 5 wait, between 3 and 6");
        law.update(0.010, 20, true);
        assert_eq!(law.limit, 24.0, "a drop");
        law.update(0.010, 11, false);
        assert_eq!(law.limit, 24.0, "fewer than half of the limit run");
    }
}
