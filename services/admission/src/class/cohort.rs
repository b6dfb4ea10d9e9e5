//! Which of the 128 cohorts a user is in.

use std::hash::Hasher;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::class::Level;

/// How users are spread over the cohorts of a tier.
///
/// Stable, not a coin toss for each call: a user who is refused gains nothing by asking again, and one who is admitted
/// can finish what they began. It changes once an hour, so that nobody is the last for longer; for each user at
/// another time of the hour, so that there is no moment at which everybody's luck changes (`reference/overload.md`
/// b.2; DAGOR rotates hourly, all at once).
#[derive(Clone, Debug)]
pub struct Cohorts {
    key: (u64, u64),
    period_s: u64,
}

/// A keyed hash of a user's id. Also tells flows and fair shares apart, so that no id has to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User(pub u64);

impl Cohorts {
    /// All processes of a fleet must have the same key and period. The key keeps outsiders from choosing ids that
    /// share a cohort or a queue. Periods shorter than a second count as one.
    pub fn new(key: u128, period: Duration) -> Self {
        Self { key: ((key >> 64) as u64, key as u64), period_s: period.as_secs().max(1) }
    }

    pub fn user(&self, id: &[u8]) -> User {
        let mut hasher = self.hasher();
        hasher.write(id);
        User(hasher.finish())
    }

    /// A user's cohort at `unix`, the time since 1970: the one use of wall time, because processes must agree on it.
    pub fn cohort(&self, user: User, unix: Duration) -> u8 {
        let epoch = (unix.as_secs() + user.0 % self.period_s) / self.period_s;
        let mut hasher = self.hasher();
        hasher.write_u64(user.0);
        hasher.write_u64(epoch);
        (hasher.finish() & u64::from(Level::COHORTS - 1)) as u8
    }

    fn hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.key.0, self.key.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn cohorts() -> Cohorts {
        Cohorts::new(7, HOUR)
    }

    #[test]
    fn a_user_stays_for_the_period_and_then_moves() {
        let cohorts = cohorts();
        let now = 1_700_000_000;
        let mut moves_at = Vec::new();
        for id in 0u64..2_000 {
            let user = cohorts.user(&id.to_be_bytes());
            let at = |second| cohorts.cohort(user, Duration::from_secs(now + second));
            let changes: Vec<u64> = (1..=3600).filter(|&second| at(second) != at(second - 1)).collect();
            assert!(changes.len() <= 1, "user {id} moved at {changes:?}");
            moves_at.extend(changes);
        }
        assert!(moves_at.len() > 1_900, "127 of 128 land elsewhere: {}", moves_at.len());
        // Spread over the hour: no minute has more than four times its share.
        let in_minute = |minute| moves_at.iter().filter(|&&second| second / 60 == minute).count();
        assert!((0..60).all(|minute| in_minute(minute) < 4 * 2_000 / 60));
    }

    #[test]
    fn cohorts_are_of_equal_size_and_the_key_matters() {
        let (cohorts, other) = (cohorts(), Cohorts::new(8, HOUR));
        let mut sizes = [0u32; 128];
        let mut same = 0;
        for id in 0u64..128_000 {
            let (one, two) = (cohorts.user(&id.to_be_bytes()), other.user(&id.to_be_bytes()));
            let cohort = cohorts.cohort(one, HOUR);
            sizes[usize::from(cohort)] += 1;
            same += u32::from(cohort == other.cohort(two, HOUR));
        }
        // 1000 each with a deviation of 31.6: 5 of them.
        assert!(sizes.iter().all(|&size| size.abs_diff(1_000) < 160), "{sizes:?}");
        assert!(same.abs_diff(1_000) < 160, "{same}");
    }
}
