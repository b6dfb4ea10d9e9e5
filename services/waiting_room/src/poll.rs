//! When a device is to ask again. The server says it, so that a room of any size costs what it may cost.
//!
//! `reference/overload.md` b.10: a tenth of the wait, 10 s at least, 120 s at most, times U(0.8, 1.2). Two things are added:
//!
//! - All of it is stretched by one factor so that the whole room stays below a number of polls a second ([`stretch`], made by control and
//!   published). A million who wait for ten minutes would otherwise ask 27,000 times a second.
//! - Nobody is told to sleep past his turn: never more than the wait itself, because the window in which a claim is awaited has
//!   120 s. In the last seconds that is 10 s.

use std::time::Duration;

use rand::Rng;

/// Polls a second of a whole room, by default.
pub const POLLS_MAX: f64 = 10_000.0;

const LEAST: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(120);
const JITTER: f64 = 0.2;
/// Nobody asks less often, whatever the stretch: an estimate that is older misleads.
const STRETCHED_MAX: Duration = Duration::from_secs(1_800);
/// Of the polls that are allowed, those that are planned; the rest is for chance.
const PLANNED: f64 = 0.95;

/// Until a device that is to wait for `wait` asks again.
pub fn poll_after(wait: Duration, stretch: f64, rng: &mut impl Rng) -> Duration {
    mean(wait.as_secs_f64(), stretch).mul_f64(rng.random_range(1.0 - JITTER..=1.0 + JITTER))
}

/// The longest that a device which is to wait for `wait` sleeps.
pub(crate) fn poll_at_most(wait: Duration, stretch: f64) -> Duration {
    mean(wait.as_secs_f64(), stretch).mul_f64(1.0 + JITTER)
}

/// The factor for a room whose last one waits for `longest`, when of those who still ask `pace` are called each second, and `polls_max`
/// polls a second are allowed.
///
/// Of those who wait for t there are `pace dt`, and each asks every mean(t) seconds, and once after the call; the sum over the room is brought below
/// the bound by halving.
pub fn stretch(pace: f64, longest: Duration, polls_max: f64) -> f64 {
    let longest = longest.as_secs_f64();
    let polls = |stretch: f64| {
        // By steps of a twentieth of the wait: the mean changes by no more than that within one.
        let (mut from, mut sum) = (0.0, pace);
        while from < longest {
            let to = (from * 1.05 + 1.0).min(longest);
            sum += pace * (to - from) / mean((from + to) / 2.0, stretch).as_secs_f64();
            from = to;
        }
        sum
    };
    let allowed = polls_max * PLANNED;
    if polls(1.0) <= allowed {
        return 1.0;
    }
    let (mut low, mut high) = (1.0, STRETCHED_MAX.as_secs_f64() / LEAST.as_secs_f64());
    while high - low > 0.01 * low {
        let middle = (low + high) / 2.0;
        (low, high) = if polls(middle) > allowed { (middle, high) } else { (low, middle) };
    }
    high
}

fn mean(wait: f64, stretch: f64) -> Duration {
    let (least, most) = (LEAST.as_secs_f64(), MOST.as_secs_f64());
    let stretched = (wait / 10.0).clamp(least, most) * stretch.max(1.0);
    Duration::from_secs_f64(stretched.min(wait.max(least)).min(STRETCHED_MAX.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn a_tenth_of_the_wait_within_bounds_and_never_past_the_turn() {
        let seconds = |wait, stretch| mean(wait, stretch).as_secs_f64();
        assert_eq!([0.0, 50.0, 300.0, 5_000.0].map(|wait| seconds(wait, 1.0)), [10.0, 10.0, 30.0, 120.0]);
        assert_eq!([5.0, 50.0, 300.0].map(|wait| seconds(wait, 8.0)), [10.0, 50.0, 240.0]);
        let mut rng = SmallRng::seed_from_u64(1);
        for _ in 0..1_000 {
            let after = poll_after(Duration::from_secs(300), 1.0, &mut rng).as_secs_f64();
            assert!((24.0..=36.0).contains(&after), "{after}");
        }
    }

    #[test]
    fn a_million_cost_what_they_may() {
        // 50 a second are 9,600 polls, the figure of reference/overload.md b.10, and hardly stretched.
        assert!(stretch(50.0, Duration::from_secs(20_000), POLLS_MAX) < 1.05);
        assert_eq!(stretch(50.0, Duration::from_secs(10_000), POLLS_MAX), 1.0);
        for (pace, longest, polls_max) in
            [(50.0, 20_000, 1_000.0), (1_100.0, 700, POLLS_MAX), (200.0, 50_000, POLLS_MAX)]
        {
            let stretch = stretch(pace, Duration::from_secs(longest), polls_max);
            let sum = |from: u64| pace / mean(from as f64 + 0.5, stretch).as_secs_f64();
            let polls: f64 = pace + (0..longest).map(sum).sum::<f64>();
            assert!((polls_max * 0.9..polls_max).contains(&polls), "{pace} for {longest} s: {polls}");
        }
    }
}
