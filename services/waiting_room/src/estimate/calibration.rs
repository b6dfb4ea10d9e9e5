//! How wide a range has to be: learnt, in the room itself, from what became of earlier ranges.
//!
//! A range is told as `[least x low, most x high]`, where `least` and `most` are what the wait would be if those ahead left as fast, or as slowly, as is
//! still possible. When a wait has ended, control knows by which factor each end was wrong. The new ends are quantiles of those factors:
//!
//! ```text
//! e_low, e_high = ln(waited / least), ln(waited / most)           of one wait that has ended
//! weight        = exp(-age / fades) / (1 + ln(wait / horizon)²)    recent ones, and those of waits about as long
//! low           = exp(the tail-quantile of e_low)                  by weight, with what was assumed at first as so many more
//! high          = exp(the (1 - tail)-quantile of e_high)
//! tail         += step x (1 / 10 - [the wait ended beyond that end])   one for each end
//! ```
//!
//! The first three lines are weighted conformal prediction (Barber, Candès, Ramdas and Tibshirani, *Conformal prediction beyond exchangeability*, 2023), the
//! last one is adaptive conformal inference (Gibbs and Candès, *Adaptive conformal inference under distribution shift*, 2021): quantiles of what was
//! seen would be too narrow, because those who are told at the same time share their fate, so the tail itself is adjusted until one wait in ten
//! ends before its range and one in ten after it, whatever the errors are like. An outcome moves it by three thousandths at most, so the range moves
//! slowly: nothing here widens and narrows by turns.
//!
//! Who has waited for longer than was likely is counted with what the wait has been so far, so that a room that comes to a halt is noticed before
//! its waits have ended.

use std::collections::VecDeque;
use std::time::Duration;

/// Waits, in seconds, for which there are factors; between them they are interpolated by the logarithm of the wait.
pub const HORIZONS: [f64; 4] = [30.0, 120.0, 480.0, 1_920.0];

/// By what the ends of a range are multiplied, at each of [`HORIZONS`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    pub low: [f64; 4],
    pub high: [f64; 4],
}

/// What was thought of a wait. Seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base {
    pub(super) likely: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Calibration {
    /// As if [`ASSUMED_COUNT`] waits had ended so.
    assumed: Factors,
    outcomes: VecDeque<(Duration, Outcome)>,
    early: Tail,
    late: Tail,
}

#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// ln of the wait that was likely.
    likely: f64,
    low: f64,
    high: f64,
}

/// Of the outcomes, how many may lie beyond an end.
#[derive(Clone, Copy, Debug)]
struct Tail(f64);

/// Outcomes fade to 1/e in a minute, and no longer count when they are a hundredth.
const FADES_IN: Duration = Duration::from_secs(60);
const FADED: f64 = 0.01;
const OUTCOMES_MAX: usize = 1_024;
/// Before anything is known: some per cent too short or too long for two minutes, and as the root of the wait for longer ones, in which more
/// changes.
const ASSUMED_LOW: [f64; 4] = [0.936, 0.936, 0.875, 0.765];
const ASSUMED_HIGH: [f64; 4] = [1.068, 1.068, 1.143, 1.307];
/// As if so many waits had ended so, and by so many points.
const ASSUMED_COUNT: f64 = 10.0;
const ASSUMED_POINTS: usize = 10;
/// Seconds. Nothing is told in finer steps.
const WAITED_LEAST: f64 = 1.0;
const FACTOR_MIN: f64 = 0.25;
const FACTOR_MAX: f64 = 4.0;
/// One in ten below, one in ten above.
const OUTSIDE: f64 = 0.1;
/// Less than that to begin with, because few outcomes are known then, and those share their fate.
const TAIL_START: f64 = 0.08;
const TAIL_STEP: f64 = 0.003;
/// So that one end is never the middle, and never the most extreme thing that was ever seen.
const TAIL_MIN: f64 = 0.01;
const TAIL_MAX: f64 = 0.25;

impl Factors {
    /// Of a room of which nothing is known yet.
    pub const ASSUMED: Self = Self { low: ASSUMED_LOW, high: ASSUMED_HIGH };

    /// For a wait of so many seconds.
    pub(super) fn at(&self, wait: f64) -> (f64, f64) {
        let wait = wait.clamp(HORIZONS[0], HORIZONS[3]);
        let above = HORIZONS.partition_point(|horizon| *horizon < wait).clamp(1, 3);
        let (from, to) = (HORIZONS[above - 1], HORIZONS[above]);
        let share = (wait / from).ln() / (to / from).ln();
        let between = |ends: &[f64; 4]| ends[above - 1] + (ends[above] - ends[above - 1]) * share;
        (between(&self.low), between(&self.high))
    }

    /// Whether they can have been made here. What is not is not to be told to anybody.
    fn is_sound(&self) -> bool {
        self.low.iter().chain(&self.high).all(|factor| (FACTOR_MIN..=FACTOR_MAX).contains(factor))
    }
}

impl Tail {
    fn learn(&mut self, is_beyond: bool) {
        let moved = self.0 + TAIL_STEP * (OUTSIDE - f64::from(u8::from(is_beyond)));
        self.0 = moved.clamp(TAIL_MIN, TAIL_MAX);
    }
}

impl Calibration {
    /// `assumed`: of the holder before, or [`Factors::ASSUMED`].
    pub(super) fn new(assumed: Factors) -> Self {
        let assumed = if assumed.is_sound() { assumed } else { Factors::ASSUMED };
        let tail = Tail(TAIL_START);
        Self { assumed, outcomes: VecDeque::new(), early: tail, late: tail }
    }

    /// A wait of which `base` was thought, and `told` was told, has ended.
    pub(super) fn ended(&mut self, now: Duration, base: &Base, told: (Duration, Duration), waited: Duration) {
        self.early.learn(waited < told.0);
        self.late.learn(waited > told.1);
        let Some(outcome) = Outcome::of(base, waited) else { return };
        if self.outcomes.len() == OUTCOMES_MAX {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back((now, outcome));
    }

    /// `overdue`: waits that have not ended and are longer than was likely, so far.
    pub(super) fn factors(&self, now: Duration, overdue: impl Iterator<Item = (Base, Duration)>) -> Factors {
        let fade = |at: Duration| (-now.saturating_sub(at).div_duration_f64(FADES_IN)).exp();
        let ended = self.outcomes.iter().map(|(at, outcome)| (*outcome, fade(*at)));
        let overdue = overdue.filter_map(|(base, waited)| Some((Outcome::of(&base, waited)?, 1.0)));
        let seen: Vec<(Outcome, f64)> = ended.chain(overdue).filter(|(_, weight)| *weight > FADED).collect();
        let mut factors = self.assumed;
        let mut points = Vec::with_capacity(seen.len() + ASSUMED_POINTS);
        for (index, horizon) in HORIZONS.iter().enumerate() {
            let assumed = (self.assumed.low[index].ln(), self.assumed.high[index].ln());
            let mut quantile = |of: fn(&Outcome) -> f64, level: f64| {
                points.clear();
                points.extend(assumed_points(assumed));
                points.extend(seen.iter().map(|(outcome, weight)| {
                    let apart = outcome.likely - horizon.ln();
                    (of(outcome), weight / (1.0 + apart * apart))
                }));
                weighted_quantile(&mut points, level).exp().clamp(FACTOR_MIN, FACTOR_MAX)
            };
            factors.low[index] = quantile(|outcome| outcome.low, self.early.0);
            factors.high[index] = quantile(|outcome| outcome.high, 1.0 - self.late.0);
        }
        factors
    }
}

impl Outcome {
    fn of(base: &Base, waited: Duration) -> Option<Self> {
        let waited = waited.as_secs_f64().max(WAITED_LEAST).ln();
        let outcome =
            Self { likely: base.likely.ln(), low: waited - base.least.ln(), high: waited - base.most.ln() };
        let is_known = [outcome.likely, outcome.low, outcome.high].iter().all(|value| value.is_finite());
        is_known.then_some(outcome)
    }
}

/// A logistic distribution, as points of which the first and the last are these: so what is assumed is what is told until something else is known, and
/// a change of the holder widens nothing.
fn assumed_points((low, high): (f64, f64)) -> impl Iterator<Item = (f64, f64)> {
    let (middle, half) = ((low + high) / 2.0, (high - low) / 2.0);
    (0..ASSUMED_POINTS).map(move |index| {
        let share = (index as f64 + 0.5) / ASSUMED_POINTS as f64;
        let point = middle + half * (share / (1.0 - share)).ln() / (2.0 * ASSUMED_POINTS as f64 - 1.0).ln();
        (point, ASSUMED_COUNT / ASSUMED_POINTS as f64)
    })
}

/// The least value such that at least `level` of the weight is not above it. There is one point at least.
fn weighted_quantile(points: &mut [(f64, f64)], level: f64) -> f64 {
    points.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let wanted = points.iter().map(|(_, weight)| weight).sum::<f64>() * level;
    let mut below = 0.0;
    let found = points.iter().find(|(_, weight)| {
        below += weight;
        below >= wanted
    });
    found.or(points.last()).map_or(0.0, |(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn exactly(seconds: f64) -> Base {
        Base { likely: seconds, least: seconds, most: seconds }
    }

    /// Waits of `seconds` each, of which two end a second, with errors as `draw` says: the share that ends early, and late, of the last two thirds.
    fn play(
        calibration: &mut Calibration,
        seconds: f64,
        count: u64,
        mut draw: impl FnMut(u64) -> f64,
    ) -> (f64, f64, Factors) {
        let (mut early, mut late, mut judged) = (0.0, 0.0, 0.0);
        let mut factors = Factors::ASSUMED;
        for n in 0..count {
            let now = Duration::from_millis(500 * n);
            factors = calibration.factors(now, std::iter::empty());
            let (low, high) = factors.at(seconds);
            let told = (Duration::from_secs_f64(seconds * low), Duration::from_secs_f64(seconds * high));
            let waited = Duration::from_secs_f64(seconds * draw(n));
            calibration.ended(now, &exactly(seconds), told, waited);
            if n >= count / 3 {
                judged += 1.0;
                early += f64::from(u8::from(waited < told.0));
                late += f64::from(u8::from(waited > told.1));
            }
        }
        (early / judged, late / judged, factors)
    }

    #[test]
    fn before_anything_is_known_a_range_is_what_was_assumed() {
        let factors = Calibration::new(Factors::ASSUMED).factors(Duration::ZERO, std::iter::empty());
        for (low, high) in factors.low.into_iter().zip(factors.high) {
            assert!((0.75..0.96).contains(&low) && (1.04..1.35).contains(&high), "{factors:?}");
        }
    }

    #[test]
    fn what_was_learnt_outlives_who_learnt_it_and_what_makes_no_sense_does_not() {
        let learnt = Factors { low: [0.5; 4], high: [1.6; 4] };
        let mut factors = learnt;
        for _ in 0..20 {
            factors = Calibration::new(factors).factors(Duration::ZERO, std::iter::empty());
        }
        assert!((factors.low[0] - 0.5).abs() < 1e-9 && (factors.high[3] - 1.6).abs() < 1e-9, "{factors:?}");
        for wrong in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
            let wrong = Factors { low: [wrong; 4], ..learnt };
            assert_eq!(Calibration::new(wrong).assumed, Factors::ASSUMED);
        }
    }

    #[test]
    fn a_room_that_comes_to_a_halt_is_noticed_before_its_waits_end() {
        let mut calibration = Calibration::new(Factors::ASSUMED);
        let (.., before) = play(&mut calibration, 120.0, 200, |_| 1.0);
        let overdue = (0..60).map(|n| (exactly(120.0), Duration::from_secs(150 + n)));
        let after = calibration.factors(Duration::from_secs(100), overdue);
        assert!(after.high[1] > before.high[1] * 1.2, "{before:?} {after:?}");
    }

    #[test]
    fn short_waits_say_little_of_long_ones() {
        let mut calibration = Calibration::new(Factors::ASSUMED);
        let told = (Duration::from_secs(1), Duration::from_secs(9_999));
        for n in 0..200 {
            let now = Duration::from_millis(500 * n);
            let seconds = if n % 2 == 0 { 30.0 } else { 1_920.0 };
            let waited = Duration::from_secs_f64(seconds * if n % 2 == 0 { 1.0 } else { 1.5 });
            calibration.ended(now, &exactly(seconds), told, waited);
        }
        let factors = calibration.factors(Duration::from_secs(100), std::iter::empty());
        assert!(factors.high[3] > 1.4 && factors.high[0] < 1.1, "{factors:?}");
    }

    #[test]
    fn between_two_lengths_there_is_what_lies_between() {
        let factors = Factors { low: [0.8, 0.9, 0.9, 0.9], high: [1.4, 1.2, 1.2, 1.2] };
        assert_eq!(factors.at(5.0), (0.8, 1.4));
        let (low, high) = factors.at(60.0);
        assert!((low - 0.85).abs() < 1e-9 && (high - 1.3).abs() < 1e-9);
        assert_eq!(factors.at(1e9), (0.9, 1.2));
        assert!(!factors.at(f64::NAN).0.is_infinite());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever errors are like, as long as they stay so: a bias, a width, and heavy tails.
        #[test]
        fn one_in_ten_ends_early_and_one_in_ten_late(
            seed in any::<u64>(),
            bias in 0.6f64..1.6,
            width in 0.01f64..0.4,
            heavy in any::<bool>(),
            seconds in 20.0f64..3_000.0,
        ) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let draw = |_| {
                let uniform: f64 = rng.random_range(-1.0..1.0);
                let error = if heavy { uniform.powi(3) * 2.0 } else { uniform };
                bias * (width * error).exp()
            };
            let (early, late, factors) = play(&mut Calibration::new(Factors::ASSUMED), seconds, 3_000, draw);
            prop_assert!((0.06..=0.14).contains(&early), "{early} early, seed {seed}: {factors:?}");
            prop_assert!((0.06..=0.14).contains(&late), "{late} late, seed {seed}: {factors:?}");
        }

        /// Nothing that is learnt makes an end jump, so a share that is right is not made of ranges that are all too wide and all too narrow by turns.
        #[test]
        fn where_errors_stay_as_they_are_the_ends_stand_still(seed in any::<u64>(), width in 0.02f64..0.3) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut calibration = Calibration::new(Factors::ASSUMED);
            let mut draw = |_| (width * rng.random_range(-1.0..1.0)).exp();
            play(&mut calibration, 120.0, 1_500, &mut draw);
            let mut ends = Vec::new();
            for n in 1_500..1_800 {
                let now = Duration::from_millis(500 * n);
                let factors = calibration.factors(now, std::iter::empty());
                let (low, high) = factors.at(120.0);
                let told = (Duration::from_secs_f64(120.0 * low), Duration::from_secs_f64(120.0 * high));
                calibration.ended(now, &exactly(120.0), told, Duration::from_secs_f64(120.0 * draw(n)));
                ends.push((low.ln(), high.ln()));
            }
            for pair in ends.windows(2) {
                let moved = (pair[1].0 - pair[0].0).abs().max((pair[1].1 - pair[0].1).abs());
                prop_assert!(moved < width, "{moved} of {width}, seed {seed}");
            }
            let narrowest = ends.iter().map(|(low, high)| high - low).fold(f64::MAX, f64::min);
            let widest = ends.iter().map(|(low, high)| high - low).fold(0.0, f64::max);
            prop_assert!(narrowest > width && widest < width * 2.4, "{narrowest} to {widest}, seed {seed}");
        }

        #[test]
        fn nothing_that_is_learnt_makes_a_factor_senseless(
            outcomes in prop::collection::vec(
                (any::<f64>(), any::<f64>(), any::<f64>(), any::<u32>(), any::<u32>()), 0..60,
            ),
            now in any::<u32>(),
        ) {
            let mut calibration = Calibration::new(Factors::ASSUMED);
            let base = |likely, least, most| Base { likely, least, most };
            for (likely, least, most, at, waited) in &outcomes {
                let waited = Duration::from_millis(u64::from(*waited));
                let at = Duration::from_millis(u64::from(*at));
                calibration.ended(at, &base(*likely, *least, *most), (waited, waited), waited);
            }
            let overdue = outcomes.iter().map(|(likely, least, most, _, waited)| {
                (base(*likely, *least, *most), Duration::from_millis(u64::from(*waited)))
            });
            let factors = calibration.factors(Duration::from_millis(u64::from(now)), overdue);
            for factor in factors.low.into_iter().chain(factors.high) {
                prop_assert!((FACTOR_MIN..=FACTOR_MAX).contains(&factor), "{factors:?}");
            }
            prop_assert!((TAIL_MIN..=TAIL_MAX).contains(&calibration.early.0));
            prop_assert!((TAIL_MIN..=TAIL_MAX).contains(&calibration.late.0));
        }
    }
}
