//! How long somebody will wait: a range in which eight of ten waits end.
//!
//! Control makes an [`Outlook`] each second ([`Forecast`]) and publishes it with the frontier; a gateway computes an estimate from it, the place and the
//! frontier, and remembers nothing:
//!
//! ```text
//! ahead = places between the frontier and this one, less the abandoned, by Crowd
//! w(v)  = ln(1 + leaving ahead / v) / leaving        the wait at a pace v, as more and more of those ahead leave
//! range = [w(fast) low, w(slow) high]                the pace, if A were its percentiles 90 and 10 of the last five minutes
//! ```
//!
//! **Calibration.** `low` and `high` learn from what became of earlier estimates: each second the forecast notes what it would tell at two places of the
//! room, and when the frontier reaches them sees whether the wait ended inside. That A has changed meanwhile is discounted: for it there are the
//! percentiles. Outside on one side: that factor moves out by 9 steps; not outside: in by one step. It stands still when one in ten ends below and one in ten above (adaptive conformal inference; Gibbs and Candès, 2021).
//!
//! **Never raised by more than a fifth without a reason.** The device echoes what it was told last ([`Told`]), unsealed: a lie changes only what the
//! liar is shown, because neither the turn nor the time of the next poll depends on it. A rise beyond a fifth is cut, unless there
//! is a [`Reason`] to give with it.

use std::collections::VecDeque;
use std::time::Duration;

use spillway_types::Timestamp;

use crate::frontier::view::View;
use crate::frontier::{Frontier, Mode};
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

/// What estimates are made of. Published with the frontier.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    /// Places a second: now, and the tenth and ninetieth percentile of five minutes.
    pub pace: f64,
    pub slow: f64,
    pub fast: f64,
    /// The share of those who wait that leaves in a second.
    pub leaving: f64,
    pub low: f64,
    pub high: f64,
    /// The pace is less than it was.
    pub slower: bool,
    /// For [`crate::Appointments`].
    pub stretch: f64,
    /// The generation of [`crate::Presence`]: when it changes, the next one begins.
    pub generation: u64,
    pub crowd: Crowd,
}

/// Control's memory of paces and of what it has told.
#[derive(Clone, Debug)]
pub struct Forecast {
    polls_max: f64,
    seen: VecDeque<Seen>,
    landmarks: VecDeque<Landmark>,
    noted: u64,
    /// The sum of A dt.
    granted: f64,
    /// When somebody was called for the first time.
    began: Option<Duration>,
    generation: Generation,
    low: f64,
    high: f64,
    outcomes: Outcomes,
}

/// It lasts as long as the longest time between two polls that was told in it or in the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Generation {
    number: u64,
    since: Duration,
    told: Duration,
    told_before: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Duration,
    rate: f64,
    show_up: f64,
    issued: u64,
}

/// A place, and in what range it would be reached if A stayed as it was.
#[derive(Clone, Copy, Debug)]
struct Landmark {
    place: u64,
    /// Seats that had been granted by then, and A.
    granted: f64,
    rate: f64,
    low: Duration,
    high: Duration,
    /// When it was noted, and what somebody with this place was told then.
    noted_at: Duration,
    told: (Duration, Duration),
}

/// Paces are remembered for.
const REMEMBERED: Duration = Duration::from_secs(300);
const SEEN_MAX: usize = 330;
/// The rate of now is the mean of so many publications.
const NOW: usize = 10;
/// Less than this share of the median of five minutes is slower.
const SLOWER: f64 = 0.9;

const LANDMARKS_A_SECOND: u64 = 2;
const LANDMARKS_MAX: usize = 1_024;
/// Seconds. A wait that is too short says nothing, because of rounding.
const LANDMARK_LEAST: f64 = 20.0;
const STEP: f64 = 0.004;
/// One in ten below, one in ten above.
const OUTSIDE: f64 = 0.1;
const LOW: (f64, f64, f64) = (0.5, 0.9, 1.0);
const HIGH: (f64, f64, f64) = (1.0, 1.1, 2.0);

/// Until the first claims are in, sigma is an assumption, and the range is that of what it may be: from a quarter less to three tenths more.
const UNSURE: (f64, f64) = (0.25, 0.3);
const SURE_AFTER: Duration = Duration::from_secs(15);
const GROWS_FOR: Duration = Duration::from_secs(30);
/// Those who ask until they are called, over those who then claim.
const ASK_AND_DO_NOT_CLAIM: f64 = 1.1;

/// Seconds: half a minute in which it fades, and the time that claims take.
const SHOW_UP_LAGS: f64 = 40.0;
/// Half are gone after 28 minutes, until sigma has been watched for some times so many seconds.
const LEAVING_ASSUMED: f64 = 1.0 / 2_400.0;
const LEAVING_AFTER: f64 = 60.0;
/// Half in four minutes; faster is a change of something else.
const LEAVING_MAX: f64 = 0.003;

const GENERATION_LEAST: Duration = Duration::from_secs(60);

const RAISED_BY: f64 = 1.2;
/// Within this no rise is one.
const RAISED_LEAST: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(48 * 3_600);

impl Forecast {
    /// `polls_max`: polls a second that the whole room may cost.
    pub fn new(polls_max: f64) -> Self {
        Self {
            polls_max,
            seen: VecDeque::new(),
            landmarks: VecDeque::new(),
            noted: 0,
            granted: 0.0,
            began: None,
            generation: Generation::default(),
            low: LOW.1,
            high: HIGH.1,
            outcomes: Outcomes::default(),
        }
    }

    /// Takes up a publication, and makes what goes with it. Once a second.
    pub fn observe(&mut self, now: Duration, frontier: &Frontier, crowd: Crowd) -> Outlook {
        if frontier.frozen() {
            // What was told before could not know of it.
            self.landmarks.clear();
        } else if frontier.mode == Mode::Open {
            // A pace at which nobody waits says nothing of one at which people do.
            self.landmarks.clear();
            self.seen.clear();
        } else {
            self.see(now, frontier);
        }
        self.learn(now, frontier.f);
        self.generation.turn(now);
        let outlook = self.outlook(now, frontier, crowd);
        self.generation.told = self.generation.told.max(outlook.poll_at_most());
        if !frontier.frozen() && frontier.mode != Mode::Open {
            self.note(now, frontier, &outlook);
        }
        outlook
    }

    /// Of the estimates that were noted.
    pub fn outcomes(&self) -> Outcomes {
        self.outcomes
    }

    fn see(&mut self, now: Duration, frontier: &Frontier) {
        if frontier.f > 0 {
            self.began.get_or_insert(now);
        }
        let dt = self.seen.back().map_or(Duration::ZERO, |seen| now.saturating_sub(seen.at));
        self.granted += frontier.rate * dt.as_secs_f64();
        let (rate, show_up, issued) = (frontier.rate, frontier.show_up, frontier.issued);
        self.seen.push_back(Seen { at: now, rate, show_up, issued });
        while self.seen.len() > SEEN_MAX
            || self.seen.front().is_some_and(|seen| now.saturating_sub(seen.at) > REMEMBERED)
        {
            self.seen.pop_front();
        }
    }

    fn outlook(&self, now: Duration, frontier: &Frontier, crowd: Crowd) -> Outlook {
        let newest = self.seen.range(self.seen.len().saturating_sub(NOW)..);
        let rate = newest.clone().map(|seen| seen.rate).sum::<f64>() / newest.len().max(1) as f64;
        let unsure =
            self.began.map_or(1.0, |began| (-now.saturating_sub(began).div_duration_f64(SURE_AFTER)).exp());
        // The sigma that is assumed has those in it who will leave.
        let leaving = self.leaving() * (1.0 - unsure);
        // What sigma is measured of is some seconds old.
        let pace = rate / frontier.show_up * (leaving * SHOW_UP_LAGS).exp();
        let mut rates: Vec<f64> = self.seen.iter().map(|seen| seen.rate).collect();
        rates.sort_by(f64::total_cmp);
        let at = |quantile: f64| rates.get((rates.len() as f64 * quantile) as usize).copied().unwrap_or(rate);
        let compared = |other: f64| if rate > 0.0 { other / rate } else { 1.0 };
        // Who comes within half a minute is stretched for as if he were here.
        let soon = self.arrivals() * GROWS_FOR.as_secs_f64();
        let longest = Duration::from_secs_f64(wait(crowd.total() + soon, pace, leaving));
        let stretch = poll::stretch(rate * ASK_AND_DO_NOT_CLAIM, longest, self.polls_max);
        Outlook {
            pace,
            slow: pace * compared(at(0.1)).min(1.0),
            fast: pace * compared(at(0.9)).max(1.0),
            leaving,
            low: self.low * (1.0 - unsure * UNSURE.0),
            high: self.high * (1.0 + unsure * UNSURE.1),
            slower: rate < at(0.5) * SLOWER,
            stretch,
            generation: self.generation.number,
            crowd,
        }
    }

    /// How fast sigma falls, by least squares: the called have waited longer and longer.
    fn leaving(&self) -> f64 {
        let sure = self.began.map_or(Duration::MAX, |began| began + SURE_AFTER * 3);
        let seen = || self.seen.iter().filter(move |seen| seen.at >= sure && seen.show_up > 0.0);
        let points = || seen().map(|seen| (seen.at.as_secs_f64(), seen.show_up.ln()));
        let count = points().count() as f64;
        if count < 2.0 {
            return LEAVING_ASSUMED;
        }
        let (at, share) = points().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        let (at, share) = (at / count, share / count);
        let (with, alone) = points().fold((0.0, 0.0), |sum, point| {
            (sum.0 + (point.0 - at) * (point.1 - share), sum.1 + (point.0 - at).powi(2))
        });
        let measured = if alone > 0.0 { -with / alone } else { LEAVING_ASSUMED };
        // One a second: how long it has been watched.
        let assumed = (-count / LEAVING_AFTER).exp();
        (LEAVING_ASSUMED * assumed + measured * (1.0 - assumed)).clamp(0.0, LEAVING_MAX)
    }

    /// A second, of late.
    fn arrivals(&self) -> f64 {
        let before = self.seen.len().checked_sub(NOW).and_then(|index| self.seen.get(index));
        let (Some(old), Some(new)) = (before.or(self.seen.front()), self.seen.back()) else { return 0.0 };
        let time = new.at.saturating_sub(old.at).as_secs_f64();
        if time > 0.0 { (new.issued - old.issued.min(new.issued)) as f64 / time } else { 0.0 }
    }

    fn note(&mut self, now: Duration, frontier: &Frontier, outlook: &Outlook) {
        for _ in 0..LANDMARKS_A_SECOND {
            // Multiples of the golden ratio: evenly over the room, without chance.
            self.noted = self.noted.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let share = self.noted as f64 / u64::MAX as f64;
            let place = frontier.f + (frontier.issued.saturating_sub(frontier.f) as f64 * share) as u64;
            let ahead = outlook.crowd.ahead(place, frontier.f);
            let likely = wait(ahead, outlook.pace, outlook.leaving);
            if likely >= LANDMARK_LEAST && frontier.rate > 0.0 && self.landmarks.len() < LANDMARKS_MAX {
                let (low, high) = (round(likely * outlook.low), round(likely * outlook.high));
                let (granted, rate) = (self.granted, frontier.rate);
                let (told_low, told_high, _) = outlook.range(ahead);
                let (noted_at, told) = (now, (told_low, told_high));
                self.landmarks.push_back(Landmark { place, granted, rate, low, high, noted_at, told });
            }
        }
    }

    fn learn(&mut self, now: Duration, f: u64) {
        let (granted, outcomes) = (self.granted, &mut self.outcomes);
        let (low, high) = (&mut self.low, &mut self.high);
        self.landmarks.retain(|landmark| {
            if landmark.place > f {
                return true;
            }
            let actual = (granted - landmark.granted) / landmark.rate;
            let below = f64::from(actual < landmark.low.as_secs_f64());
            let above = f64::from(actual > landmark.high.as_secs_f64());
            *low = (*low * (STEP * (OUTSIDE - below)).exp()).clamp(LOW.0, LOW.2);
            *high = (*high * (STEP * (above - OUTSIDE)).exp()).clamp(HIGH.0, HIGH.2);
            outcomes.count(now.saturating_sub(landmark.noted_at), landmark.told);
            false
        });
    }
}

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

impl Generation {
    fn turn(&mut self, now: Duration) {
        if now.saturating_sub(self.since) > self.told.max(self.told_before).max(GENERATION_LEAST) {
            let number = self.number + 1;
            *self = Self { number, since: now, told: Duration::ZERO, told_before: self.told };
        }
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
        let longest = wait(self.crowd.total(), self.pace, self.leaving);
        poll::poll_at_most(Duration::from_secs_f64(longest), self.stretch)
    }

    fn range(&self, ahead: f64) -> (Duration, Duration, Duration) {
        let at = |pace| wait(ahead, pace, self.leaving);
        let (low, high) = (round(at(self.fast) * self.low), round(at(self.slow) * self.high));
        let high = if high > low { high } else { low + step(low.as_secs_f64()) };
        (low, high, Duration::from_secs_f64(at(self.pace)))
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

/// To what people would say.
fn round(seconds: f64) -> Duration {
    let step = step(seconds);
    step.mul_f64((seconds / step.as_secs_f64()).round())
}

fn step(seconds: f64) -> Duration {
    Duration::from_secs(match seconds {
        ..120.0 => 10,
        ..600.0 => 30,
        ..1_800.0 => 60,
        ..7_200.0 => 300,
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
            [0, 40, 300, 1_020, 5_100, 19_800]
        );
    }
}
