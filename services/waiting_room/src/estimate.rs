//! How long somebody will wait: a range in which eight of ten waits end.
//!
//! Control makes an [`Outlook`] each second ([`Forecast`]) and publishes it with the frontier; a gateway computes an estimate from it, the place and the
//! frontier, and remembers nothing:
//!
//! ```text
//! ahead = places between the frontier and this one, less the abandoned, by Crowd
//! w(v, l) = ln(1 + l ahead / v) / l                  the wait at a pace v, as more and more of those ahead leave: l of them a second
//! range   = [w(fast, most) low, w(slow, least) high] the pace, if A were its percentiles 90 and 10 of the last five minutes; the least and the
//!                                                    most that may leave, which are apart until it has been watched for a minute
//! ```
//!
//! `low` and `high`, for waits of several lengths, are learnt from what became of earlier estimates ([`calibration`]).
//!
//! **Never raised by more than a fifth without a reason.** The device echoes what it was told last ([`Told`]), unsealed: a lie changes only what the
//! liar is shown, because neither the turn nor the time of the next poll depends on it. A rise beyond a fifth is cut, unless there
//! is a [`Reason`] to give with it.

mod calibration;
mod forecast;

use std::time::Duration;

use calibration::Base;
pub use calibration::{Factors, HORIZONS};
pub use forecast::Forecast;
use spillway_types::Timestamp;

use crate::frontier::Frontier;
use crate::frontier::view::View;
use crate::poll;
use crate::presence::Crowd;

/// What a device is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Those ahead who are still there, as far as is known.
    pub ahead: u64,
    /// Rounded for people, and `low < high`.
    pub low: Duration,
    pub high: Duration,
    /// Not rounded, for [`crate::Appointments`].
    pub likely: Duration,
    /// Why it takes longer than was told, or may.
    pub reason: Option<Reason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody is let in, so that those who are in are served. The estimate begins when that is over.
    Frozen,
    /// The room opens later. The estimate has that in it.
    NotOpen,
    /// Fewer are let in than in the minutes before.
    Slower,
    /// The pace is an old one.
    ControlGone,
}

/// What became of estimates, counted since the forecast began: of places whose turn has come, whether the wait ended within the range that was told.
///
/// Eight of ten are meant to be inside. What was told before the room stood still, or ran empty, is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub inside: u64,
    pub early: u64,
    pub late: u64,
}

/// What a device was told last, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub high: Duration,
    pub at: Timestamp,
}

/// The share of those who wait that leaves in a second: what is likely, and the least and the most that it may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leaving {
    pub likely: f64,
    pub least: f64,
    pub most: f64,
}

/// What a forecast has learnt of a room, for the one that comes after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learnt {
    pub leaving: Leaving,
    pub factors: Factors,
}

/// What estimates are made of. Published with the frontier.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    /// Places a second: now, and the tenth and ninetieth percentile of five minutes.
    pub pace: f64,
    pub slow: f64,
    pub fast: f64,
    pub leaving: Leaving,
    pub factors: Factors,
    /// The pace is less than it was.
    pub slower: bool,
    /// For [`crate::Appointments`].
    pub stretch: f64,
    /// The generation of [`crate::Presence`]: when it changes, the next one begins.
    pub generation: u64,
    pub crowd: Crowd,
}

const RAISED_BY: f64 = 1.2;
/// Within this no rise is one.
const RAISED_LEAST: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(48 * 3_600);

impl Outcomes {
    /// Adds what has come since `before` in the same forecast, whose outcomes are `now`.
    pub fn add(&mut self, now: Self, before: Self) {
        self.inside += now.inside - before.inside;
        self.early += now.early - before.early;
        self.late += now.late - before.late;
    }

    fn count(&mut self, waited: Duration, (low, high): (Duration, Duration)) {
        let counter = if waited < low {
            &mut self.early
        } else if waited > high {
            &mut self.late
        } else {
            &mut self.inside
        };
        *counter += 1;
    }
}

impl Outlook {
    /// For whoever has `place`.
    pub fn estimate(&self, place: u64, view: &View, now: Duration) -> Estimate {
        let ahead = self.crowd.ahead(place, view.frontier(now));
        let (low, high, likely) = self.range(ahead);
        let reason = if view.last().is_some_and(Frontier::frozen) {
            Some(Reason::Frozen)
        } else if view.control_gone(now) {
            Some(Reason::ControlGone)
        } else {
            self.slower.then_some(Reason::Slower)
        };
        // `as` saturates.
        Estimate { ahead: ahead.round() as u64, low, high, likely, reason }
    }

    /// For whoever takes part in a lottery that is drawn in `opens_in`: any of its places may become his. `last`: the highest number.
    pub fn before_opening(&self, opens_in: Duration, last: u64, view: &View, now: Duration) -> Estimate {
        let whole = self.estimate(last, view, now);
        Estimate {
            ahead: whole.ahead / 2,
            low: round(opens_in.as_secs_f64()),
            high: round(opens_in.as_secs_f64()) + whole.high,
            likely: opens_in + whole.likely / 2,
            reason: Some(Reason::NotOpen),
        }
    }

    /// The longest time between two polls that anybody is told.
    fn poll_at_most(&self) -> Duration {
        let longest = wait(self.crowd.total(), self.pace, self.leaving.likely);
        poll::poll_at_most(Duration::from_secs_f64(longest), self.stretch)
    }

    /// For whoever makes forecasts after this one was published.
    pub const fn learnt(&self) -> Learnt {
        Learnt { leaving: self.leaving, factors: self.factors }
    }

    fn range(&self, ahead: f64) -> (Duration, Duration, Duration) {
        let base = self.base(ahead);
        let (low, high) = self.factors.at(base.likely);
        let (low, high) = (round(base.least * low), round(base.most * high));
        let high = if high > low { high } else { low + step(low.as_secs_f64()) };
        (low, high, Duration::from_secs_f64(base.likely))
    }

    fn base(&self, ahead: f64) -> Base {
        Base {
            likely: wait(ahead, self.pace, self.leaving.likely),
            least: wait(ahead, self.fast, self.leaving.most),
            most: wait(ahead, self.slow, self.leaving.least),
        }
    }
}

impl Estimate {
    /// The same, but not more than a fifth above what is left of what was told before, unless there is a reason to give.
    #[must_use]
    pub fn after(self, told: Told, now: Timestamp) -> Self {
        let left = told.high.saturating_sub(now.since(told.at));
        let most = left.mul_f64(RAISED_BY).max(RAISED_LEAST);
        if self.reason.is_some() || self.high <= most {
            return self;
        }
        let low = self.low.mul_f64(most.as_secs_f64() / self.high.as_secs_f64());
        Self { low, high: most, ..self }
    }
}

/// Seconds.
fn wait(ahead: f64, pace: f64, leaving: f64) -> f64 {
    if ahead <= 0.0 {
        return 0.0;
    }
    let constant = ahead / pace;
    let seconds = if leaving > 0.0 { (leaving * constant).ln_1p() / leaving } else { constant };
    // Also when the pace is 0.
    if seconds.is_finite() { seconds.min(WAIT_MAX.as_secs_f64()) } else { WAIT_MAX.as_secs_f64() }
}

/// How many of those ahead have been called or have left after so long: `wait` the other way round.
fn ahead_of(wait: f64, pace: f64, leaving: f64) -> f64 {
    if leaving > 0.0 { (leaving * wait).exp_m1() / leaving * pace } else { wait * pace }
}

/// To what people would say.
fn round(seconds: f64) -> Duration {
    let step = step(seconds);
    step.mul_f64((seconds / step.as_secs_f64()).round())
}

fn step(seconds: f64) -> Duration {
    // A tenth at most of what is told, so that a range need not be wider than what is known.
    Duration::from_secs(match seconds {
        ..120.0 => 5,
        ..300.0 => 10,
        ..900.0 => 30,
        ..3_600.0 => 60,
        ..14_400.0 => 300,
        ..43_200.0 => 900,
        _ => 3_600,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(high: u64, reason: Option<Reason>) -> Estimate {
        let seconds = Duration::from_secs;
        Estimate { ahead: 1, low: seconds(high / 2), high: seconds(high), likely: seconds(high), reason }
    }

    #[test]
    fn a_rise_beyond_a_fifth_needs_a_reason() {
        let now = Timestamp::from_millis(1_000_000);
        let told = Told { high: Duration::from_secs(600), at: now.saturating_sub(Duration::from_secs(100)) };
        let after = |high, reason| estimate(high, reason).after(told, now);
        assert_eq!(after(550, None), estimate(550, None));
        assert_eq!(
            after(1_200, None),
            Estimate { likely: Duration::from_secs(1_200), ..estimate(600, None) }
        );
        assert_eq!(after(1_200, Some(Reason::Slower)), estimate(1_200, Some(Reason::Slower)));
        // What was told is over: half a minute more each time.
        let over = Told { high: Duration::from_secs(50), ..told };
        assert_eq!(estimate(400, None).after(over, now).high, RAISED_LEAST);
    }

    #[test]
    fn a_wait_that_ends_at_an_end_of_the_range_is_inside() {
        let (mut outcomes, told) = (Outcomes::default(), (Duration::from_secs(60), Duration::from_secs(90)));
        for seconds in [59, 60, 75, 90, 91, 92] {
            outcomes.count(Duration::from_secs(seconds), told);
        }
        assert_eq!(outcomes, Outcomes { inside: 3, early: 1, late: 2 });
    }

    #[test]
    fn who_leaves_shortens_the_wait() {
        assert_eq!(wait(1_000.0, 10.0, 0.0), 100.0);
        assert!((wait(1_000.0, 10.0, 0.001) - 95.3).abs() < 0.1);
        assert_eq!(wait(1_000.0, 0.0, 0.001), WAIT_MAX.as_secs_f64());
        assert_eq!(wait(0.0, 0.0, 0.0), 0.0);
    }

    #[test]
    fn numbers_are_those_that_people_say() {
        let seconds = |from: f64| round(from).as_secs();
        assert_eq!(
            [4.0, 37.0, 312.0, 1_000.0, 5_000.0, 20_000.0].map(seconds),
            [5, 35, 300, 1_020, 5_100, 19_800]
        );
    }
}
