//! Callers who come back before they were told to.
//!
//! A client that retries at once and for ever asks as often as it is answered: ten times a second over a telephone's
//! network. Ten thousand of them cost more in refusals than a gateway has, and nothing that they are told changes it. What does:
//! not to read what they say for a while, which costs nothing, or to keep the answer back until the caller was to come, which costs
//! memory and no processor. Here is who they are; what is done about them is the port's business.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::class::Tier;
use crate::class::cohort::User;

/// Until when whom of the refused was told to wait. Bounded, lossy, lock-free: of two users in one place the later one is
/// remembered, and whoever is forgotten is answered at once.
#[derive(Debug)]
pub struct Deaf {
    /// A [`Told`] each.
    places: Box<[AtomicU64]>,
}

/// When a caller who is refused was told to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// With another call of the tier ([`hold_back`](crate::HoldBack)). Not sooner.
    pub others: Duration,
    /// With the same ([`Pushback`](crate::Pushback)). Who is known not to listen is not heard before.
    pub same: Duration,
}

/// No refusal is kept back for longer. What is answered later than this, proxies and people take for lost.
pub const HOLD_MAX: Duration = Duration::from_secs(2);

/// Kept from the caller's deadline, so that the answer arrives before it: a mobile network's way and some more.
const MARGIN: Duration = Duration::from_millis(100);

/// What arrives so soon after its caller was told was under way before he heard it: a mobile network's round trip.
const UNDER_WAY: Duration = Duration::from_millis(250);

/// Who came early, and comes again within so long of when he was to come, is known to be deaf.
const REMEMBERED: Duration = Duration::from_secs(10);

impl Deaf {
    /// 8 bytes for each place; as many places as users that are refused at a time, or some fewer.
    pub fn new(places: usize) -> Self {
        Self { places: (0..places.max(1)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// A call of this user and tier is refused. When it came before he was told to come: how much before. Once he may: clients that
    /// listen ask now and then whether it is over ([`HeldBack`](crate::HeldBack)).
    pub fn refused(&self, user: User, tier: Tier, now: Duration, pauses: Pauses) -> Option<Duration> {
        let hash = mix(user.0 ^ (tier as u64).rotate_left(32));
        let place = &self.places[(hash % self.places.len() as u64) as usize];
        let known = Told::from_bits(place.load(Relaxed)).filter(|told| told.hash == Told::part(hash));
        let remember = |told: Told| place.store(told.bits(), Relaxed);
        match known {
            Some(told) if now < told.until() && told.deaf => {
                // Told already; being told again later would never end.
                Some(told.until() - now)
            }
            Some(told) if now < told.until() && now < told.at + UNDER_WAY => None,
            Some(told) if now < told.until() && !told.asked => {
                remember(Told { asked: true, pause: pauses.others, at: now, ..told });
                None
            }
            Some(told) if now < told.until() => {
                let told = Told { deaf: true, pause: pauses.same.max(told.pause), ..told };
                remember(told);
                Some(told.until() - now)
            }
            _ => {
                let deaf = known.is_some_and(|told| told.deaf && now < told.until() + REMEMBERED);
                let pause = if deaf { pauses.same } else { pauses.others };
                remember(Told { hash: Told::part(hash), deaf, asked: false, pause, at: now });
                None
            }
        }
    }
}

/// For how long to keep back the refusal of who came so much too `early`, with so much `left` until his deadline.
pub fn held_for(early: Duration, left: Duration) -> Duration {
    early.min(HOLD_MAX).min(left.saturating_sub(MARGIN))
}

/// Who was told what. 64 bits: 15 of the user's hash, whether he is deaf, whether he has come early once, 16 of the pause in units of 8 ms (8 minutes), and 31
/// of the clock in milliseconds (24 days); later times count as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    hash: u16,
    deaf: bool,
    asked: bool,
    pause: Duration,
    at: Duration,
}

impl Told {
    const PAUSE_UNIT: Duration = Duration::from_millis(8);

    const fn part(hash: u64) -> u16 {
        (hash >> 49) as u16
    }

    fn until(&self) -> Duration {
        self.at + self.pause
    }

    fn bits(&self) -> u64 {
        // Down, so that nobody is early who comes when he was told to.
        let pause = (self.pause.as_millis() / Self::PAUSE_UNIT.as_millis()).try_into().unwrap_or(u16::MAX);
        let at = u64::try_from(self.at.as_millis()).unwrap_or(u64::MAX).min(MILLIS_MAX);
        u64::from(self.hash) << 49
            | u64::from(self.deaf) << 48
            | u64::from(self.asked) << 47
            | u64::from(pause) << 31
            | at
    }

    /// Nobody was told anything at time 0.
    fn from_bits(bits: u64) -> Option<Self> {
        (bits != 0).then(|| Self {
            hash: (bits >> 49) as u16,
            deaf: bits >> 48 & 1 == 1,
            asked: bits >> 47 & 1 == 1,
            pause: Self::PAUSE_UNIT * ((bits >> 31) as u16).into(),
            at: Duration::from_millis(bits & MILLIS_MAX),
        })
    }
}

const MILLIS_MAX: u64 = (1 << 31) - 1;

/// SplitMix64's finaliser.
const fn mix(number: u64) -> u64 {
    let z = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Duration = Duration::from_secs(100);
    const FIVE: Pauses = Pauses { others: Duration::from_secs(5), same: Duration::from_secs(5) };

    #[test]
    fn only_who_comes_too_early_again_waits() {
        let deaf = Deaf::new(1_000);
        let refused = |user, now| deaf.refused(User(user), Tier::Send, now, FIVE);
        assert_eq!(625 * Told::PAUSE_UNIT, 5 * SECOND);
        assert_eq!(refused(1, NOW), None, "the first time");
        assert_eq!(refused(1, NOW + UNDER_WAY / 2), None, "he cannot have heard it");
        let asked = NOW + 2 * SECOND;
        assert_eq!(refused(1, asked), None, "he asks whether it is over, and is told anew");
        assert_eq!(refused(1, asked + UNDER_WAY / 2), None);
        assert_eq!(refused(1, asked + 4 * SECOND), Some(SECOND), "until he was to come back");
        assert_eq!(refused(1, asked + 2 * SECOND), Some(3 * SECOND));
        assert_eq!(refused(2, asked + SECOND), None, "somebody else");
        assert_eq!(refused(1, asked + 5 * SECOND), None, "when he was told to");
        assert_eq!(
            refused(1, asked + 5 * SECOND + UNDER_WAY / 2),
            Some(5 * SECOND - UNDER_WAY / 2),
            "and then he was told again"
        );
        assert_eq!(refused(1, NOW + 40 * SECOND), None);
        assert_eq!(refused(1, NOW + 40 * SECOND + UNDER_WAY / 2), None, "long ago");
    }

    /// As the reference client does.
    #[test]
    fn who_asks_once_and_then_waits_is_never_deaf() {
        let deaf = Deaf::new(1_000);
        for n in 0..100 {
            let told = NOW + 10 * n * SECOND;
            assert_eq!(deaf.refused(User(1), Tier::Send, told, FIVE), None);
            assert_eq!(deaf.refused(User(1), Tier::Send, told + 5 * SECOND / 2, FIVE), None, "probe {n}");
        }
    }

    #[test]
    fn who_is_known_not_to_listen_waits_for_longer() {
        let deaf = Deaf::new(1_000);
        let pauses = Pauses { others: SECOND, same: 8 * SECOND };
        let refused = |after| deaf.refused(User(1), Tier::Send, NOW + after, pauses);
        assert_eq!(refused(Duration::ZERO), None);
        assert_eq!(refused(SECOND), None, "when he was told to");
        assert_eq!(refused(3 * SECOND / 2), None, "early, once");
        assert_eq!(refused(2 * SECOND), Some(15 * SECOND / 2), "twice");
        assert_eq!(refused(19 * SECOND / 2), None, "after the longer pause");
        assert_eq!(refused(21 * SECOND / 2), Some(7 * SECOND), "and is held to it");
    }

    #[test]
    fn the_answer_comes_before_the_deadline_and_before_it_is_taken_for_lost() {
        assert_eq!(held_for(60 * SECOND, SECOND), SECOND - MARGIN);
        assert_eq!(held_for(60 * SECOND, Duration::ZERO), Duration::ZERO);
        assert_eq!(held_for(60 * SECOND, 60 * SECOND), HOLD_MAX);
        assert_eq!(held_for(SECOND, 60 * SECOND), SECOND);
    }

    #[test]
    fn tiers_are_told_apart_and_ten_million_users_take_no_more_room() {
        let deaf = Deaf::new(64);
        let refused = |user, tier, now| deaf.refused(User(user), tier, now, FIVE);
        refused(1, Tier::Ack, NOW);
        assert_eq!(refused(1, Tier::Lookup, NOW + SECOND / 2), None);
        for user in 0..100_000 {
            refused(user, Tier::Send, NOW);
        }
        assert_eq!(deaf.places.len(), 64);
    }

    proptest! {
        #[test]
        fn who_comes_when_he_was_told_to_is_not_early(at_us in 1u64..1_000_000_000, pause_us in 100_000u64..900_000_000) {
            let (at, pause) = (Duration::from_micros(at_us), Duration::from_micros(pause_us));
            let deaf = Deaf::new(1);
            let pauses = Pauses { others: pause, same: 2 * pause };
            prop_assert_eq!(deaf.refused(User(1), Tier::Send, at, pauses), None);
            prop_assert_eq!(deaf.refused(User(1), Tier::Send, at + pause, pauses), None);
        }

        #[test]
        fn a_place_keeps_what_was_told(
            hash in 0u16..1 << 15,
            deaf: bool,
            asked: bool,
            pause in 0u16..,
            at_ms in 0..MILLIS_MAX,
        ) {
            let told = Told { hash, deaf, asked, pause: Told::PAUSE_UNIT * pause.into(), at: Duration::from_millis(at_ms) };
            prop_assert_eq!(Told::from_bits(told.bits()), (told.bits() != 0).then_some(told));
        }
    }
}
