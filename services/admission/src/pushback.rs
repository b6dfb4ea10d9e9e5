//! Refusals, and when the refused may come back.
//!
//! Clients wait exactly as long as they are told (gRFC A6), so the pause decides what load comes back: M waiting clients
//! told to wait D return at M/D calls a second. D is chosen so that they are a tenth of what the tier is granted, and
//! drawn from D to 2 D for each, because whoever is told the same time comes back at the same time.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyperloglockless::AtomicHyperLogLog;
use rand::Rng;

use crate::class::cohort::User;
use crate::class::{Level, Tier};

/// Why a call is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// The gate: more is offered than can be served, and others are more important.
    Overload = 0,
    /// The tier is switched off by the brownout ladder.
    Brownout = 1,
    /// No seat, and no place to wait for one.
    QueueFull = 2,
    /// It waited for a seat until a more important call needed its place.
    PushedOut = 3,
    /// It waited for a seat as long as its tier may.
    QueueAge = 4,
    /// Its deadline has passed, or would pass before an answer is likely.
    Deadline = 5,
}

impl Reason {
    pub const COUNT: usize = 6;

    pub const ALL: [Self; Self::COUNT] =
        [Self::Overload, Self::Brownout, Self::QueueFull, Self::PushedOut, Self::QueueAge, Self::Deadline];

    /// In metrics and details of an error.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overload => "overload",
            Self::Brownout => "brownout",
            Self::QueueFull => "queue_full",
            Self::PushedOut => "pushed_out",
            Self::QueueAge => "queue_age",
            Self::Deadline => "deadline",
        }
    }
}

/// A call that is not served. Nothing has been done for it, so repeating it is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub level: Level,
    pause: Duration,
}

/// What a refused caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushback {
    /// For `RetryInfo`: when the user may try again.
    pub retry_info: Duration,
    /// For `grpc-retry-pushback-ms`: what the library may do within the call.
    pub in_call: InCall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InCall {
    RetryAfter(Duration),
    /// It would not fit before the deadline, so that a waiting library would report a timeout instead of the reason; or
    /// the tier is not to be retried at all.
    DoNotRetry,
}

impl InCall {
    /// The header's value, in milliseconds; -1 forbids.
    pub fn millis(self) -> i64 {
        match self {
            Self::RetryAfter(pause) => i64::try_from(pause.as_millis()).unwrap_or(i64::MAX),
            Self::DoNotRetry => -1,
        }
    }
}

impl Refusal {
    pub(crate) const fn new(reason: Reason, level: Level, pause: Duration) -> Self {
        Self { reason, level, pause }
    }

    /// What to tell a caller whose deadline is `left` away; `None` when the deadline was the reason. Drawn anew at each
    /// call, so ask once.
    pub fn pushback(&self, left: Duration, rng: &mut impl Rng) -> Option<Pushback> {
        if self.reason == Reason::Deadline {
            return None;
        }
        let retry_info = self.pause.mul_f64(rng.random_range(1.0..=2.0));
        let retried = !matches!(self.level.tier(), Tier::StartSignUp | Tier::Background);
        let in_call =
            if retried && retry_info < left { InCall::RetryAfter(retry_info) } else { InCall::DoNotRetry };
        Some(Pushback { retry_info, in_call })
    }
}

/// Counts who is refused. Lock-free.
#[derive(Debug)]
pub(crate) struct Waiting {
    tiers: [ArcSwap<AtomicHyperLogLog<Unhashed>>; Tier::COUNT],
    /// Microseconds.
    pauses: [AtomicU64; Tier::COUNT],
}

/// Turns counts into pauses, once a tick.
#[derive(Debug)]
pub(crate) struct Sizer {
    tiers: [Sized; Tier::COUNT],
}

#[derive(Debug)]
struct Sized {
    previous: Arc<AtomicHyperLogLog<Unhashed>>,
    rotated: Duration,
    /// Seats granted a second, over the last seconds.
    granted: f64,
    distinct: f64,
}

/// Users are hashes already.
type Unhashed = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// 4096 registers of a byte: a standard error of 1.6 %.
const PRECISION: u8 = 12;
/// Refused users are counted for at least this long, and for twice the pause they were told.
const COUNTED_FOR: Duration = Duration::from_secs(60);
/// Weight of a tick in what is granted: a time constant of 2 s.
const GRANTED_WEIGHT: f64 = 0.05;

impl Waiting {
    pub(crate) fn new() -> Self {
        Self {
            tiers: array::from_fn(|_| ArcSwap::from(empty())),
            pauses: Tier::ALL.map(|tier| AtomicU64::new(micros(tier.spec().pushback.0))),
        }
    }

    pub(crate) fn refuse(&self, reason: Reason, level: Level, user: User) -> Refusal {
        let tier = level.tier() as usize;
        if reason != Reason::Deadline {
            // The finaliser of SplitMix64, because whoever counts users from 1 has no hash in them.
            let mut hash = user.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            self.tiers[tier].load().insert_hash(hash ^ (hash >> 31));
        }
        Refusal::new(reason, level, Duration::from_micros(self.pauses[tier].load(Relaxed)))
    }
}

impl Sizer {
    pub(crate) fn new() -> Self {
        let sized = |_| Sized { previous: empty(), rotated: Duration::ZERO, granted: 0.0, distinct: 0.0 };
        Self { tiers: array::from_fn(sized) }
    }

    /// `granted`: seats of each tier that were taken in this tick. `share`: what the returning load may be of it.
    pub(crate) fn tick(
        &mut self,
        now: Duration,
        tick: Duration,
        waiting: &Waiting,
        granted: &[u64; Tier::COUNT],
        share: f64,
    ) {
        let tick_s = tick.as_secs_f64().max(1e-3);
        for (tier, sized) in Tier::ALL.into_iter().zip(&mut self.tiers) {
            let (pause, current) = (&waiting.pauses[tier as usize], &waiting.tiers[tier as usize]);
            sized.granted += GRANTED_WEIGHT * (granted[tier as usize] as f64 / tick_s - sized.granted);
            sized.distinct = union(&current.load(), &sized.previous);
            let (shortest, longest) = tier.spec().pushback;
            // At a capacity of nothing the longest pause is right; a call a second keeps the division finite.
            let seconds = sized.distinct / (share * sized.granted.max(1.0));
            let told = Duration::from_secs_f64(seconds.min(1e6)).clamp(shortest, longest);
            pause.store(micros(told), Relaxed);
            // Two generations, so that between one half and the whole of the time is counted.
            let half = COUNTED_FOR.max(told * 2) / 2;
            if now.saturating_sub(sized.rotated) >= half {
                sized.rotated = now;
                sized.previous = current.swap(empty());
            }
        }
    }

    /// About how many users of a tier have been refused lately.
    pub(crate) fn distinct(&self, tier: Tier) -> f64 {
        self.tiers[tier as usize].distinct
    }
}

fn empty() -> Arc<AtomicHyperLogLog<Unhashed>> {
    Arc::new(AtomicHyperLogLog::with_hasher(PRECISION, Unhashed::default()))
}

fn union(one: &AtomicHyperLogLog<Unhashed>, other: &AtomicHyperLogLog<Unhashed>) -> f64 {
    let (one_count, other_count) = (one.raw_count(), other.raw_count());
    // Empty ones count a fraction of a user.
    match (one_count < 0.5, other_count < 0.5) {
        (true, true) => 0.0,
        (false, true) => one_count,
        (true, false) => other_count,
        (false, false) => {
            let both = one.clone();
            both.union(other).map_or(one_count.max(other_count), |()| both.raw_count())
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    const TICK: Duration = Duration::from_millis(100);
    const LEVEL: Level = Level::new(Tier::Send, 5);

    /// Ticks for 20 s with this many users refused, and `granted` seats a second.
    fn refusal(users: u64, granted: u64) -> Refusal {
        let (waiting, mut sizer) = (Waiting::new(), Sizer::new());
        for user in 0..users {
            waiting.refuse(Reason::Overload, LEVEL, User(user));
        }
        for tick in 1..=200 {
            let granted = [granted / 10; Tier::COUNT];
            sizer.tick(TICK * tick, TICK, &waiting, &granted, 0.1);
        }
        waiting.refuse(Reason::Overload, LEVEL, User(0))
    }

    #[test]
    fn the_returning_load_is_a_tenth_of_what_is_granted() {
        // The example of reference/overload.md b.8: 10,000 users on 20,000 seats/s wait 5 s.
        let pause = refusal(10_000, 20_000).pause.as_secs_f64();
        assert!((4.7..5.3).contains(&pause), "{pause}");
        assert_eq!(refusal(1_000_000, 20_000).pause, Duration::from_secs(30), "the longest of a send");
        assert_eq!(refusal(1, 20_000).pause, Duration::from_millis(500), "the shortest");
    }

    #[test]
    fn who_was_refused_long_ago_waits_no_more() {
        let (waiting, mut sizer) = (Waiting::new(), Sizer::new());
        for user in 0..1_000 {
            waiting.refuse(Reason::Overload, LEVEL, User(user));
        }
        let mut counts = Vec::new();
        for tick in 0..1_300 {
            sizer.tick(TICK * tick, TICK, &waiting, &[1_000; Tier::COUNT], 0.1);
            counts.push(sizer.distinct(Tier::Send));
        }
        assert!((950.0..1_050.0).contains(&counts[250]), "{}", counts[250]);
        assert_eq!(counts[1_299], 0.0);
        assert_eq!(sizer.distinct(Tier::Ack), 0.0);
    }

    proptest! {
        #[test]
        fn a_retry_in_the_call_fits_before_its_deadline(users in 0u64..3_000, left_ms in 0u64..40_000, seed: u64) {
            let left = Duration::from_millis(left_ms);
            let refusal = refusal(users, 1_000);
            let told = refusal.pushback(left, &mut SmallRng::seed_from_u64(seed)).unwrap();
            prop_assert!(told.retry_info >= refusal.pause && told.retry_info <= refusal.pause * 2);
            match told.in_call {
                InCall::RetryAfter(pause) => prop_assert!(pause == told.retry_info && pause < left),
                InCall::DoNotRetry => prop_assert!(told.retry_info >= left && told.in_call.millis() == -1),
            }
        }
    }

    #[test]
    fn jitter_is_even_over_the_range() {
        let mut rng = SmallRng::seed_from_u64(1);
        let refusal = refusal(10_000, 20_000);
        let mut quarters = [0; 4];
        for _ in 0..4_000 {
            let told = refusal.pushback(Duration::MAX, &mut rng).unwrap().retry_info;
            quarters[((told.div_duration_f64(refusal.pause) - 1.0) * 3.9999) as usize] += 1;
        }
        assert!(quarters.iter().all(|&count: &i32| count.abs_diff(1_000) < 150), "{quarters:?}");
    }

    #[test]
    fn background_and_the_waiting_room_are_not_retried_and_the_doomed_told_nothing() {
        let mut rng = SmallRng::seed_from_u64(1);
        for tier in [Tier::StartSignUp, Tier::Background] {
            let refusal = Refusal::new(Reason::Overload, Level::new(tier, 0), Duration::from_secs(5));
            let told = refusal.pushback(Duration::from_secs(60), &mut rng).unwrap();
            assert_eq!(told.in_call, InCall::DoNotRetry);
            assert!(told.retry_info >= Duration::from_secs(5));
        }
        assert_eq!(Refusal::new(Reason::Deadline, LEVEL, TICK).pushback(Duration::MAX, &mut rng), None);
    }
}
