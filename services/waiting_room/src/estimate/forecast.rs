//! What the pace has been, how fast people leave, and what became of earlier estimates: once a second, in the control role.

use std::collections::VecDeque;
use std::time::Duration;

use super::calibration::{Base, Calibration};
use super::{Factors, Learnt, Leaving, Outcomes, Outlook, ahead_of, wait};
use crate::frontier::{Frontier, Mode};
use crate::poll;
use crate::presence::Crowd;

/// Control's memory of paces and of what it has told.
#[derive(Clone, Debug)]
pub struct Forecast {
    polls_max: f64,
    seen: VecDeque<Seen>,
    landmarks: VecDeque<Landmark>,
    noted: u64,
    /// When somebody was called for the first time.
    began: Option<Duration>,
    /// Sigma has been measured by the holder before.
    resumed: bool,
    /// Until it has been watched for long enough.
    leaving_assumed: Leaving,
    generation: Generation,
    calibration: Calibration,
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

/// A place, when it was looked at, and what was thought of its wait and told to whoever has it.
#[derive(Clone, Copy, Debug)]
struct Landmark {
    place: u64,
    noted_at: Duration,
    base: Base,
    told: (Duration, Duration),
}

/// Paces are remembered for.
const REMEMBERED: Duration = Duration::from_secs(300);
const SEEN_MAX: usize = 330;
/// The rate and the sigma of now are the mean of so many publications. Sigma swings within the first of them.
const NOW: usize = 10;
/// Less than this share of the median of five minutes is slower.
const SLOWER: f64 = 0.9;

const LANDMARKS_A_SECOND: u64 = 2;
/// The last half hour.
const LANDMARKS_MAX: usize = 4_096;
/// Seconds. A wait that is too short says nothing, because of rounding.
const LANDMARK_LEAST: f64 = 20.0;

/// Until the first claims are in, sigma is an assumption, and the range is that of what it may be: a fifth to either side.
const UNSURE: f64 = 0.2;
const SURE_AFTER: Duration = Duration::from_secs(15);
const GROWS_FOR: Duration = Duration::from_secs(30);
/// Those who ask until they are called, over those who then claim.
const ASK_AND_DO_NOT_CLAIM: f64 = 1.1;

/// Seconds: half a minute in which it fades, and the time that claims take.
const SHOW_UP_LAGS: f64 = 40.0;
/// Half are gone after 28 minutes, until sigma has been watched for some times so many seconds.
const LEAVING_ASSUMED: Leaving = Leaving { likely: 1.0 / 2_400.0, least: 1.0 / 4_800.0, most: 1.0 / 550.0 };
const LEAVING_AFTER: f64 = 60.0;
/// What is certain of it comes sooner: such a room as is assumed is most.
const LEAVING_KNOWN_AFTER: f64 = 30.0;
/// Half in four minutes; faster is a change of something else.
const LEAVING_MAX: f64 = 0.003;

const GENERATION_LEAST: Duration = Duration::from_secs(60);

impl Forecast {
    /// `polls_max`: polls a second that the whole room may cost.
    pub fn new(polls_max: f64) -> Self {
        Self::resume(polls_max, None)
    }

    /// After `before` was published by the holder before, if anything was.
    pub fn resume(polls_max: f64, before: Option<Learnt>) -> Self {
        Self {
            polls_max,
            seen: VecDeque::new(),
            landmarks: VecDeque::new(),
            noted: 0,
            began: None,
            resumed: before.is_some(),
            leaving_assumed: before
                .map_or(LEAVING_ASSUMED, |before| before.leaving.sound().unwrap_or(LEAVING_ASSUMED)),
            generation: Generation::default(),
            calibration: Calibration::new(before.map_or(Factors::ASSUMED, |before| before.factors)),
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
        let mean = |of: fn(&Seen) -> f64, none: f64| match newest.len() {
            0 => none,
            count => newest.clone().map(of).sum::<f64>() / count as f64,
        };
        let (rate, show_up) = (mean(|seen| seen.rate, 0.0), mean(|seen| seen.show_up, frontier.show_up));
        let unsure = self.unsure(now);
        let leaving = self.leaving(unsure);
        // What sigma is measured of is some seconds old.
        let pace = rate / show_up * (leaving.likely * SHOW_UP_LAGS).exp();
        let mut rates: Vec<f64> = self.seen.iter().map(|seen| seen.rate).collect();
        rates.sort_by(f64::total_cmp);
        let at = |quantile: f64| rates.get((rates.len() as f64 * quantile) as usize).copied().unwrap_or(rate);
        let compared = |other: f64| if rate > 0.0 { other / rate } else { 1.0 };
        // Who comes within half a minute is stretched for as if he were here.
        let soon = self.arrivals() * GROWS_FOR.as_secs_f64();
        let longest = Duration::from_secs_f64(wait(crowd.total() + soon, pace, leaving.likely));
        let stretch = poll::stretch(rate * ASK_AND_DO_NOT_CLAIM, longest, self.polls_max);
        Outlook {
            pace,
            slow: pace * compared(at(0.1)).min(1.0),
            fast: pace * compared(at(0.9)).max(1.0),
            leaving,
            factors: self.factors(now, unsure),
            slower: rate < at(0.5) * SLOWER,
            stretch,
            generation: self.generation.number,
            crowd,
        }
    }

    /// From 1 to 0: how much of sigma is still an assumption.
    fn unsure(&self, now: Duration) -> f64 {
        if self.resumed {
            return 0.0;
        }
        self.began.map_or(1.0, |began| (-now.saturating_sub(began).div_duration_f64(SURE_AFTER)).exp())
    }

    fn factors(&self, now: Duration, unsure: f64) -> Factors {
        let overdue = self.landmarks.iter().filter_map(|landmark| {
            let waited = now.saturating_sub(landmark.noted_at);
            (waited.as_secs_f64() > landmark.base.likely).then_some((landmark.base, waited))
        });
        let mut factors = self.calibration.factors(now, overdue);
        factors.low.iter_mut().for_each(|low| *low *= 1.0 - unsure * UNSURE);
        factors.high.iter_mut().for_each(|high| *high *= 1.0 + unsure * UNSURE);
        factors
    }

    /// How fast sigma falls, by least squares: the called have waited longer and longer.
    fn leaving(&self, unsure: f64) -> Leaving {
        // The sigma that is assumed has those in it who will leave.
        let sure = 1.0 - unsure;
        let (seconds, likely) = self.leaving_measured();
        let likely = likely * sure;
        // One publication a second.
        let unknown = (-seconds / LEAVING_KNOWN_AFTER).exp() * sure;
        let Leaving { likely: assumed, least, most } = self.leaving_assumed;
        Leaving {
            likely,
            least: (likely - unknown * (assumed - least)).max(0.0),
            most: (likely + unknown * (most - assumed)).min(LEAVING_MAX),
        }
    }

    /// For how many seconds, and with what result.
    fn leaving_measured(&self) -> (f64, f64) {
        let sure = match self.resumed {
            true => Duration::ZERO,
            false => self.began.map_or(Duration::MAX, |began| began + SURE_AFTER * 3),
        };
        let seen = || self.seen.iter().filter(move |seen| seen.at >= sure && seen.show_up > 0.0);
        let points = || seen().map(|seen| (seen.at.as_secs_f64(), seen.show_up.ln()));
        let assumed_leaving = self.leaving_assumed.likely;
        let count = points().count() as f64;
        if count < 2.0 {
            return (count, assumed_leaving);
        }
        let (at, share) = points().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        let (at, share) = (at / count, share / count);
        let (with, alone) = points().fold((0.0, 0.0), |sum, point| {
            (sum.0 + (point.0 - at) * (point.1 - share), sum.1 + (point.0 - at).powi(2))
        });
        let measured = if alone > 0.0 { -with / alone } else { assumed_leaving };
        let assumed = (-count / LEAVING_AFTER).exp();
        (count, (assumed_leaving * assumed + measured * (1.0 - assumed)).clamp(0.0, LEAVING_MAX))
    }

    /// A second, of late.
    fn arrivals(&self) -> f64 {
        let before = self.seen.len().checked_sub(NOW).and_then(|index| self.seen.get(index));
        let (Some(old), Some(new)) = (before.or(self.seen.front()), self.seen.back()) else { return 0.0 };
        let time = new.at.saturating_sub(old.at).as_secs_f64();
        if time > 0.0 { (new.issued - old.issued.min(new.issued)) as f64 / time } else { 0.0 }
    }

    /// At waits that are spread evenly by their logarithm, as devices are that ask more often the nearer they are.
    fn note(&mut self, now: Duration, frontier: &Frontier, outlook: &Outlook) {
        let longest = wait(outlook.crowd.total(), outlook.pace, outlook.leaving.likely);
        if longest < LANDMARK_LEAST || frontier.rate <= 0.0 {
            return;
        }
        for _ in 0..LANDMARKS_A_SECOND {
            // Multiples of the golden ratio: evenly, without chance.
            self.noted = self.noted.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let share = self.noted as f64 / u64::MAX as f64;
            let seconds = LANDMARK_LEAST * (longest / LANDMARK_LEAST).powf(share);
            let place = outlook.crowd.place(ahead_of(seconds, outlook.pace, outlook.leaving.likely));
            let ahead = outlook.crowd.ahead(place, frontier.f);
            let base = outlook.base(ahead);
            if base.likely >= LANDMARK_LEAST {
                let (low, high, _) = outlook.range(ahead);
                self.landmarks.push_back(Landmark { place, noted_at: now, base, told: (low, high) });
            }
        }
        while self.landmarks.len() > LANDMARKS_MAX {
            self.landmarks.pop_front();
        }
    }

    fn learn(&mut self, now: Duration, f: u64) {
        let (calibration, outcomes) = (&mut self.calibration, &mut self.outcomes);
        self.landmarks.retain(|landmark| {
            if landmark.place > f {
                return true;
            }
            let waited = now.saturating_sub(landmark.noted_at);
            calibration.ended(now, &landmark.base, landmark.told, waited);
            outcomes.count(waited, landmark.told);
            false
        });
    }
}

impl Leaving {
    /// If it can have been measured here.
    fn sound(self) -> Option<Self> {
        let is_sound = 0.0 <= self.least
            && self.least <= self.likely
            && self.likely <= self.most
            && self.most <= LEAVING_MAX;
        is_sound.then_some(self)
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
