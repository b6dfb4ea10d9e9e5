//! Money: what codes may cost in an hour, in a day, and in a day in one country.
//!
//! It fails closed. Money counts as spent from before the call, and only a code that certainly was not sent gives it
//! back. A process that has just started does not know what the one before it spent, so it takes the part of each
//! window that has passed as spent: a crash that repeats costs sign-ups and no money. Windows are those of the clock in
//! UTC.

use std::collections::HashMap;
use std::time::Duration;

use spillway_types::Timestamp;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// What is left at the end of a window may not go in one moment.
const LASTS_MIN: Duration = Duration::from_secs(10);

/// What may be spent, in millionths of the currency's unit; absent: any amount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) hour: Option<u64>,
    pub(crate) day: Option<u64>,
    /// In each country without a limit of its own.
    pub(crate) country_day: Option<u64>,
    /// By country calling code.
    pub(crate) countries: HashMap<u16, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    Hour,
    Day,
    Country(u16),
}

/// What may still be spent, and how long it has to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) amount: u64,
    pub(crate) lasts: Duration,
}

/// There is not enough left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    pub(crate) scope: Scope,
    /// When its next window begins.
    pub(crate) until: Timestamp,
}

/// Money for one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    country: u16,
    cost: u64,
    at: Timestamp,
}

#[derive(Debug)]
pub(crate) struct Budget {
    hour: Option<Window>,
    day: Option<Window>,
    /// At most one for each country calling code.
    countries: HashMap<u16, Window>,
    limits: Limits,
    started: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    length: Duration,
    limit: u64,
    begin: Timestamp,
    spent: u64,
    /// Half of it is gone, and somebody has been told.
    is_alarmed: bool,
}

impl Budget {
    pub(crate) fn new(limits: Limits, now: Timestamp) -> Self {
        Self {
            hour: limits.hour.map(|limit| Window::new(HOUR, limit, now)),
            day: limits.day.map(|limit| Window::new(DAY, limit, now)),
            countries: HashMap::new(),
            limits,
            started: now,
        }
    }

    /// The dearest code that can be paid for in this country, or why none can.
    pub(crate) fn room(&mut self, country: u16, cost: u64, now: Timestamp) -> Result<(), Exhausted> {
        if cost == 0 {
            return Ok(());
        }
        let mut exhausted: Option<Exhausted> = None;
        for (scope, window) in self.windows(country, now) {
            let until = window.begin.saturating_add(window.length);
            if window.left() < cost && exhausted.is_none_or(|found| found.until < until) {
                exhausted = Some(Exhausted { scope, until });
            }
        }
        exhausted.map_or(Ok(()), Err)
    }

    /// # Errors
    ///
    /// When it would exceed a limit; the one that lasts longest. Nothing is reserved then.
    pub(crate) fn reserve(
        &mut self,
        country: u16,
        cost: u64,
        now: Timestamp,
    ) -> Result<Reservation, Exhausted> {
        self.room(country, cost, now)?;
        for (_, window) in self.windows(country, now) {
            window.spent = window.spent.saturating_add(cost);
        }
        Ok(Reservation { country, cost, at: now })
    }

    /// Gives back what was not spent, to the windows that it was taken from if they still run.
    pub(crate) fn release(&mut self, reservation: Reservation, now: Timestamp) {
        for (_, window) in self.windows(reservation.country, now) {
            if reservation.at >= window.begin {
                window.spent = window.spent.saturating_sub(reservation.cost);
            }
        }
    }

    /// A limit of which half has been spent, told once in each window.
    pub(crate) fn alarm(&mut self, country: u16, now: Timestamp) -> Option<Scope> {
        let (scope, window) = self
            .windows(country, now)
            .find(|(_, window)| !window.is_alarmed && window.spent >= window.limit.div_ceil(2))?;
        window.is_alarmed = true;
        Some(scope)
    }

    /// What may be spent in an hour and in a day.
    pub(crate) fn sizes(&self) -> (Option<u64>, Option<u64>) {
        (self.limits.hour, self.limits.day)
    }

    /// What is left of the hour and of the day.
    pub(crate) fn left(&mut self, now: Timestamp) -> (Option<u64>, Option<u64>) {
        let left = |window: &mut Option<Window>| {
            window.as_mut().map(|window| {
                window.turn(now);
                window.left()
            })
        };
        (left(&mut self.hour), left(&mut self.day))
    }

    /// What is left of a country's day; `None` if it has no limit.
    pub(crate) fn left_in(&mut self, country: u16, now: Timestamp) -> Option<Left> {
        let of_country = |(scope, window): (Scope, &mut Window)| {
            matches!(scope, Scope::Country(_)).then(|| window.lasting(now))
        };
        self.windows(country, now).find_map(of_country)
    }

    /// What is left of the hour and of the day, and how long it has to last: for the rest of the window, but a day's money for an hour only,
    /// because a day in which many sign up is not known for one in its morning. So it falls off over hours, and not at once.
    pub(crate) fn lasting(&mut self, now: Timestamp) -> [Option<Left>; 2] {
        [&mut self.hour, &mut self.day].map(|window| {
            window.as_mut().map(|window| {
                window.turn(now);
                window.lasting(now)
            })
        })
    }

    fn windows(&mut self, country: u16, now: Timestamp) -> impl Iterator<Item = (Scope, &mut Window)> {
        let limit = self.limits.countries.get(&country).copied().or(self.limits.country_day);
        let started = self.started;
        let in_country = limit.map(|limit| {
            let window = || Window::new(DAY, limit, started);
            (Scope::Country(country), self.countries.entry(country).or_insert_with(window))
        });
        let hour = self.hour.as_mut().map(|window| (Scope::Hour, window));
        let day = self.day.as_mut().map(|window| (Scope::Day, window));
        [hour, day, in_country].into_iter().flatten().map(move |(scope, window)| {
            window.turn(now);
            (scope, window)
        })
    }
}

impl Reservation {
    pub(crate) const fn cost(&self) -> u64 {
        self.cost
    }
}

impl Window {
    /// The window in which a process starts: what has passed of it counts as spent.
    fn new(length: Duration, limit: u64, now: Timestamp) -> Self {
        let begin = begin(length, now);
        let passed = now.since(begin).as_secs_f64() / length.as_secs_f64();
        Self { length, limit, begin, spent: (limit as f64 * passed).ceil() as u64, is_alarmed: passed >= 0.5 }
    }

    fn left(&self) -> u64 {
        self.limit.saturating_sub(self.spent)
    }

    fn lasting(&self, now: Timestamp) -> Left {
        let end = self.begin.saturating_add(self.length);
        Left { amount: self.left(), lasts: end.since(now).clamp(LASTS_MIN, HOUR) }
    }

    /// Begins the next window when it is time. A clock that is set back begins none.
    fn turn(&mut self, now: Timestamp) {
        let begin = begin(self.length, now);
        if begin > self.begin {
            *self = Self { begin, spent: 0, is_alarmed: false, ..*self };
        }
    }
}

fn begin(length: Duration, now: Timestamp) -> Timestamp {
    let length = length.as_micros() as u64;
    Timestamp::from_micros(now.as_micros() / length * length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The begin of a day.
    const MIDNIGHT: Timestamp = Timestamp::from_millis(1_610_668_800_000);

    fn after(seconds: u64) -> Timestamp {
        MIDNIGHT.saturating_add(Duration::from_secs(seconds))
    }

    fn limits(hour: u64, day: u64) -> Limits {
        Limits { hour: Some(hour), day: Some(day), ..Limits::default() }
    }

    #[test]
    fn it_stops_at_the_limit_and_says_until_when() {
        let mut budget = Budget::new(limits(100, 150), MIDNIGHT);
        budget.reserve(49, 90, after(1)).unwrap();
        let over = budget.reserve(49, 20, after(1)).unwrap_err();
        assert_eq!(over, Exhausted { scope: Scope::Hour, until: after(3_600) });
        budget.reserve(49, 10, after(1)).unwrap();
        budget.reserve(49, 50, after(3_600)).unwrap();
        let over = budget.reserve(49, 1, after(3_600)).unwrap_err();
        assert_eq!(over, Exhausted { scope: Scope::Day, until: after(86_400) });
        budget.reserve(49, 0, after(3_600)).unwrap();
        budget.reserve(49, 100, after(86_400)).unwrap();
    }

    #[test]
    fn a_country_has_a_day_of_its_own() {
        let countries = HashMap::from([(7, 0)]);
        let mut budget =
            Budget::new(Limits { country_day: Some(10), countries, ..Limits::default() }, MIDNIGHT);
        budget.reserve(49, 10, after(1)).unwrap();
        assert_eq!(budget.reserve(49, 1, after(1)).unwrap_err().scope, Scope::Country(49));
        budget.reserve(1, 1, after(1)).unwrap();
        assert_eq!(budget.reserve(7, 1, after(1)).unwrap_err().scope, Scope::Country(7));
    }

    #[test]
    fn what_was_not_sent_comes_back_to_its_own_window_only() {
        let mut budget = Budget::new(limits(100, 1_000), MIDNIGHT);
        let early = budget.reserve(49, 100, after(1)).unwrap();
        budget.release(early, after(2));
        let late = budget.reserve(49, 100, after(3)).unwrap();
        budget.reserve(49, 60, after(3_601)).unwrap();
        budget.release(late, after(3_602));
        assert_eq!(budget.left(after(3_602)), (Some(40), Some(940)));
    }

    #[test]
    fn half_is_told_once_in_each_window() {
        let mut budget = Budget::new(limits(100, 1_000), MIDNIGHT);
        budget.reserve(49, 49, after(1)).unwrap();
        assert_eq!(budget.alarm(49, after(1)), None);
        budget.reserve(49, 1, after(1)).unwrap();
        assert_eq!(budget.alarm(49, after(1)), Some(Scope::Hour));
        assert_eq!(budget.alarm(49, after(2)), None);
        budget.reserve(49, 60, after(3_600)).unwrap();
        assert_eq!(budget.alarm(49, after(3_600)), Some(Scope::Hour));
    }

    #[test]
    fn a_process_that_starts_late_gets_the_rest_only() {
        let mut budget = Budget::new(limits(100, 2_400), after(1_800));
        assert_eq!(budget.left(after(1_800)), (Some(50), Some(2_350)));
        assert_eq!(budget.left(after(3_600)).0, Some(100));
    }

    #[test]
    fn money_lasts_for_the_hour_and_a_days_money_for_an_hour() {
        let mut budget = Budget::new(limits(100, 2_400), MIDNIGHT);
        let lasts = |seconds| Duration::from_secs(seconds);
        let [hour, day] = budget.lasting(after(900));
        assert_eq!(hour, Some(Left { amount: 100, lasts: lasts(2_700) }));
        assert_eq!(day, Some(Left { amount: 2_400, lasts: lasts(3_600) }));
        let [hour, day] = budget.lasting(after(86_399));
        assert_eq!(hour, Some(Left { amount: 100, lasts: LASTS_MIN }));
        assert_eq!(day, Some(Left { amount: 2_400, lasts: LASTS_MIN }));
        assert_eq!(budget.left_in(49, after(0)), None);
    }

    proptest! {
        /// Whatever is reserved and given back, a window never pays more than its limit.
        #[test]
        fn no_window_is_overspent(steps in prop::collection::vec((0u64..4_000, 0u64..40, any::<bool>()), 1..200)) {
            let mut budget = Budget::new(limits(100, 250), MIDNIGHT);
            let (mut now, mut paid) = (0, Vec::new());
            for (wait, cost, is_sent) in steps {
                now += wait;
                match budget.reserve(49, cost, after(now)) {
                    Ok(reservation) if is_sent => paid.push((now, reservation.cost())),
                    Ok(reservation) => budget.release(reservation, after(now)),
                    Err(exhausted) => prop_assert!(exhausted.until > after(now)),
                }
            }
            for (length, limit) in [(3_600, 100), (86_400, 250)] {
                let mut spent = HashMap::<u64, u64>::new();
                paid.iter().for_each(|(at, cost)| *spent.entry(at / length).or_default() += cost);
                prop_assert!(spent.values().all(|spent| *spent <= limit), "{spent:?}");
            }
        }
    }
}
