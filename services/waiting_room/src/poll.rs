//! When a device is to ask again. The server says it, so that a room of any size costs what it may cost.
//!
//! `reference/overload.md` b.10: a tenth of the wait, 10 s at least, 120 s at most, times U(0.8, 1.2). Three things are added:
//!
//! - All of it is stretched by one factor so that the whole room stays below a number of polls a second ([`stretch`], made by control and
//!   published). A million who wait for ten minutes would otherwise ask 27,000 times a second.
//! - Nobody is told to sleep past his turn: never more than 0.65 of the wait, before jitter, because the window in which a claim is awaited
//!   has 120 s, and because control learns from those who come how many do. Who is nearly there asks every four seconds, so that he hears of his turn soon
//!   after it has come: control steers blind by what lies between a call and its claim.
//! - A gateway counts what it has asked for, second by second, and does not ask for more than its share ([`Appointments`]).

use std::time::Duration;

use rand::Rng;

/// Polls a second of a whole room, by default.
pub const POLLS_MAX: f64 = 10_000.0;

const LEAST: Duration = Duration::from_secs(10);
/// For whoever is nearly there.
const NEAR: Duration = Duration::from_secs(4);
const MOST: Duration = Duration::from_secs(120);
const JITTER: f64 = 0.2;
/// Nobody asks less often, whatever the stretch: an estimate that is older misleads.
const STRETCHED_MAX: Duration = Duration::from_secs(1_800);
/// Of the wait. Not more, so that neither the jitter nor a pace that rises reaches many in their sleep.
const ASLEEP: f64 = 0.65;
/// Of the polls that are allowed, those that are planned; the rest is for chance.
const PLANNED: f64 = 0.9;

/// A gateway's polls to come, counted by the second in which it asked for them: so that a crowd which entered together does not ask together, again and
/// again. Two hours of counts, 29 kB.
#[derive(Clone, Debug)]
pub struct Appointments {
    counts: Vec<u32>,
    /// Up to which second counts of the past have been cleared.
    cleared: u64,
}

/// Seconds that are counted; later ones fall to chance.
const BOOKED: u64 = 7_200;
/// Who waits for longer leaves a part of each second to the others, because a turn that is noticed late is a seat that stays empty.
const SOON: Duration = Duration::from_secs(45);
const FAR: f64 = 0.8;
/// Within the jitter, so many seconds are tried before it is taken later.
const TRIES: u32 = 6;
/// A device that nobody can take in time comes so much later, or twice the interval.
const LATER: Duration = Duration::from_secs(30);

impl Default for Appointments {
    fn default() -> Self {
        Self { counts: vec![0; BOOKED as usize], cleared: 0 }
    }
}

impl Appointments {
    /// Until a device that is to wait for `wait` asks again: the interval and its jitter, where there is room for it. `share`: polls a second that this
    /// gateway may ask for, its part of those of the whole room. `now` is monotonic.
    pub fn poll_after(
        &mut self,
        wait: Duration,
        stretch: f64,
        share: f64,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Duration {
        self.clear(now);
        let mean = mean(wait.as_secs_f64(), stretch);
        let mut draw = || mean.mul_f64(rng.random_range(1.0 - JITTER..=1.0 + JITTER));
        let first = draw();
        let share = if wait <= SOON { share } else { share * FAR };
        let mut after = first;
        for _ in 0..TRIES {
            if self.book(now + after, share) {
                return after;
            }
            after = draw();
        }
        let latest = (mean * 2).max(mean + LATER);
        after = first;
        while after < latest {
            after += Duration::from_secs(1);
            if self.book(now + after, share) {
                return after;
            }
        }
        // All is full: more than the stretch expected. At least spread.
        first + (after - first).mul_f64(rng.random())
    }

    fn book(&mut self, at: Duration, share: f64) -> bool {
        if at.as_secs() >= self.cleared + BOOKED {
            return true;
        }
        let count = &mut self.counts[(at.as_secs() % BOOKED) as usize];
        let free = f64::from(*count) < share;
        *count += u32::from(free);
        free
    }

    fn clear(&mut self, now: Duration) {
        let from = self.cleared.max(now.as_secs().saturating_sub(BOOKED));
        for second in from..now.as_secs() {
            self.counts[(second % BOOKED) as usize] = 0;
        }
        self.cleared = self.cleared.max(now.as_secs());
    }
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
    let stretch = stretch.max(1.0);
    let stretched = (wait / 10.0).clamp(least, most) * stretch;
    // By little, because those who come late are learnt from: an interval that changed with the room would mislead.
    let near = (NEAR.as_secs_f64() * stretch.powf(0.25)).min(least);
    Duration::from_secs_f64(stretched.min((wait * ASLEEP).max(near)).min(STRETCHED_MAX.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn a_tenth_of_the_wait_within_bounds_and_never_past_the_turn() {
        let seconds = |wait, stretch| mean(wait, stretch).as_secs_f64();
        assert_eq!([0.0, 50.0, 300.0, 5_000.0].map(|wait| seconds(wait, 1.0)), [4.0, 10.0, 30.0, 120.0]);
        let tenths = |wait| (seconds(wait, 10.0) * 10.0).round() / 10.0;
        assert_eq!([5.0, 50.0, 300.0].map(tenths), [7.1, 32.5, 195.0]);
    }

    #[test]
    fn a_gateway_asks_for_no_more_than_its_share() {
        let mut rng = SmallRng::seed_from_u64(1);
        let (mut book, mut asked) = (Appointments::default(), vec![0; 200]);
        for _ in 0..1_000 {
            let now = Duration::from_secs(7_150);
            let after = book.poll_after(Duration::from_secs(300), 1.0, 50.0, now, &mut rng);
            assert!((24..=60).contains(&after.as_secs()), "{after:?}");
            asked[after.as_secs() as usize] += 1;
        }
        assert_eq!(asked.iter().max(), Some(&40));
        // The same seconds two hours later are free again.
        let later = Duration::from_secs(7_150 + 7_200);
        let after = book.poll_after(Duration::from_secs(300), 1.0, 1.0, later, &mut rng);
        assert!((24..=36).contains(&after.as_secs()), "{after:?}");
    }

    #[test]
    fn a_million_cost_what_they_may() {
        // 50 a second are 9,600 polls, the figure of reference/overload.md b.10, and hardly stretched.
        assert!(stretch(50.0, Duration::from_secs(20_000), POLLS_MAX) < 1.1);
        assert_eq!(stretch(50.0, Duration::from_secs(10_000), POLLS_MAX), 1.0);
        for (pace, longest, polls_max) in
            [(50.0, 20_000, 2_000.0), (1_100.0, 700, POLLS_MAX), (200.0, 50_000, POLLS_MAX)]
        {
            let stretch = stretch(pace, Duration::from_secs(longest), polls_max);
            let sum = |from: u64| pace / mean(from as f64 + 0.5, stretch).as_secs_f64();
            let polls: f64 = pace + (0..longest).map(sum).sum::<f64>();
            assert!((polls_max * 0.85..polls_max).contains(&polls), "{pace} for {longest} s: {polls}");
        }
    }
}
