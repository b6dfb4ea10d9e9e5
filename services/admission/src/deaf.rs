//! Callers who come back before they were told to.
//!
//! A client that retries at once and for ever asks as often as it is answered: ten times a second over a telephone's
//! network. Ten thousand of them cost more in refusals than a gateway has, and nothing that they are told changes it. What does:
//! the answer. A refusal that is kept back until the caller was to come back costs memory for that time and no
//! processor, and the deaf are as slow as those who listen.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::class::Tier;
use crate::class::cohort::User;

/// Until when whom of the refused was told to wait. Bounded, lossy, lock-free: of two users in one place the later one is
/// remembered, and whoever is forgotten is answered at once.
#[derive(Debug)]
pub struct Deaf {
    /// The upper bits of a user's hash, and the milliseconds of the clock below them.
    places: Box<[AtomicU64]>,
}

/// Milliseconds of 24 days; later times count as that.
const MILLIS_BITS: u32 = 31;

/// No refusal is kept back for longer. What is answered later than this, proxies and people take for lost.
pub const HOLD_MAX: Duration = Duration::from_secs(2);

/// Kept from the caller's deadline, so that the answer arrives before it: a mobile network's way and some more.
const MARGIN: Duration = Duration::from_millis(100);

impl Deaf {
    /// 8 bytes for each place; as many places as users that are refused at a time, or some fewer.
    pub fn new(places: usize) -> Self {
        Self { places: (0..places.max(1)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// A call of this user and tier is refused, and the caller is told to come back in `pause`. Answers how long to keep the
    /// refusal back: not at all when the caller comes for the first time, or when it was due. `left`: until its deadline.
    pub fn refused(
        &self,
        user: User,
        tier: Tier,
        now: Duration,
        pause: Duration,
        left: Duration,
    ) -> Duration {
        let hash = mix(user.0 ^ (tier as u64).rotate_left(32));
        let place = &self.places[(hash % self.places.len() as u64) as usize];
        let known = place.load(Relaxed);
        let until = Duration::from_millis(known & MILLIS_MAX);
        if known >> MILLIS_BITS == hash >> MILLIS_BITS && now < until {
            // Told already; being told again later would never end.
            return (until - now).min(HOLD_MAX).min(left.saturating_sub(MARGIN));
        }
        let until = u64::try_from((now + pause).as_millis()).unwrap_or(u64::MAX).min(MILLIS_MAX);
        place.store(hash >> MILLIS_BITS << MILLIS_BITS | until, Relaxed);
        Duration::ZERO
    }
}

const MILLIS_MAX: u64 = (1 << MILLIS_BITS) - 1;

/// SplitMix64's finaliser.
const fn mix(number: u64) -> u64 {
    let z = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn only_who_comes_too_early_waits() {
        let deaf = Deaf::new(1_000);
        let refused = |user, now| deaf.refused(User(user), Tier::Send, now, 5 * SECOND, 10 * SECOND);
        assert_eq!(refused(1, NOW), Duration::ZERO, "the first time");
        assert_eq!(refused(1, NOW + 4 * SECOND), SECOND, "until it was to come back");
        assert_eq!(refused(1, NOW + 2 * SECOND), HOLD_MAX);
        assert_eq!(refused(2, NOW + SECOND), Duration::ZERO, "somebody else");
        assert_eq!(refused(1, NOW + 5 * SECOND), Duration::ZERO, "when it was told to");
        assert_eq!(refused(1, NOW + 6 * SECOND), HOLD_MAX, "and then it was told again");
    }

    #[test]
    fn the_answer_comes_before_the_deadline() {
        let deaf = Deaf::new(10);
        let refused = |left| deaf.refused(User(1), Tier::Ack, NOW, 60 * SECOND, left);
        assert_eq!(refused(SECOND), Duration::ZERO);
        assert_eq!(refused(SECOND), SECOND - MARGIN);
        assert_eq!(refused(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn tiers_are_told_apart_and_ten_million_users_take_no_more_room() {
        let deaf = Deaf::new(64);
        let refused = |user, tier| deaf.refused(User(user), tier, NOW, SECOND, SECOND);
        refused(1, Tier::Ack);
        assert_eq!(refused(1, Tier::Lookup), Duration::ZERO);
        for user in 0..100_000 {
            refused(user, Tier::Send);
        }
        assert_eq!(deaf.places.len(), 64);
    }
}
