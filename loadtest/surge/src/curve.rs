//! A rate of arrivals over the time of a run, with its exact integral and the inverse of that integral.
//!
//! A curve is a list of segments, each with a rate that is constant or changes linearly. Both have a closed-form
//! integral, so the k-th arrival of a schedule is computed and never accumulated from rounded gaps.

mod algebra;
mod hourly;
mod signal_2021;

use std::time::Duration;

pub use hourly::{Evidence, Hour, HourlyError, Hours, Replay};
pub use signal_2021::{Column, SIGNAL_2021, signal_2021};

#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum CurveError {
    #[error("a rate of {0} per second cannot be offered: it must be a finite number of at least 0")]
    Rate(f64),
    #[error("a segment of a curve must take some time")]
    Empty,
}

/// Arrivals per second over a run that starts at zero. Outside of its duration the rate is zero.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    segments: Vec<Segment>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    from_s: f64,
    length_s: f64,
    rate_from: f64,
    rate_to: f64,
    /// Arrivals before this segment.
    count_before: f64,
}

impl Curve {
    pub fn constant(per_s: f64, duration: Duration) -> Result<Self, CurveError> {
        Self::default().then_step(per_s, duration)
    }

    /// Appends a plateau.
    pub fn then_step(self, per_s: f64, duration: Duration) -> Result<Self, CurveError> {
        self.then_ramp(per_s, per_s, duration)
    }

    /// Appends a linear change from one rate to another.
    pub fn then_ramp(
        mut self,
        from_per_s: f64,
        to_per_s: f64,
        duration: Duration,
    ) -> Result<Self, CurveError> {
        for rate in [from_per_s, to_per_s] {
            if !rate.is_finite() || rate < 0.0 {
                return Err(CurveError::Rate(rate));
            }
        }
        if duration.is_zero() {
            return Err(CurveError::Empty);
        }
        let (from_s, count_before) = self.end();
        let length_s = duration.as_secs_f64();
        self.segments.push(Segment {
            from_s,
            length_s,
            rate_from: from_per_s,
            rate_to: to_per_s,
            count_before,
        });
        Ok(self)
    }

    /// Plays `next` after this curve.
    pub fn then(mut self, next: &Curve) -> Self {
        for segment in &next.segments {
            let (from_s, count_before) = self.end();
            self.segments.push(Segment { from_s, count_before, ..*segment });
        }
        self
    }

    /// The same curve, starting after a pause.
    pub fn after(&self, pause: Duration) -> Self {
        if pause.is_zero() {
            return self.clone();
        }
        let quiet = Segment {
            from_s: 0.0,
            length_s: pause.as_secs_f64(),
            rate_from: 0.0,
            rate_to: 0.0,
            count_before: 0.0,
        };
        Self { segments: vec![quiet] }.then(self)
    }

    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.end().0)
    }

    /// Arrivals over the whole curve.
    pub fn total(&self) -> f64 {
        self.end().1
    }

    /// The highest rate, in arrivals per second.
    pub fn peak_per_s(&self) -> f64 {
        self.segments.iter().map(|s| s.rate_from.max(s.rate_to)).fold(0.0, f64::max)
    }

    /// The highest mean rate over a whole window of this length, as a clock that ticks in such windows sees it. A
    /// peak shorter than the window is lower here than in [`peak_per_s`](Self::peak_per_s).
    pub fn highest_mean_per_s(&self, window: Duration) -> f64 {
        let mut highest = 0.0_f64;
        let mut from = Duration::ZERO;
        while !window.is_zero() && from < self.duration() {
            highest = highest.max(self.count_between(from, from + window) / window.as_secs_f64());
            from += window;
        }
        highest
    }

    pub fn rate_at(&self, at: Duration) -> f64 {
        let at_s = at.as_secs_f64();
        let after = self.segments.partition_point(|s| s.from_s <= at_s);
        let Some(segment) = after.checked_sub(1).and_then(|i| self.segments.get(i)) else {
            return 0.0;
        };
        let x = at_s - segment.from_s;
        if x >= segment.length_s { 0.0 } else { segment.rate_after(x) }
    }

    /// Arrivals from the start until `at`: the integral of the rate.
    pub fn count_until(&self, at: Duration) -> f64 {
        let at_s = at.as_secs_f64();
        let after = self.segments.partition_point(|s| s.from_s <= at_s);
        let Some(segment) = after.checked_sub(1).and_then(|i| self.segments.get(i)) else {
            return 0.0;
        };
        segment.count_before + segment.count_after((at_s - segment.from_s).min(segment.length_s))
    }

    /// Arrivals within `[from, to)`.
    pub fn count_between(&self, from: Duration, to: Duration) -> f64 {
        self.count_until(to) - self.count_until(from)
    }

    /// The earliest time at which `count` arrivals have happened; `None` when the curve never gets there.
    pub fn time_of(&self, count: f64) -> Option<Duration> {
        if !(0.0..=self.total()).contains(&count) {
            return None;
        }
        let reached = self.segments.partition_point(|s| s.count_before + s.count() < count);
        let segment = self.segments.get(reached)?;
        Some(Duration::from_secs_f64(segment.from_s + segment.time_of(count - segment.count_before)))
    }

    fn end(&self) -> (f64, f64) {
        self.segments.last().map_or((0.0, 0.0), |s| (s.from_s + s.length_s, s.count_before + s.count()))
    }
}

impl Segment {
    fn slope(&self) -> f64 {
        (self.rate_to - self.rate_from) / self.length_s
    }

    fn rate_after(&self, x: f64) -> f64 {
        self.rate_from + self.slope() * x
    }

    fn count_after(&self, x: f64) -> f64 {
        x * (self.rate_from + self.rate_after(x)) / 2.0
    }

    fn count(&self) -> f64 {
        self.length_s * (self.rate_from + self.rate_to) / 2.0
    }

    /// Solves `rate_from * x + slope * x² / 2 = count` for x. This form of the quadratic formula has no
    /// cancellation near a slope of zero.
    fn time_of(&self, count: f64) -> f64 {
        if count <= 0.0 {
            return 0.0;
        }
        let root = (self.rate_from.powi(2) + 2.0 * self.slope() * count).max(0.0).sqrt();
        (2.0 * count / (self.rate_from + root)).min(self.length_s)
    }
}

#[cfg(test)]
pub(crate) use tests::any_curve;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn a_ramp_integrates_to_its_triangle() {
        let curve = Curve::default().then_ramp(0.0, 100.0, seconds(10.0)).unwrap();
        assert_eq!(curve.total(), 500.0);
        assert_eq!(curve.count_until(seconds(5.0)), 125.0);
        assert_eq!(curve.rate_at(seconds(5.0)), 50.0);
        assert_eq!(curve.time_of(125.0), Some(seconds(5.0)));
    }

    #[test]
    fn a_silence_is_skipped_by_the_inverse() {
        let burst = Curve::constant(10.0, seconds(1.0)).unwrap();
        let curve = burst.clone().then(&burst.after(seconds(3.0)));
        assert_eq!(curve.time_of(10.0), Some(seconds(1.0)));
        assert!(curve.time_of(10.001).unwrap() > seconds(4.0));
        assert_eq!(curve.time_of(20.001), None);
        assert_eq!(curve.rate_at(seconds(2.0)), 0.0);
        assert_eq!(curve.duration(), seconds(5.0));
    }

    #[test]
    fn a_peak_shorter_than_a_second_is_lower_in_seconds() {
        let curve = Curve::constant(100.0, seconds(1.25)).unwrap().then_step(500.0, seconds(0.25)).unwrap();
        assert_eq!(curve.peak_per_s(), 500.0);
        assert_eq!(curve.highest_mean_per_s(seconds(1.0)), 150.0);
    }

    #[test]
    fn impossible_rates_are_refused() {
        assert_eq!(Curve::constant(-1.0, seconds(1.0)).unwrap_err(), CurveError::Rate(-1.0));
        assert!(Curve::constant(f64::NAN, seconds(1.0)).is_err());
        assert_eq!(Curve::constant(1.0, Duration::ZERO).unwrap_err(), CurveError::Empty);
    }

    prop_compose! {
        pub(crate) fn any_curve()(
            segments in prop::collection::vec((0.0..500.0f64, 0.0..500.0f64, 1u64..5_000), 1..8)
        ) -> Curve {
            segments.into_iter().fold(Curve::default(), |curve, (from, to, ms)| {
                curve.then_ramp(from, to, Duration::from_millis(ms)).unwrap()
            })
        }
    }

    proptest! {
        #[test]
        fn the_inverse_undoes_the_integral(curve in any_curve(), share in 0.0..1.0f64) {
            let count = curve.total() * share;
            let at = curve.time_of(count).unwrap();
            prop_assert!((curve.count_until(at) - count).abs() < 1e-4, "{} {count}", curve.count_until(at));
        }
    }
}
