//! How control moves the frontier. `reference/overload.md` b.10:
//!
//! ```text
//! A     = min(provider, budget, countries, store, gateways), or what the operator says
//! sigma = share of the called who claim within 120 s, 0.7 at the start, within 0.3..1
//! pace  = A / sigma                                     places a second
//! owed  = sum of A dt - claims seen - claims to come     seats
//! speed = (A + owed / 5 s) / sigma
//! F    += speed dt, not beyond the last number given out
//! ```
//!
//! `owed` is what keeps the sum right: a wrong sigma calls too many for some seconds, their claims come, and fewer are called until it is made
//! good. The other way round, no more than half a second's worth is ever owed, because a seat that nobody took a minute ago is not there any
//! more. That is a tenth of A while sigma is too high, which it is by some per cent while people leave, being half a minute old; and never more than
//! one hundredth of a minute's seats at once.
//!
//! Frozen while existing users (tiers up to 4) have been refused for more than five seconds, until they have not been for as long; then a quarter of
//! A, a quarter more every ten seconds.
//!
//! A new holder of the lease goes on from the last frontier that was published ([`Steering::resume`]). Time between ticks counts for two
//! seconds at most, so neither a pause nor a leap of the clock lets a crowd in.

use std::ops::RangeInclusive;
use std::time::Duration;

use spillway_types::Timestamp;

use crate::frontier::gaps::Gaps;
use crate::frontier::show_up::{Claimed, ShowUp};
use crate::frontier::{Frontier, Mode};
use crate::order::lottery::Pool;
use crate::presence::{Crowd, Presence};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SteeringConfig {
    /// Sigma before anything is known.
    pub show_up_start: f64,
    pub show_up_min: f64,
    pub show_up_max: f64,
    /// How long existing users must have been refused, or not refused.
    pub freeze_after: Duration,
    /// The share of A after a freeze.
    pub slow_start: f64,
    pub slow_start_factor: f64,
    pub slow_start_every: Duration,
    /// Seats a second when control has been silent for a minute. Little, because nobody adds them up any more.
    pub floor: f64,
}

/// Seats a second that each of them has; infinite where there is no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// What the settings allow.
    pub setting: f64,
    /// What verification providers take.
    pub provider: f64,
    /// What the budget for messages allows.
    pub budget: f64,
    pub countries: Vec<Country>,
    /// What the store can write beside what it writes.
    pub store: f64,
    /// What gateways and workers have to spare: mu (floor5 + floor6) + spare / 2.
    pub gateways: f64,
}

/// Which of the [`Limits`] is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Unlimited,
    Setting,
    Provider,
    Budget,
    Country,
    Store,
    Gateways,
}

/// A country's budget. Nobody is asked for a number before he is admitted, so the country with the least budget for its share of the
/// sign-ups bounds all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Country {
    /// Of the sign-ups of late, from 0 to 1. Those below a fiftieth do not count here: they are refused when their number is known.
    pub share: f64,
    /// Seats a second.
    pub budget: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Operator {
    #[default]
    Auto,
    Freeze,
    /// Everybody is let in at once.
    Open,
    /// Seats a second, whatever the limits say. Existing users still go first.
    Rate(f64),
}

/// What control has learnt since the last tick.
#[derive(Clone, Debug)]
pub struct Tick<'a> {
    /// Monotonic.
    pub now: Duration,
    /// Only passed on.
    pub at: Timestamp,
    pub limits: &'a Limits,
    /// Whether existing users are being refused: rho > 0 for a tier up to 4.
    pub refusing: bool,
    /// The highest number that gateways have given out.
    pub issued: u64,
    /// Numbers that nobody will have.
    pub abandoned: &'a [RangeInclusive<u64>],
    pub claimed: &'a [Claimed],
}

/// Moves the frontier. Ticked each second by whoever holds the lease.
#[derive(Clone, Debug)]
pub struct Steering {
    config: SteeringConfig,
    operator: Operator,
    last: Frontier,
    ticked: Option<Duration>,
    /// Of a place: what the last advance could not use.
    fraction: f64,
    gaps: Gaps,
    show_up: ShowUp,
    owed: Owed,
    freeze: Freeze,
    /// The first number of a lottery that has not been drawn.
    awaiting: Option<u64>,
    marked: Option<Duration>,
}

/// Seats.
#[derive(Clone, Copy, Debug, Default)]
struct Owed {
    /// Sum of A dt, and of claims.
    granted: f64,
    claimed: f64,
}

#[derive(Clone, Copy, Debug)]
struct Freeze {
    frozen: bool,
    /// How long it has been otherwise than `frozen` says.
    otherwise: Duration,
    /// The share of A that slow start allows, and since when.
    allowed: f64,
    raised: Duration,
}

const DT_MAX: Duration = Duration::from_secs(2);
const OWED_MAX: Duration = Duration::from_millis(500);
/// Seconds in which what is owed is made good.
const SETTLES_IN: f64 = 5.0;
const COUNTRY_SHARE_MIN: f64 = 0.02;
const MARK_EVERY: Duration = Duration::from_secs(600);
/// Seats a second where nothing is limited: more than any fleet has.
const RATE_MAX: f64 = 1e6;

impl Default for SteeringConfig {
    fn default() -> Self {
        Self {
            show_up_start: 0.7,
            show_up_min: 0.3,
            show_up_max: 1.0,
            freeze_after: Duration::from_secs(5),
            slow_start: 0.25,
            slow_start_factor: 1.25,
            slow_start_every: Duration::from_secs(10),
            floor: 1.0,
        }
    }
}

impl Limits {
    pub const NONE: Limits = Limits {
        setting: f64::INFINITY,
        provider: f64::INFINITY,
        budget: f64::INFINITY,
        countries: Vec::new(),
        store: f64::INFINITY,
        gateways: f64::INFINITY,
    };

    /// Seats a second: A. Never negative; what is not a number is no seat.
    pub fn rate(&self) -> f64 {
        self.least().1
    }

    /// A, and what bounds it; of equal ones, the first.
    pub fn least(&self) -> (Bound, f64) {
        let countries = self.countries.iter().filter(|country| country.share >= COUNTRY_SHARE_MIN);
        let countries = countries.map(|country| (Bound::Country, country.budget / country.share));
        let limits = [
            (Bound::Setting, self.setting),
            (Bound::Provider, self.provider),
            (Bound::Budget, self.budget),
            (Bound::Store, self.store),
            (Bound::Gateways, self.gateways),
        ];
        let usable =
            |(bound, limit): (Bound, f64)| (bound, if limit.is_nan() { 0.0 } else { limit.max(0.0) });
        limits
            .into_iter()
            .chain(countries)
            .map(usable)
            .fold((Bound::Unlimited, RATE_MAX), |least, limit| if limit.1 < least.1 { limit } else { least })
    }
}

impl Steering {
    /// A room that nobody has entered.
    pub fn new(config: SteeringConfig, epoch: u64) -> Self {
        Self::resume(config, epoch, &Frontier::NONE)
    }

    /// The holder of the lease with the fencing token `epoch`, after `last` was published by the holder before.
    pub fn resume(config: SteeringConfig, epoch: u64, last: &Frontier) -> Self {
        let start = if last.number == 0 { config.show_up_start } else { last.show_up };
        let mut gaps = Gaps::default();
        last.pool.into_iter().for_each(|pool| gaps.draw(pool));
        Self {
            config,
            operator: match last.mode {
                // What the operator has said holds until he says otherwise, also over a change of holder.
                Mode::Stopped => Operator::Freeze,
                Mode::Open => Operator::Open,
                Mode::Paced | Mode::Overload | Mode::NotOpen => Operator::Auto,
            },
            last: Frontier { epoch, ..*last },
            ticked: None,
            fraction: 0.0,
            gaps,
            show_up: ShowUp::new(start, config.show_up_min, config.show_up_max),
            owed: Owed::default(),
            freeze: Freeze {
                frozen: last.mode == Mode::Overload,
                otherwise: Duration::ZERO,
                allowed: 1.0,
                raised: Duration::ZERO,
            },
            awaiting: last.pool.filter(|pool| pool.count == 0).map(|pool| pool.first),
            marked: None,
        }
    }

    pub fn steer(&mut self, operator: Operator) {
        self.operator = operator;
    }

    pub const fn operator(&self) -> Operator {
        self.operator
    }

    /// Opens a lottery, one in the life of a room: the frontier stays below `first`, the number that is lent next, until it is drawn.
    pub fn await_draw(&mut self, first: u64) {
        let first = first.max(self.last.f + 1);
        self.awaiting = Some(first);
        self.last.pool = Some(Pool { first, count: 0 });
    }

    /// The first number of the lottery that is open.
    pub const fn awaits(&self) -> Option<u64> {
        self.awaiting
    }

    /// The lottery of this room, open or drawn.
    pub const fn pool(&self) -> Option<Pool> {
        self.last.pool
    }

    /// Draws it. `last`: the highest number lent while it was open. Every block of it must be over, because from now on its places are mixed.
    /// `None` if nobody came.
    pub fn draw(&mut self, last: u64) -> Option<Pool> {
        let first = self.awaiting.take()?;
        let pool = Pool { first, count: (last + 1).saturating_sub(first) };
        if pool.count == 0 {
            self.last.pool = None;
            return None;
        }
        self.gaps.draw(pool);
        self.last.pool = Some(pool);
        Some(pool)
    }

    /// What is published now.
    pub fn tick(&mut self, tick: &Tick<'_>) -> Frontier {
        let dt = self.ticked.map_or(Duration::ZERO, |before| tick.now.saturating_sub(before).min(DT_MAX));
        self.ticked = Some(tick.now);
        let issued = self.last.issued.max(tick.issued);
        for range in tick.abandoned {
            let passed = self.gaps.add(range, self.last.f);
            self.show_up.recall(passed);
        }
        let (f, called) = self.advance(issued, dt);
        let waiting = f < self.limit(issued);
        self.show_up.tick(self.last.number, called, !waiting, tick.claimed);
        let share = self.show_up.share();
        let mode = self.mode(tick, dt);
        let rate = match self.operator {
            Operator::Rate(rate) if rate >= 0.0 => rate.min(RATE_MAX),
            _ => tick.limits.rate(),
        } * self.freeze.allowed;
        let owed = self.owe(tick, dt, waiting);
        let speed = match mode {
            Mode::Overload | Mode::Stopped | Mode::NotOpen => 0.0,
            Mode::Open => RATE_MAX,
            Mode::Paced => ((rate + owed / SETTLES_IN) / share).max(0.0),
        };
        self.last = Frontier {
            epoch: self.last.epoch,
            number: self.last.number + 1,
            at: tick.at,
            f,
            speed,
            rate,
            show_up: share,
            floor: self.config.floor.min(rate) / share,
            mode,
            issued,
            pool: self.last.pool,
            marks: self.mark(tick.now, f),
        };
        self.last
    }

    /// Who waits, for the estimate: `presence` is of all gateways together. `nobody`: numbers that nobody has, although it is too early to pass them
    /// ([`crate::Blocks::skipped`]).
    pub fn crowd(&self, presence: &Presence, nobody: Option<&RangeInclusive<u64>>) -> Crowd {
        // In a drawn pool numbers are not places, and its gaps are known.
        let pool = self.last.pool.filter(|pool| pool.count > 0);
        let nobody = nobody.map(|nobody| match pool {
            Some(pool) if pool.contains(*nobody.start()) => pool.last() + 1..=*nobody.end(),
            _ => nobody.clone(),
        });
        Crowd::new(&self.last, presence, nobody.as_ref(), |from, to| self.gaps.held(from, to))
    }

    /// At the speed that was published, as gateways have gone on too.
    fn advance(&mut self, issued: u64, dt: Duration) -> (u64, f64) {
        let step = match self.last.mode {
            Mode::Overload | Mode::Stopped | Mode::NotOpen => 0.0,
            Mode::Open => f64::MAX,
            Mode::Paced => self.last.speed * dt.as_secs_f64() + self.fraction,
        };
        let advance = self.gaps.advance(self.last.f, step, self.limit(issued));
        // Seats of a time in which nobody waited are gone.
        self.fraction = if advance.left < 1.0 { advance.left } else { 0.0 };
        (advance.f, advance.called)
    }

    fn limit(&self, issued: u64) -> u64 {
        self.awaiting.map_or(issued, |first| issued.min(first - 1)).max(self.last.f)
    }

    fn mode(&mut self, tick: &Tick<'_>, dt: Duration) -> Mode {
        let freeze = &mut self.freeze;
        freeze.otherwise =
            if tick.refusing == freeze.frozen { Duration::ZERO } else { freeze.otherwise + dt };
        if freeze.otherwise > self.config.freeze_after {
            freeze.frozen = tick.refusing;
            freeze.otherwise = Duration::ZERO;
            (freeze.allowed, freeze.raised) = (self.config.slow_start, tick.now);
        }
        if freeze.allowed < 1.0 && !freeze.frozen {
            let since = tick.now.saturating_sub(freeze.raised);
            if since >= self.config.slow_start_every {
                freeze.allowed = (freeze.allowed * self.config.slow_start_factor).min(1.0);
                freeze.raised = tick.now;
            }
        }
        match self.operator {
            Operator::Freeze => Mode::Stopped,
            _ if self.awaiting.is_some() => Mode::NotOpen,
            Operator::Open => Mode::Open,
            _ if freeze.frozen => Mode::Overload,
            Operator::Auto | Operator::Rate(_) => Mode::Paced,
        }
    }

    /// Seats that are owed to those who wait; negative when too many were called.
    fn owe(&mut self, tick: &Tick<'_>, dt: Duration, waiting: bool) -> f64 {
        let claims: u64 = tick.claimed.iter().map(|claimed| claimed.count).sum();
        self.owed.granted += self.last.rate * dt.as_secs_f64();
        self.owed.claimed += claims as f64;
        // Late ones are in it when they come: they take seats of now.
        let taken = self.owed.claimed + self.show_up.to_come();
        match self.last.mode {
            // Who was let in by the operator is no debt of those who come after.
            Mode::Open => self.owed.granted = taken,
            Mode::Paced if waiting => {}
            // Nobody waits, or nobody is let in: nothing is owed. What was called too much stays so.
            _ => self.owed.granted = self.owed.granted.min(taken),
        }
        let most = taken + self.last.rate * OWED_MAX.as_secs_f64();
        self.owed.granted = self.owed.granted.min(most);
        self.owed.granted - taken
    }

    fn mark(&mut self, now: Duration, f: u64) -> [u64; 4] {
        let [newest, second, third, oldest] = self.last.marks;
        let since = *self.marked.get_or_insert(now);
        if now.saturating_sub(since) < MARK_EVERY {
            return [newest, second, third, oldest];
        }
        self.marked = Some(now);
        [f, newest, second, third]
    }
}
