//! Curves made of curves.

use std::time::Duration;

use super::{Curve, CurveError, Segment};

impl Curve {
    /// `factor` times as many at every moment.
    ///
    /// # Errors
    ///
    /// When the factor is no rate's: negative, infinite or no number.
    pub fn times(&self, factor: f64) -> Result<Self, CurveError> {
        if !factor.is_finite() || factor < 0.0 {
            return Err(CurveError::Rate(factor));
        }
        let scale = |segment: &Segment| Segment {
            rate_from: segment.rate_from * factor,
            rate_to: segment.rate_to * factor,
            ..*segment
        };
        Ok(Self::of(self.segments.iter().map(scale)))
    }

    /// The same rates in another time: what took an hour takes a minute, with a sixtieth of the arrivals.
    ///
    /// # Errors
    ///
    /// When there is a curve and the time is none.
    pub fn within(&self, duration: Duration) -> Result<Self, CurveError> {
        if self.segments.is_empty() {
            return Ok(Self::default());
        }
        if duration.is_zero() {
            return Err(CurveError::Empty);
        }
        let factor = duration.as_secs_f64() / self.end().0;
        let squeeze = |segment: &Segment| Segment { length_s: segment.length_s * factor, ..*segment };
        Ok(Self::of(self.segments.iter().map(squeeze)))
    }

    /// Both at once: the rates of the sum are the sums of the rates, and it lasts as long as the longer one.
    pub fn plus(&self, other: &Curve) -> Self {
        let mut times: Vec<f64> = [self, other].iter().flat_map(|curve| curve.breaks()).collect();
        times.sort_by(f64::total_cmp);
        times.dedup();
        // A sliver between two ends that should be one has next to no arrivals, and no slope that can be computed.
        let pieces = times.windows(2).filter(|pair| pair[1] - pair[0] > SLIVER_S);
        Self::of(pieces.map(|pair| {
            let (from, to) = (pair[0], pair[1]);
            let middle = f64::midpoint(from, to);
            let rate = |at| self.line_around(middle, at) + other.line_around(middle, at);
            Segment {
                from_s: from,
                length_s: to - from,
                rate_from: rate(from),
                rate_to: rate(to),
                count_before: 0.0,
            }
        }))
    }

    /// With silence at its end, so that it lasts that long.
    pub fn lasting(&self, duration: Duration) -> Self {
        let missing = duration.as_secs_f64() - self.end().0;
        if missing <= SLIVER_S {
            return self.clone();
        }
        let silence =
            Segment { from_s: 0.0, length_s: missing, rate_from: 0.0, rate_to: 0.0, count_before: 0.0 };
        self.clone().then(&Self { segments: vec![silence] })
    }

    /// Of segments that follow each other; their starts and counts are computed.
    fn of(segments: impl Iterator<Item = Segment>) -> Self {
        let mut curve = Self::default();
        for segment in segments {
            let (from_s, count_before) = curve.end();
            curve.segments.push(Segment { from_s, count_before, ..segment });
        }
        curve
    }

    fn breaks(&self) -> impl Iterator<Item = f64> {
        self.segments.iter().map(|s| s.from_s).chain([self.end().0])
    }

    /// The rate at `at` of the segment that holds `middle`, drawn on beyond its ends; 0 where there is none.
    fn line_around(&self, middle: f64, at: f64) -> f64 {
        let after = self.segments.partition_point(|s| s.from_s <= middle);
        let segment = after.checked_sub(1).map(|index| self.segments[index]);
        let segment = segment.filter(|segment| middle < segment.from_s + segment.length_s);
        segment.map_or(0.0, |segment| segment.rate_after(at - segment.from_s).max(0.0))
    }
}

/// Shorter than a nanosecond, which is as fine as a duration is.
const SLIVER_S: f64 = 5e-10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::curve::any_curve;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-6 * (1.0 + a.abs().max(b.abs()))
    }

    proptest! {
        #[test]
        fn totals_follow_the_laws_of_arithmetic(a in any_curve(), b in any_curve(), k in 0.0..20.0f64) {
            prop_assert!(near(a.clone().then(&b).total(), a.total() + b.total()));
            prop_assert!(near(a.plus(&b).total(), a.total() + b.total()));
            prop_assert!(near(a.times(k).unwrap().total(), a.total() * k));
            let half = a.duration() / 2;
            prop_assert!((a.within(half).unwrap().total() - a.total() / 2.0).abs() < 1e-3);
            let longer = a.lasting(a.duration() * 2);
            prop_assert!(near(longer.total(), a.total()));
            prop_assert!((longer.duration().as_secs_f64() - 2.0 * a.duration().as_secs_f64()).abs() < 1e-6);
        }

        #[test]
        fn a_sum_has_the_sum_of_the_counts_at_every_time(a in any_curve(), b in any_curve(), share in 0.0..1.0f64) {
            let sum = a.plus(&b);
            prop_assert!((sum.duration().as_secs_f64() - a.duration().max(b.duration()).as_secs_f64()).abs() < 1e-6);
            let at = sum.duration().mul_f64(share);
            prop_assert!(near(sum.count_until(at), a.count_until(at) + b.count_until(at)));
            prop_assert!(near(sum.count_until(at), b.plus(&a).count_until(at)));
        }
    }

    #[test]
    fn what_is_no_factor_and_no_time_is_refused() {
        let curve = Curve::constant(1.0, Duration::from_secs(1)).unwrap();
        assert_eq!(curve.times(-1.0).unwrap_err(), CurveError::Rate(-1.0));
        assert!(curve.times(f64::INFINITY).is_err());
        assert_eq!(curve.within(Duration::ZERO).unwrap_err(), CurveError::Empty);
        assert_eq!(Curve::default().within(Duration::ZERO).unwrap().total(), 0.0);
    }
}
