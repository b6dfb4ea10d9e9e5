//! What a call is worth: eight tiers, and 128 cohorts within each.
//!
//! A [`Level`] is decided once, at the edge, and travels with every call made inside for the same reason: a task of four
//! calls that each survive an overload with probability p by their own lot survives with p^4 (DAGOR, SoCC '18).

pub(crate) mod cohort;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The class of a call. Lower is more important.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tier {
    /// Health, status, drain.
    Exempt = 0,
    /// Acks, receipts, delivery on an open stream. First of all, because it frees what the server holds.
    Ack = 1,
    /// Resuming a stream. Without it nothing is received.
    Resume = 2,
    /// Sends, and key fetches caused by a send.
    Send = 3,
    /// Discovery, profiles, keys, device changes.
    Lookup = 4,
    /// Finishing an admitted sign-up. Before starting one, because a text message has been paid for.
    FinishSignUp = 5,
    /// Starting an admitted sign-up.
    StartSignUp = 6,
    /// Presence, typing, telemetry.
    Background = 7,
}

/// Whether a call of a tier may wait for a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queueing {
    Always,
    /// In overload for CoDel's target only, and first to be pushed out. Not at all would be worse for everybody: what the
    /// least important do not take between two arrivals of others stays empty.
    Briefly,
    Never,
}

/// A row of the table of classes.
#[derive(Debug)]
pub struct TierSpec {
    pub tier: Tier,
    /// In metrics, headers and on the admin page.
    pub name: &'static str,
    /// The share of what is admitted that is this tier's when all tiers are in overload, 0 to 1. What a tier leaves
    /// of it goes to the others, the most important first.
    pub floor: f64,
    /// The longest wait for a seat.
    pub queue_age: Duration,
    /// The wait is at most a third of the time that the caller has left. Uber's Cinnamon uses the same third.
    pub queue_age_third: bool,
    pub queueing: Queueing,
    /// In overload the caller who came last is served first: who came before has probably given up. Between users
    /// only; the calls of one flow keep their order.
    pub newest_first: bool,
    /// The shortest and longest pause that a refused caller is told, before jitter.
    pub pushback: (Duration, Duration),
    /// The deadline of a call that names none, from its arrival.
    pub deadline: Duration,
}

/// The classes. Floors, ages and pauses are those of the design, which has them from `reference/overload.md` b.2
/// and b.7. Floors add up to 0.9: the rest goes by strict priority.
pub static TIERS: [TierSpec; Tier::COUNT] = [
    TierSpec {
        tier: Tier::Exempt,
        name: "exempt",
        floor: 0.0,
        queue_age: Duration::ZERO,
        queue_age_third: false,
        queueing: Queueing::Never,
        newest_first: false,
        pushback: (Duration::from_millis(100), Duration::from_secs(5)),
        deadline: Duration::from_secs(10),
    },
    TierSpec {
        tier: Tier::Ack,
        name: "ack",
        floor: 0.5,
        queue_age: Duration::from_millis(500),
        queue_age_third: true,
        queueing: Queueing::Always,
        newest_first: false,
        pushback: (Duration::from_millis(100), Duration::from_secs(5)),
        deadline: Duration::from_secs(10),
    },
    TierSpec {
        tier: Tier::Resume,
        name: "resume",
        floor: 0.1,
        queue_age: Duration::from_millis(250),
        queue_age_third: false,
        queueing: Queueing::Always,
        newest_first: true,
        pushback: (Duration::from_secs(1), Duration::from_secs(60)),
        deadline: Duration::from_secs(15),
    },
    TierSpec {
        tier: Tier::Send,
        name: "send",
        floor: 0.2,
        queue_age: Duration::from_millis(250),
        queue_age_third: true,
        queueing: Queueing::Always,
        newest_first: true,
        pushback: (Duration::from_millis(500), Duration::from_secs(30)),
        deadline: Duration::from_secs(10),
    },
    TierSpec {
        tier: Tier::Lookup,
        name: "lookup",
        floor: 0.05,
        queue_age: Duration::from_millis(100),
        queue_age_third: false,
        queueing: Queueing::Always,
        newest_first: true,
        pushback: (Duration::from_secs(5), Duration::from_secs(300)),
        deadline: Duration::from_secs(5),
    },
    TierSpec {
        tier: Tier::FinishSignUp,
        name: "finish_sign_up",
        floor: 0.03,
        queue_age: Duration::from_millis(100),
        queue_age_third: false,
        queueing: Queueing::Always,
        newest_first: false,
        pushback: (Duration::from_secs(2), Duration::from_secs(60)),
        deadline: Duration::from_secs(15),
    },
    TierSpec {
        tier: Tier::StartSignUp,
        name: "start_sign_up",
        floor: 0.02,
        queue_age: Duration::from_millis(100),
        queue_age_third: false,
        queueing: Queueing::Briefly,
        newest_first: false,
        pushback: (Duration::from_secs(5), Duration::from_secs(300)),
        deadline: Duration::from_secs(15),
    },
    TierSpec {
        tier: Tier::Background,
        name: "background",
        floor: 0.0,
        queue_age: Duration::from_millis(100),
        queue_age_third: false,
        queueing: Queueing::Briefly,
        newest_first: false,
        pushback: (Duration::from_secs(5), Duration::from_secs(300)),
        deadline: Duration::from_secs(5),
    },
];

/// No deadline is later than this after a call's arrival, whatever the caller asks for.
pub const DEADLINE_MAX: Duration = Duration::from_secs(30);

impl Tier {
    pub const COUNT: usize = 8;

    pub const ALL: [Self; Self::COUNT] = [
        Self::Exempt,
        Self::Ack,
        Self::Resume,
        Self::Send,
        Self::Lookup,
        Self::FinishSignUp,
        Self::StartSignUp,
        Self::Background,
    ];

    pub fn spec(self) -> &'static TierSpec {
        &TIERS[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// `None` above 7.
    pub fn from_index(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }

    /// When a call must be answered, on the clock of `arrived`: what the caller told, at most [`DEADLINE_MAX`]; the
    /// tier's own time when it told nothing.
    pub fn deadline(self, arrived: Duration, told: Option<Duration>) -> Duration {
        arrived.saturating_add(told.unwrap_or(self.spec().deadline).min(DEADLINE_MAX))
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Tier and cohort in one number, `tier << 7 | cohort`, 0 to 1023. Lower is more important.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u16);

/// What came as a level is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a level is a number from 0 to {}, in decimal and without a sign", Level::COUNT - 1)]
pub struct NoLevel;

impl Level {
    pub const COUNT: usize = Tier::COUNT << COHORT_BITS;
    pub const COHORTS: u8 = 1 << COHORT_BITS;
    /// Above every level of tier 0: what an exempt call becomes when the exempt seats are taken.
    pub(crate) const FIRST_COUNTED: Self = Self((Tier::Ack as u16) << COHORT_BITS);

    /// Cohorts above 127 count as 127.
    pub const fn new(tier: Tier, cohort: u8) -> Self {
        let cohort = if cohort < Self::COHORTS { cohort } else { Self::COHORTS - 1 };
        Self((tier as u16) << COHORT_BITS | cohort as u16)
    }

    /// The level of a sign-up, by its place in the waiting room: 0 has waited longest, 1 came last. Not by lot,
    /// because who has waited longer must not be overtaken.
    pub fn of_place(tier: Tier, place: f64) -> Self {
        let cohort = (place.clamp(0.0, 1.0) * f64::from(Self::COHORTS)) as u8;
        Self::new(tier, cohort)
    }

    pub const fn tier(self) -> Tier {
        Tier::ALL[(self.0 >> COHORT_BITS) as usize]
    }

    pub const fn cohort(self) -> u8 {
        (self.0 & (Self::COHORTS as u16 - 1)) as u8
    }

    /// The same caller's level for a call of another tier.
    #[must_use]
    pub const fn with_tier(self, tier: Tier) -> Self {
        Self::new(tier, self.cohort())
    }

    /// Where the gate puts what a user asks for beyond a fair share: behind all users of the tier, whose last cohort shares
    /// a place with the one before.
    pub(crate) const fn excess(tier: Tier) -> Self {
        Self::new(tier, Self::COHORTS - 1)
    }

    pub(crate) const fn before_excess(self) -> Self {
        if self.cohort() == Self::COHORTS - 1 { Self(self.0 - 1) } else { self }
    }

    pub const fn value(self) -> u16 {
        self.0
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

const COHORT_BITS: usize = 7;

impl TryFrom<u16> for Level {
    type Error = NoLevel;

    fn try_from(value: u16) -> Result<Self, NoLevel> {
        if usize::from(value) < Self::COUNT { Ok(Self(value)) } else { Err(NoLevel) }
    }
}

/// As the value of a metadata entry.
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Level {
    type Err = NoLevel;

    fn from_str(text: &str) -> Result<Self, NoLevel> {
        // `u16::from_str` takes a plus sign and any number of zeros.
        if text.len() > 4 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NoLevel);
        }
        text.parse::<u16>().map_err(|_| NoLevel)?.try_into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_are_in_order_and_leave_a_tenth_to_strict_priority() {
        for (index, spec) in TIERS.iter().enumerate() {
            assert_eq!(spec.tier as usize, index);
            assert_eq!(Tier::from_index(index), Some(spec.tier));
            assert!(spec.pushback.0 <= spec.pushback.1, "{}", spec.name);
        }
        assert_eq!(Tier::from_index(8), None);
        let floors = TIERS.iter().map(|spec| spec.floor).sum::<f64>();
        assert!((floors - 0.9).abs() < 1e-9, "{floors}");
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for text in ["", "-1", "+7", "1024", "00001", "7 ", "0x1", "99999999"] {
            assert_eq!(text.parse::<Level>(), Err(NoLevel), "{text:?}");
        }
    }

    #[test]
    fn a_deadline_of_zero_none_or_a_year_is_bounded() {
        let arrived = Duration::from_secs(100);
        assert_eq!(Tier::Send.deadline(arrived, Some(Duration::ZERO)), arrived);
        assert_eq!(Tier::Send.deadline(arrived, None), arrived + Duration::from_secs(10));
        assert_eq!(Tier::Send.deadline(arrived, Some(Duration::MAX)), arrived + DEADLINE_MAX);
    }

    #[test]
    fn who_has_waited_longer_in_the_room_comes_first() {
        let level = |place| Level::of_place(Tier::StartSignUp, place);
        assert!(level(0.0) < level(0.01) && level(0.01) < level(0.5) && level(0.5) < level(1.0));
        assert_eq!(level(f64::NAN).cohort(), 0);
        assert_eq!(level(7.0).cohort(), 127);
    }

    proptest! {
        #[test]
        fn a_level_survives_the_wire(value in 0u16..1024) {
            let level = Level::try_from(value).unwrap();
            prop_assert_eq!(level.to_string().parse(), Ok(level));
            prop_assert_eq!(Level::new(level.tier(), level.cohort()), level);
        }
    }
}
