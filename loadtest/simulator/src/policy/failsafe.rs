//! failsafe-go's adaptive limiter with its prioritiser: Vegas' thresholds, vetoed by the correlation of concurrency and
//! throughput.
//!
//! Source: failsafe-go 5759a5e, `adaptivelimiter.go`, `queueinglimiter.go` and its prioritiser, with their defaults: limits 1 to 200 from 20,
//! windows of 1 s and 50 samples, p90 through a median and an average of 5, baseline over 10 windows, correlations over
//! 50, at most 5 times the concurrency seen. Queueing up to 2 to 3 limits; while the queue is in between, the rate of
//! rejection rises from 0 to 1, and whoever's priority is below that quantile of the last 1000 is rejected. The
//! calibration interval is its caller's; its examples have 500 ms.

use std::collections::VecDeque;

use super::limited::Sample;
use super::statistics::{Average, Pairs, quantile};
use super::{Arrival, Decision, Departure, Effects, Policy, Refusal, Signals};
use crate::random::Stream;
use crate::time::Nanos;

const INITIAL: f64 = 20.0;
const LIMIT_MAX: f64 = 200.0;
const WINDOW: Nanos = Nanos::SECOND;
const WINDOW_MAX: Nanos = Nanos::from_secs(30);
const SAMPLES_MIN: usize = 50;
const INFLIGHT_FACTOR: f64 = 5.0;
const CALIBRATE_EVERY: Nanos = Nanos::from_millis(500);
const LEVELS_KEPT: usize = 1_000;

#[derive(Debug)]
pub(super) struct Failsafe {
    law: Law,
    running: u32,
    queue: VecDeque<(u32, Nanos)>,
    levels: VecDeque<f64>,
    /// Levels above it are rejected; ours count downwards.
    threshold: f64,
    chance: Stream,
}

impl Failsafe {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            law: Law::new(),
            running: 0,
            queue: VecDeque::new(),
            levels: VecDeque::new(),
            threshold: f64::MAX,
            chance: Stream::new(seed, 0xfa115),
        }
    }

    /// 0 up to twice the limit, 1 from thrice.
    fn rejection_rate(&self) -> f64 {
        let limit = self.law.limit.floor();
        ((self.queue.len() as f64 - 2.0 * limit) / limit.max(1.0)).clamp(0.0, 1.0)
    }

    fn refill(&mut self, now: Nanos, effects: &mut Effects) {
        while self.running < self.law.limit as u32 {
            let Some((call, deadline)) = self.queue.pop_front() else { return };
            if deadline <= now {
                effects.refuse.push((call, Refusal::default()));
                continue;
            }
            self.running += 1;
            effects.run.push(call);
        }
    }
}

impl Policy for Failsafe {
    fn arrive(&mut self, arrival: &Arrival, _now: Nanos, _effects: &mut Effects) -> Decision {
        // Within a priority, the order is drawn for each call.
        let level = f64::from(arrival.tier) + self.chance.share();
        if self.levels.len() == LEVELS_KEPT {
            self.levels.pop_front();
        }
        self.levels.push_back(level);
        if self.running < self.law.limit as u32 {
            self.running += 1;
            return Decision::Run;
        }
        if level > self.threshold || self.rejection_rate() >= 1.0 {
            return Decision::Refuse(Refusal::default());
        }
        self.queue.push_back((arrival.call, arrival.deadline));
        Decision::Wait
    }

    fn depart(&mut self, departure: &Departure, now: Nanos, effects: &mut Effects) {
        self.law.full = !self.queue.is_empty() || self.running >= self.law.limit as u32;
        self.running = self.running.saturating_sub(1);
        if let Some(sample) = Sample::of(departure, now) {
            self.law.sample(&sample);
        }
        self.refill(now, effects);
    }

    fn tick(&mut self, _signals: &Signals, _now: Nanos, _effects: &mut Effects) {
        let rate = self.rejection_rate();
        self.threshold = if rate == 0.0 {
            f64::MAX
        } else {
            let mut levels: Vec<f64> = self.levels.iter().copied().collect();
            quantile(&mut levels, 1.0 - rate)
        };
    }

    fn tick_interval(&self) -> Option<Nanos> {
        Some(CALIBRATE_EVERY)
    }
}

#[derive(Debug)]
struct Law {
    limit: f64,
    full: bool,
    samples: Vec<f64>,
    inflight_max: u32,
    rtt_min: f64,
    update_at: Nanos,
    median: VecDeque<f64>,
    smoothed: Average,
    baseline: Average,
    throughput: Pairs,
    rtts: Pairs,
}

impl Law {
    fn new() -> Self {
        Self {
            limit: INITIAL,
            full: false,
            samples: Vec::new(),
            inflight_max: 0,
            rtt_min: f64::MAX,
            update_at: Nanos::ZERO,
            median: VecDeque::new(),
            smoothed: Average::new(5, 10),
            baseline: Average::new(10, 10),
            throughput: Pairs::new(50, 10),
            rtts: Pairs::new(50, 10),
        }
    }

    fn sample(&mut self, sample: &Sample) {
        if !sample.dropped {
            self.samples.push(sample.rtt());
            self.rtt_min = self.rtt_min.min(sample.rtt());
            self.inflight_max = self.inflight_max.max(sample.inflight_at_start);
        }
        if sample.now <= self.update_at || self.samples.len() < SAMPLES_MIN {
            return;
        }
        if self.median.len() == 5 {
            self.median.pop_front();
        }
        self.median.push_back(quantile(&mut self.samples, 0.9));
        let mut recent: Vec<f64> = self.median.iter().copied().collect();
        let smoothed = self.smoothed.add(quantile(&mut recent, 0.5));
        self.update(smoothed, self.inflight_max);
        let window = Nanos::from_secs_f64(2.0 * self.rtt_min).max(WINDOW).min(WINDOW_MAX);
        self.update_at = sample.now + window;
        self.samples.clear();
        (self.inflight_max, self.rtt_min) = (0, f64::MAX);
    }

    fn update(&mut self, recent: f64, inflight: u32) {
        let inflight = f64::from(inflight);
        let baseline = self.baseline.add(recent);
        let step = self.limit.max(1.0).log10().floor().max(1.0);
        let queued = (self.limit * (1.0 - baseline / recent)).ceil();
        let throughput = self.throughput.add(inflight, inflight / recent);
        let rtt = self.rtts.add(inflight, recent).correlation;
        let stuck = throughput.correlation < 0.0
            || (throughput.correlation < 0.3 && rtt > 0.5)
            || (throughput.variation < 0.2 && rtt > 0.5);
        let mut limit = if queued > 6.0 * step || (self.full && stuck) {
            self.limit - step
        } else if queued < 3.0 * step {
            self.limit + step
        } else {
            self.limit
        };
        if limit > inflight * INFLIGHT_FACTOR {
            limit = self.limit - step;
        }
        self.limit = limit.clamp(1.0, LIMIT_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::arrival;

    #[test]
    fn it_grows_while_times_are_steady_and_shrinks_when_they_rise() {
        let mut law = Law::new();
        law.update(0.010, 20);
        assert_eq!(law.limit, 21.0);
        for _ in 0..20 {
            law.update(0.010, 60);
        }
        let before = law.limit;
        law.update(0.040, 60);
        assert_eq!(law.limit, before - 1.0, "far above the baseline");
    }

    #[test]
    fn throughput_that_falls_while_concurrency_rises_is_a_veto() {
        let mut law = Law::new();
        law.full = true;
        for k in 0..30 {
            // Twice the concurrency takes four times as long.
            let inflight = 20 + k % 10;
            law.update(0.010 * (f64::from(inflight) / 20.0).powi(2), inflight);
        }
        assert!(law.limit < 35.0, "{}", law.limit);
    }

    #[test]
    fn a_limit_that_nobody_uses_shrinks() {
        let mut law = Law::new();
        law.update(0.010, 2);
        assert_eq!(law.limit, 19.0);
    }

    #[test]
    fn a_queue_of_thrice_the_limit_rejects_all() {
        let mut policy = Failsafe::new(1);
        let mut effects = Effects::default();
        let mut ask = |policy: &mut Failsafe, call| {
            policy.arrive(&arrival(call, 500, Nanos::ZERO), Nanos::ZERO, &mut effects)
        };
        let waiting = (0..200).filter(|call| ask(&mut policy, *call) == Decision::Wait).count();
        assert_eq!(waiting, 60);
        assert!(policy.rejection_rate() >= 1.0);
    }
}
