//! Profiles of one curve. `base` is one time the base rate.

use std::f64::consts::PI;
use std::time::Duration;

use super::Values;
use crate::curve::{Curve, CurveError};

type Made = Result<Curve, CurveError>;

/// Pieces of a smooth curve: enough that its count is right to a thousandth.
const PIECES: u32 = 96;

pub(super) fn steady(values: &Values<'_>, base: f64) -> Made {
    Curve::constant(values.number("at") * base, values.time("for"))
}

pub(super) fn ramp(values: &Values<'_>, base: f64) -> Made {
    Curve::default().then_ramp(values.number("from") * base, values.number("to") * base, values.time("for"))
}

pub(super) fn step(values: &Values<'_>, base: f64) -> Made {
    Curve::constant(base, values.time("before"))?
        .then_step(values.number("to") * base, values.time("hold"))?
        .then_step(base, values.time("after"))
}

pub(super) fn staircase(values: &Values<'_>, base: f64) -> Made {
    let (steps, to) = (values.number("steps"), values.number("to"));
    (0..steps as u32).try_fold(Curve::default(), |curve, step| {
        let share = f64::from(step) / (steps - 1.0).max(1.0);
        curve.then_step((1.0 + (to - 1.0) * share) * base, values.time("each"))
    })
}

pub(super) fn spike(values: &Values<'_>, base: f64) -> Made {
    let (to, rise) = (values.number("to") * base, values.time("rise"));
    Curve::constant(base, values.time("before"))?
        .then_ramp(base, to, rise)?
        .then_step(to, values.time("hold"))?
        .then_ramp(to, base, rise)?
        .then_step(base, values.time("after"))
}

/// A smooth step of the count, from none to all; so the rate is a hill.
pub(super) fn heaviside(values: &Values<'_>, base: f64) -> Made {
    let hill = smooth(values.time("for"), |share| 1.0 - (2.0 * PI * share).cos())?;
    let people = values.number("people");
    // The top of the hill is 2.
    let factor = if people > 0.0 { people / hill.total() } else { values.number("to") * base / 2.0 };
    hill.times(factor)
}

pub(super) fn day_and_night(values: &Values<'_>) -> Made {
    let (amplitude, days) = (values.number("amplitude"), values.number("days"));
    let length = Duration::from_secs(86_400).mul_f64(days);
    // Lowest at midnight.
    smooth(length, |share| 1.0 - amplitude * (2.0 * PI * share * days).cos())
}

/// The minutes of a day, most of them quiet and some of them many times the mean.
pub(super) fn azure_burst(values: &Values<'_>, base: f64) -> Made {
    const MINUTES: u64 = 1_440;
    const SIGMA: f64 = 1.1;
    let rate = |minute: u64| {
        // The sum of twelve uniform numbers less six has nearly the standard normal distribution.
        let uniform = |k: u64| hash(minute * 12 + k) as f64 / u64::MAX as f64;
        let normal = (0..12).map(uniform).sum::<f64>() - 6.0;
        (SIGMA * normal).exp()
    };
    let mean = (0..MINUTES).map(rate).sum::<f64>() / MINUTES as f64;
    let day = (0..MINUTES).try_fold(Curve::default(), |curve, minute| {
        curve.then_step(rate(minute) / mean * base, Duration::from_secs(60))
    })?;
    day.within(values.time("for"))
}

/// A rate over shares of the time, in straight pieces.
pub(super) fn smooth(length: Duration, rate: impl Fn(f64) -> f64) -> Made {
    let piece = length / PIECES;
    let at = |n: u32| rate(f64::from(n) / f64::from(PIECES)).max(0.0);
    (0..PIECES).try_fold(Curve::default(), |curve, n| curve.then_ramp(at(n), at(n + 1), piece))
}

/// The output function of SplitMix64: the same day on every machine.
fn hash(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
