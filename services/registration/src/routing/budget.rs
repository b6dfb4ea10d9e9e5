//! Money: what codes may cost in an hour, in a day, and in a day in one country.
//!
//! The amounts are the whole fleet's. How much of each has been lent is written in the store ([`super::ledger`]); a process borrows a small share,
//! spends it, borrows again when half of it is left, and gives back what is more than it needs: a share is a sixty-fourth of the window's amount,
//! and an eighth of what nobody has borrowed if that is less, so that the last of it is not held by those who do not need it.
//!
//! It fails closed. What is not borrowed is not spent, whatever has become of the ledger; money counts as spent from before the call, and only
//! a code that certainly was not sent gives it back; what a process that crashed had borrowed stays lent until its window ends. Windows are
//! those of the clock in UTC.

use std::collections::HashMap;
use std::time::Duration;

use spillway_types::Timestamp;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// What is left at the end of a window may not go in one moment.
const LASTS_MIN: Duration = Duration::from_secs(10);
/// Of a window's amount.
const SHARES: u64 = 64;
/// Of what nobody has borrowed.
const PARTS_OF_THE_REST: u64 = 8;
/// How long a code waits for a share that is being borrowed: some writes to the store.
const BORROWED_IN: Duration = Duration::from_millis(100);
/// What was borrowed for a code that does not come again.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// Where the rest is with others, who may give some of it back.
const GIVEN_BACK_IN: Duration = Duration::from_secs(60);

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
    /// Borrowed by this process.
    pub(crate) own: u64,
    /// Borrowed by nobody, as far as is known.
    pub(crate) shared: u64,
    pub(crate) lasts: Duration,
}

/// There is not enough left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    pub(crate) scope: Scope,
    /// When its next window begins, or when a share may have been borrowed, or given back.
    pub(crate) until: Timestamp,
    /// There is some, which has to be borrowed.
    pub(crate) is_short: bool,
}

/// Money for one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    country: u16,
    cost: u64,
    at: Timestamp,
}

/// What is to be asked of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) scope: Scope,
    pub(crate) begin: Timestamp,
    pub(crate) length: Duration,
    pub(crate) limit: u64,
    pub(crate) change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// This much, or what there is.
    Borrow(u64),
    /// It cannot be spent here any more.
    GiveBack(u64),
    /// How much has nobody borrowed?
    Look,
}

#[derive(Debug)]
pub(crate) struct Budget {
    hour: Option<Window>,
    day: Option<Window>,
    /// At most one for each country calling code.
    countries: HashMap<u16, Window>,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    length: Duration,
    limit: u64,
    begin: Timestamp,
    /// Borrowed, and not given back.
    lent: u64,
    spent: u64,
    /// What nobody has borrowed, as the ledger said last in this window.
    unlent: Option<u64>,
    /// The dearest code that has waited for what has to be borrowed since one was paid for, and when it last asked; 0 if none does. What it needs is kept
    /// for it.
    short: u64,
    short_at: Timestamp,
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
        }
    }

    /// Whether a code of this cost can be paid for in this country, or why not; of several reasons the one that lasts longest.
    pub(crate) fn room(&mut self, country: u16, cost: u64, now: Timestamp) -> Result<(), Exhausted> {
        if cost == 0 {
            return Ok(());
        }
        let mut exhausted: Option<Exhausted> = None;
        for (scope, window) in self.windows(country, now) {
            if window.left() >= cost {
                continue;
            }
            let is_short = window.may_pay(cost);
            if is_short {
                window.short = window.short.max(cost);
                window.short_at = now;
            }
            let until = match is_short {
                true => now.saturating_add(BORROWED_IN),
                false if window.others_hold() => window.end().min(now.saturating_add(GIVEN_BACK_IN)),
                false => window.end(),
            };
            if exhausted.is_none_or(|found| found.until < until) {
                exhausted = Some(Exhausted { scope, until, is_short });
            }
        }
        exhausted.map_or(Ok(()), Err)
    }

    /// # Errors
    ///
    /// When it would exceed what was borrowed; the window that lasts longest. Nothing is reserved then.
    pub(crate) fn reserve(
        &mut self,
        country: u16,
        cost: u64,
        now: Timestamp,
    ) -> Result<Reservation, Exhausted> {
        self.room(country, cost, now)?;
        for (_, window) in self.windows(country, now) {
            window.spent = window.spent.saturating_add(cost);
            window.short = 0;
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

    /// What the ledger is to be asked now. What is given back is gone from here. `look`: also where nothing has to change.
    pub(crate) fn needs(&mut self, look: bool, now: Timestamp) -> Vec<Need> {
        self.all(now).filter_map(|(scope, window)| window.need(scope, look, now)).collect()
    }

    /// Whether something should be borrowed soon for codes to this country.
    pub(crate) fn is_low(&mut self, country: u16, now: Timestamp) -> bool {
        self.windows(country, now).any(|(_, window)| window.wants() > 0)
    }

    /// The ledger has answered: this much was borrowed, and this much is left in it.
    pub(crate) fn settled(&mut self, need: &Need, granted: u64, unlent: u64, now: Timestamp) {
        let windows = self.all(now).find(|(scope, _)| *scope == need.scope);
        if let Some((_, window)) = windows.filter(|(_, window)| window.begin == need.begin) {
            window.lent = window.lent.saturating_add(granted);
            window.unlent = Some(unlent);
            if !window.may_pay(window.short) {
                window.short = 0;
            }
        }
    }

    /// The ledger has not answered.
    pub(crate) fn unsettled(&mut self, need: &Need, now: Timestamp) {
        if let Some((_, window)) = self.all(now).find(|(scope, _)| *scope == need.scope) {
            window.unlent = None;
        }
    }

    /// Everything that is left here, to be given back. Nothing can be spent any more until something is borrowed.
    pub(crate) fn give_back(&mut self, now: Timestamp) -> Vec<Need> {
        let all = self.all(now).filter(|(_, window)| window.left() > 0);
        all.map(|(scope, window)| window.give_back(scope, window.left())).collect()
    }

    /// A limit of which half has been spent, or is held by other processes; told once in each window.
    pub(crate) fn alarm(&mut self, country: u16, now: Timestamp) -> Option<Scope> {
        let is_due = |window: &Window| !window.is_alarmed && window.is_half_gone();
        let (scope, window) = self.windows(country, now).find(|(_, window)| is_due(window))?;
        window.is_alarmed = true;
        Some(scope)
    }

    /// What all may spend in an hour and in a day.
    pub(crate) fn sizes(&self) -> (Option<u64>, Option<u64>) {
        (self.limits.hour, self.limits.day)
    }

    /// What is left of the hour and of the day, without what other processes have borrowed.
    pub(crate) fn left(&mut self, now: Timestamp) -> (Option<u64>, Option<u64>) {
        let [hour, day] = self.lasting(now);
        let all = |left: Option<Left>| left.map(|left| left.own.saturating_add(left.shared));
        (all(hour), all(day))
    }

    /// Whether the hour or the day certainly pays for no code of this cost any more.
    pub(crate) fn is_spent(&mut self, cost: u64, now: Timestamp) -> bool {
        [&mut self.hour, &mut self.day].into_iter().flatten().any(|window| {
            window.turn(now);
            window.left() < cost && !window.may_pay(cost)
        })
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
        let in_country = limit.map(|limit| {
            let window = || Window::new(DAY, limit, now);
            (Scope::Country(country), self.countries.entry(country).or_insert_with(window))
        });
        let hour = self.hour.as_mut().map(|window| (Scope::Hour, window));
        let day = self.day.as_mut().map(|window| (Scope::Day, window));
        [hour, day, in_country].into_iter().flatten().map(move |(scope, window)| {
            window.turn(now);
            (scope, window)
        })
    }

    /// Those of the countries, too, to which there was a code since the start.
    fn all(&mut self, now: Timestamp) -> impl Iterator<Item = (Scope, &mut Window)> {
        let hour = self.hour.as_mut().map(|window| (Scope::Hour, window));
        let day = self.day.as_mut().map(|window| (Scope::Day, window));
        let countries = self.countries.iter_mut().map(|(country, window)| (Scope::Country(*country), window));
        [hour, day].into_iter().flatten().chain(countries).map(move |(scope, window)| {
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
    fn new(length: Duration, limit: u64, now: Timestamp) -> Self {
        // Of nothing, nobody has borrowed anything.
        let unlent = (limit == 0).then_some(0);
        let begin = begin(length, now);
        Self { length, limit, begin, lent: 0, spent: 0, unlent, short: 0, short_at: now, is_alarmed: false }
    }

    fn left(&self) -> u64 {
        self.lent.saturating_sub(self.spent)
    }

    fn end(&self) -> Timestamp {
        self.begin.saturating_add(self.length)
    }

    /// Whether it may be that enough can be borrowed for a code of this cost.
    fn may_pay(&self, cost: u64) -> bool {
        let most = self.unlent.map_or(self.limit, |unlent| unlent.saturating_add(self.left()));
        most.min(self.limit) >= cost
    }

    /// Whether others have borrowed, as far as is known: spent or not.
    fn others_hold(&self) -> bool {
        self.unlent.is_some_and(|unlent| self.lent.saturating_add(unlent) < self.limit)
    }

    fn share(&self) -> u64 {
        let rest = self.unlent.map_or(u64::MAX, |unlent| unlent / PARTS_OF_THE_REST);
        (self.limit / SHARES).min(rest).max(1)
    }

    /// How much should be borrowed.
    fn wants(&self) -> u64 {
        let left = self.left();
        let has_enough = left >= self.short && left >= self.share().div_ceil(2);
        if has_enough || self.unlent == Some(0) {
            0
        } else {
            self.share().max(self.short).saturating_sub(left)
        }
    }

    fn need(&mut self, scope: Scope, look: bool, now: Timestamp) -> Option<Need> {
        if now.since(self.short_at) > KEPT_FOR {
            self.short = 0;
        }
        let (left, wants) = (self.left(), self.wants());
        let most = self.share().saturating_mul(2).max(self.short);
        if wants > 0 {
            Some(self.ask(scope, Change::Borrow(wants)))
        } else if left > most {
            // It may pay for something together with what others hold in vain.
            Some(self.give_back(scope, left - most / 2))
        } else {
            (look && self.limit > 0).then(|| self.ask(scope, Change::Look))
        }
    }

    fn give_back(&mut self, scope: Scope, amount: u64) -> Need {
        self.lent = self.lent.saturating_sub(amount);
        self.ask(scope, Change::GiveBack(amount))
    }

    fn ask(&self, scope: Scope, change: Change) -> Need {
        let Self { begin, length, limit, .. } = *self;
        Need { scope, begin, length, limit, change }
    }

    fn is_half_gone(&self) -> bool {
        let left = self.unlent.map(|unlent| unlent.saturating_add(self.left()));
        left.is_some_and(|left| self.limit.saturating_sub(left) >= self.limit.div_ceil(2))
    }

    fn lasting(&self, now: Timestamp) -> Left {
        let lasts = self.end().since(now).clamp(LASTS_MIN, HOUR);
        Left { own: self.left(), shared: self.unlent.unwrap_or(0), lasts }
    }

    /// Begins the next window when it is time: nothing is borrowed in it yet. A clock that is set back begins none.
    fn turn(&mut self, now: Timestamp) {
        if begin(self.length, now) > self.begin {
            *self = Self::new(self.length, self.limit, now);
        }
    }
}

fn begin(length: Duration, now: Timestamp) -> Timestamp {
    let length = length.as_micros() as u64;
    Timestamp::from_micros(now.as_micros() / length * length)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;
    use spillway_store::leases::Lease;

    use super::super::ledger::{Entry, Step};
    use super::*;

    /// The begin of a day.
    const MIDNIGHT: Timestamp = Timestamp::from_millis(1_610_668_800_000);

    fn after(seconds: u64) -> Timestamp {
        MIDNIGHT.saturating_add(Duration::from_secs(seconds))
    }

    fn limits(hour: u64, day: u64) -> Limits {
        Limits { hour: Some(hour), day: Some(day), ..Limits::default() }
    }

    /// The store's registers.
    #[derive(Debug, Default)]
    struct Registers(RefCell<HashMap<Scope, Lease>>);

    impl Registers {
        /// `is_lost`: the answer is, and what was asked happens.
        fn settle(&self, budget: &mut Budget, need: &Need, is_lost: bool, now: Timestamp) {
            let mut registers = self.0.borrow_mut();
            let found = registers.get(&need.scope).map(Entry::of);
            let (granted, unlent) = match Entry::step(found, need, 0, now) {
                Step::Write { entry, granted, unlent } => {
                    registers.insert(need.scope, entry.to_lease());
                    (granted, unlent)
                }
                Step::Keep { unlent } => (0, unlent),
            };
            if is_lost {
                budget.unsettled(need, now);
            } else {
                budget.settled(need, granted, unlent, now);
            }
        }

        /// Until nothing more has to be asked.
        fn settle_all(&self, budget: &mut Budget, now: Timestamp) {
            for _ in 0..100 {
                let needs = budget.needs(false, now);
                if needs.is_empty() {
                    return;
                }
                needs.iter().for_each(|need| self.settle(budget, need, false, now));
            }
            panic!("{budget:?} goes on asking");
        }

        fn reserve(
            &self,
            budget: &mut Budget,
            country: u16,
            cost: u64,
            now: Timestamp,
        ) -> Result<Reservation, Exhausted> {
            for _ in 0..100 {
                match budget.reserve(country, cost, now) {
                    Err(Exhausted { is_short: true, .. }) => self.settle_all(budget, now),
                    other => return other,
                }
            }
            panic!("{budget:?} is short for ever")
        }
    }

    /// A ledger that has been in use before this day.
    fn used(limits: &Limits) -> Registers {
        let registers = Registers::default();
        let yesterday = MIDNIGHT.saturating_sub(DAY);
        let mut budget = Budget::new(limits.clone(), yesterday);
        for country in [49, 1, 7] {
            registers.reserve(&mut budget, country, 1, yesterday).ok();
        }
        registers
    }

    #[test]
    fn it_stops_at_the_limit_and_says_until_when() {
        let limits = limits(100, 150);
        let (ledger, mut budget) = (used(&limits), Budget::new(limits, MIDNIGHT));
        let mut reserve = |cost, now| ledger.reserve(&mut budget, 49, cost, now);
        reserve(90, after(1)).unwrap();
        let over = reserve(20, after(1)).unwrap_err();
        assert_eq!((over.scope, over.until), (Scope::Hour, after(3_600)));
        reserve(10, after(1)).unwrap();
        reserve(50, after(3_600)).unwrap();
        let over = reserve(1, after(3_600)).unwrap_err();
        assert_eq!((over.scope, over.until), (Scope::Day, after(86_400)));
        reserve(0, after(3_600)).unwrap();
        reserve(100, after(86_400)).unwrap();
    }

    #[test]
    fn nothing_is_spent_that_was_not_borrowed() {
        let mut budget = Budget::new(limits(100, 150), MIDNIGHT);
        let short = budget.reserve(49, 1, after(1)).unwrap_err();
        assert!(short.is_short && short.until < after(2), "{short:?}");
        assert!(!budget.is_spent(1, after(1)));
        assert_eq!(budget.lasting(after(1)).map(|left| left.unwrap().own), [0, 0]);
        let never = budget.reserve(49, 101, after(1)).unwrap_err();
        assert_eq!((never.is_short, never.until), (false, after(3_600)));
    }

    #[test]
    fn a_country_has_a_day_of_its_own() {
        let countries = HashMap::from([(7, 0)]);
        let limits = Limits { country_day: Some(10), countries, ..Limits::default() };
        let (ledger, mut budget) = (used(&limits), Budget::new(limits, MIDNIGHT));
        let mut reserve = |country, cost| ledger.reserve(&mut budget, country, cost, after(1));
        reserve(49, 10).unwrap();
        assert_eq!(reserve(49, 1).unwrap_err().scope, Scope::Country(49));
        reserve(1, 1).unwrap();
        assert_eq!(reserve(7, 1).unwrap_err().scope, Scope::Country(7));
    }

    #[test]
    fn what_was_not_sent_comes_back_to_its_own_window_only() {
        let limits = limits(100, 1_000);
        let (ledger, mut budget) = (used(&limits), Budget::new(limits, MIDNIGHT));
        let early = ledger.reserve(&mut budget, 49, 100, after(1)).unwrap();
        budget.release(early, after(2));
        let late = ledger.reserve(&mut budget, 49, 100, after(3)).unwrap();
        ledger.reserve(&mut budget, 49, 60, after(3_601)).unwrap();
        budget.release(late, after(3_602));
        assert_eq!(budget.left(after(3_602)), (Some(40), Some(940)));
    }

    #[test]
    fn half_is_told_once_in_each_window_whoever_has_spent_it() {
        let limits = limits(100, 1_000);
        let (ledger, mut budget) = (used(&limits), Budget::new(limits.clone(), MIDNIGHT));
        ledger.reserve(&mut budget, 49, 49, after(1)).unwrap();
        assert_eq!(budget.alarm(49, after(1)), None);
        ledger.reserve(&mut budget, 49, 1, after(1)).unwrap();
        assert_eq!(budget.alarm(49, after(1)), Some(Scope::Hour));
        assert_eq!(budget.alarm(49, after(2)), None);
        let mut other = Budget::new(limits, after(3));
        ledger.settle_all(&mut other, after(3));
        assert_eq!(other.alarm(49, after(3)), Some(Scope::Hour), "it was not the one that spent it");
        ledger.reserve(&mut budget, 49, 60, after(3_600)).unwrap();
        assert_eq!(budget.alarm(49, after(3_600)), Some(Scope::Hour));
    }

    #[test]
    fn a_start_forgets_nothing_and_a_new_ledger_takes_what_has_passed_as_spent() {
        let limits = limits(6_400, 64_000);
        let ledger = used(&limits);
        let mut first = Budget::new(limits.clone(), after(1_800));
        ledger.reserve(&mut first, 49, 6_000, after(1_800)).unwrap();
        first.give_back(after(1_801)).iter().for_each(|need| {
            ledger.settle(&mut Budget::new(limits.clone(), after(1_801)), need, false, after(1_801));
        });
        let mut second = Budget::new(limits.clone(), after(1_802));
        ledger.settle_all(&mut second, after(1_802));
        assert_eq!(second.left(after(1_802)).0, Some(400));
        assert!(ledger.reserve(&mut second, 49, 401, after(1_802)).is_err());
        ledger.reserve(&mut second, 49, 400, after(1_802)).unwrap();

        let (unknown, mut budget) = (Registers::default(), Budget::new(limits, after(1_800)));
        unknown.settle_all(&mut budget, after(1_800));
        assert_eq!(budget.left(after(1_800)), (Some(3_200), Some(64_000 - 64_000 / 48 - 1)));
    }

    #[test]
    fn a_crash_costs_a_share_at_most() {
        let limits = limits(6_400, 64_000);
        let ledger = used(&limits);
        let mut spent = 0;
        for second in 0..10 {
            // Each begins with nothing, and is never heard of again.
            let mut budget = Budget::new(limits.clone(), after(second));
            ledger.reserve(&mut budget, 49, 100, after(second)).unwrap();
            spent += 100;
        }
        let mut last = Budget::new(limits, after(20));
        ledger.settle_all(&mut last, after(20));
        let left = last.left(after(20)).0.unwrap();
        assert!(left >= 6_400 - spent - 10 * 2 * 100, "{left}");
    }

    /// Two hold what pays for a code only together.
    #[test]
    fn what_pays_for_nothing_is_given_to_whom_it_helps() {
        let limits = Limits { day: Some(300), ..Limits::default() };
        let ledger = used(&limits);
        let mut both = [(); 2].map(|()| Budget::new(limits.clone(), after(1)));
        for budget in &mut both {
            let reservation = ledger.reserve(budget, 49, 100, after(1)).unwrap();
            budget.release(reservation, after(1));
        }
        let is_paid = (0..20).any(|round| {
            let budget = &mut both[round % 2];
            let is_paid = budget.reserve(49, 250, after(2)).is_ok();
            budget.needs(true, after(2)).iter().for_each(|need| ledger.settle(budget, need, false, after(2)));
            is_paid
        });
        assert!(is_paid, "{both:?}");
    }

    #[test]
    fn money_lasts_for_the_hour_and_a_days_money_for_an_hour() {
        let limits = limits(100, 2_400);
        let (ledger, mut budget) = (used(&limits), Budget::new(limits, MIDNIGHT));
        let mut lasting = |seconds| {
            ledger.settle_all(&mut budget, after(seconds));
            budget.lasting(after(seconds)).map(|left| left.map(|left| (left.own + left.shared, left.lasts)))
        };
        let lasts = Duration::from_secs;
        assert_eq!(lasting(900), [Some((100, lasts(2_700))), Some((2_400, lasts(3_600)))]);
        assert_eq!(lasting(86_399), [Some((100, LASTS_MIN)), Some((2_400, LASTS_MIN))]);
        assert_eq!(budget.left_in(49, after(0)), None);
    }

    proptest! {
        /// Whatever several processes reserve and give back, whichever answers are lost and whoever crashes: no window pays more than its
        /// limit. And what nobody lost can be spent to within a code.
        #[test]
        fn no_window_is_overspent(
            steps in prop::collection::vec((0..3_usize, 0u64..2_000, 0u64..40, any::<bool>(), 0..20_u8), 1..200),
        ) {
            let limits = limits(100, 250);
            let ledger = used(&limits);
            let mut fleet = [(); 3].map(|()| Budget::new(limits.clone(), MIDNIGHT));
            let (mut now, mut paid, mut lost) = (0, Vec::new(), false);
            for (process, wait, cost, is_sent, luck) in steps {
                now += wait;
                let budget = &mut fleet[process];
                match budget.reserve(49, cost, after(now)) {
                    Ok(reservation) if is_sent => paid.push((now, reservation.cost())),
                    Ok(reservation) => budget.release(reservation, after(now)),
                    Err(exhausted) => prop_assert!(exhausted.until > after(now)),
                }
                for need in budget.needs(luck % 2 == 0, after(now)) {
                    lost |= luck == 1;
                    ledger.settle(budget, &need, luck == 1, after(now));
                }
                if luck == 3 {
                    lost = true;
                    *budget = Budget::new(limits.clone(), after(now));
                }
            }
            for (length, limit) in [(3_600, 100), (86_400, 250)] {
                let mut spent = HashMap::<u64, u64>::new();
                paid.iter().for_each(|(at, cost)| *spent.entry(at / length).or_default() += cost);
                prop_assert!(spent.values().all(|spent| *spent <= limit), "{spent:?}");
            }
            if !lost {
                let before: u64 = paid.iter().filter(|(at, _)| at / 86_400 == now / 86_400).map(|(_, cost)| cost).sum();
                let hour: u64 = paid.iter().filter(|(at, _)| at / 3_600 == now / 3_600).map(|(_, cost)| cost).sum();
                for budget in &mut fleet {
                    for need in budget.give_back(after(now)) {
                        ledger.settle(budget, &need, false, after(now));
                    }
                }
                let mut rest = 0;
                let budget = &mut fleet[0];
                while budget.reserve(49, 1, after(now)).is_ok() || {
                    ledger.settle_all(budget, after(now));
                    budget.reserve(49, 1, after(now)).is_ok()
                } {
                    rest += 1;
                }
                prop_assert_eq!(rest, (100 - hour).min(250 - before));
            }
        }
    }
}
