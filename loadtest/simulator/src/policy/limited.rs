//! What all limiters of concurrency have in common: whoever comes while `limit` calls run is refused. They differ in
//! how they move the limit.

use std::fmt::Debug;

use super::{Arrival, Decision, Departure, Effects, Ending, Policy, Refusal, Signals};
use crate::time::Nanos;

pub(super) trait Limit: Debug {
    fn limit(&self) -> u32;

    fn sample(&mut self, sample: &Sample);

    fn tick(&mut self, _now: Nanos) {}

    fn tick_interval(&self) -> Option<Nanos> {
        None
    }
}

/// A call that is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) now: Nanos,
    pub(super) started: Nanos,
    pub(super) inflight_at_start: u32,
    /// It ended after its deadline, or was refused further down: its duration says nothing.
    pub(super) dropped: bool,
}

impl Sample {
    /// Seconds.
    pub(super) fn rtt(&self) -> f64 {
        self.now.since(self.started).as_secs_f64().max(1e-6)
    }

    pub(super) fn of(departure: &Departure, now: Nanos) -> Option<Self> {
        Some(Self {
            now,
            started: departure.started,
            inflight_at_start: departure.inflight_at_start,
            dropped: match departure.ending {
                Ending::Served => false,
                Ending::Late | Ending::Refused => true,
                Ending::Failed => return None,
            },
        })
    }
}

#[derive(Debug)]
pub(super) struct Limited<L> {
    pub(super) law: L,
    inflight: u32,
}

impl<L: Limit> Limited<L> {
    pub(super) fn new(law: L) -> Self {
        Self { law, inflight: 0 }
    }
}

impl<L: Limit> Policy for Limited<L> {
    fn arrive(&mut self, _arrival: &Arrival, _now: Nanos, _effects: &mut Effects) -> Decision {
        if self.inflight >= self.law.limit() {
            return Decision::Refuse(Refusal::default());
        }
        self.inflight += 1;
        Decision::Run
    }

    fn depart(&mut self, departure: &Departure, now: Nanos, _effects: &mut Effects) {
        self.inflight = self.inflight.saturating_sub(1);
        if let Some(sample) = Sample::of(departure, now) {
            self.law.sample(&sample);
        }
    }

    fn tick(&mut self, _signals: &Signals, now: Nanos, _effects: &mut Effects) {
        self.law.tick(now);
    }

    fn tick_interval(&self) -> Option<Nanos> {
        self.law.tick_interval()
    }
}

/// Netflix' `WindowedLimit`: a law sees the mean of a second and not each sample.
///
/// Source: concurrency-limits 78a74b9, `WindowedLimit.java`: windows of 1 s and at least 10 samples; a window is
/// "dropped" when one of its samples is.
#[derive(Debug, Default)]
pub(super) struct Window {
    ends: Nanos,
    sum: f64,
    count: u32,
    inflight_max: u32,
    dropped: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct WindowMean {
    /// Seconds.
    pub(super) rtt: f64,
    pub(super) inflight_max: u32,
    pub(super) dropped: bool,
}

impl Window {
    const SPAN: Nanos = Nanos::SECOND;
    const SAMPLES_MIN: u32 = 10;

    /// The window that this sample completes.
    pub(super) fn add(&mut self, sample: &Sample) -> Option<WindowMean> {
        self.inflight_max = self.inflight_max.max(sample.inflight_at_start);
        if sample.dropped {
            self.dropped = true;
        } else {
            self.sum += sample.rtt();
            self.count += 1;
        }
        if sample.now < self.ends || self.count < Self::SAMPLES_MIN {
            return None;
        }
        let mean = WindowMean {
            rtt: self.sum / f64::from(self.count),
            inflight_max: self.inflight_max,
            dropped: self.dropped,
        };
        *self = Self { ends: sample.now + Self::SPAN, ..Self::default() };
        Some(mean)
    }
}
