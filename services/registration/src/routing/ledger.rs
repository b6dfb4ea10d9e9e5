//! How much of a window's amount has been lent, as it is kept in the store: one register for each limit, in the fields of a lease, which is
//! changed only on the condition that nobody else has changed it since.
//!
//! Pure; `dispatch/borrower.rs` reads and writes. A register names its window, and one of the next window replaces it, so nothing has to be cleared away.

use std::time::Duration;

use spillway_store::leases::{FencingToken, HolderId, Lease};
use spillway_types::Timestamp;

use super::budget::{Change, Need, Scope};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    begin: Timestamp,
    lent: u64,
    changes: u64,
    /// Of the write, so that a process knows its own again.
    nonce: u64,
}

/// What has to be done for a need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Write { entry: Entry, granted: u64, unlent: u64 },
    Keep { unlent: u64 },
}

impl Entry {
    pub(crate) fn of(lease: &Lease) -> Self {
        let both = u128::from_be_bytes(lease.holder.0);
        Self {
            begin: Timestamp::from_micros((both >> 64) as u64),
            nonce: both as u64,
            lent: lease.token.0,
            changes: lease.renewal,
        }
    }

    pub(crate) fn to_lease(self) -> Lease {
        let mut holder = [0; 16];
        holder[..8].copy_from_slice(&self.begin.as_micros().to_be_bytes());
        holder[8..].copy_from_slice(&self.nonce.to_be_bytes());
        Lease { holder: HolderId(holder), token: FencingToken(self.lent), renewal: self.changes }
    }

    /// Whether this was written in place of `ours`: it is the next change after what `ours` would have changed, and another one.
    pub(crate) fn came_instead_of(&self, ours: &Self) -> bool {
        self.changes == ours.changes && self.nonce != ours.nonce
    }

    /// What `need` makes of what was found. `nonce`: new for each write.
    ///
    /// Where nothing was ever written, it is not known what was spent before: what has passed of the window counts as spent. A window that is later
    /// than the one needed belongs to whose clocks are ahead, and lends nothing.
    pub(crate) fn step(found: Option<Self>, need: &Need, nonce: u64, now: Timestamp) -> Step {
        let (lent, changes) = match found {
            None => (passed(need, now), 0),
            Some(found) if found.begin > need.begin => return Step::Keep { unlent: 0 },
            Some(found) if found.begin < need.begin => (0, found.changes),
            Some(found) => (found.lent, found.changes),
        };
        let unlent = need.limit.saturating_sub(lent);
        let (lent, granted) = match need.change {
            Change::Borrow(wanted) => {
                let granted = wanted.min(unlent);
                (lent + granted, granted)
            }
            Change::GiveBack(amount) => (lent.saturating_sub(amount), 0),
            Change::Look => (lent, 0),
        };
        let is_same = found.is_some_and(|found| found.begin == need.begin && found.lent == lent);
        if is_same || (need.change == Change::Look && found.is_some()) {
            return Step::Keep { unlent };
        }
        let entry = Self { begin: need.begin, lent, changes: changes.wrapping_add(1), nonce };
        Step::Write { entry, granted, unlent: need.limit.saturating_sub(lent) }
    }
}

/// The register's name in the store.
pub(crate) fn register(scope: Scope) -> String {
    match scope {
        Scope::Hour => "code_budget_hour".to_owned(),
        Scope::Day => "code_budget_day".to_owned(),
        Scope::Country(country) => format!("code_budget_day_{country}"),
    }
}

fn passed(need: &Need, now: Timestamp) -> u64 {
    let passed = now.since(need.begin).min(need.length);
    share_of(need.limit, passed, need.length)
}

/// Rounded up.
fn share_of(amount: u64, part: Duration, of: Duration) -> u64 {
    let product = u128::from(amount) * part.as_micros();
    u64::try_from(product.div_ceil(of.as_micros().max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const BEGIN: Timestamp = Timestamp::from_millis(1_610_668_800_000);

    fn need(change: Change) -> Need {
        Need { scope: Scope::Hour, begin: BEGIN, length: HOUR, limit: 100, change }
    }

    fn entry(begin: Timestamp, lent: u64) -> Entry {
        Entry { begin, lent, changes: 7, nonce: 0x0102_0304_0506_0708 }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let entry = entry(BEGIN, u64::MAX >> 1);
        assert_eq!(Entry::of(&entry.to_lease()), entry);
    }

    #[test]
    fn what_is_lent_is_never_more_than_there_is() {
        let step = |found, change| Entry::step(found, &need(change), 1, BEGIN);
        let Step::Write { entry: first, granted, unlent } = step(Some(entry(BEGIN, 40)), Change::Borrow(50))
        else {
            panic!("it is changed")
        };
        assert_eq!((first.lent, granted, unlent, first.changes), (90, 50, 10, 8));
        let Step::Write { granted, unlent, .. } = step(Some(first), Change::Borrow(50)) else {
            panic!("it is changed")
        };
        assert_eq!((granted, unlent), (10, 0));
        assert_eq!(step(Some(entry(BEGIN, 100)), Change::Borrow(50)), Step::Keep { unlent: 0 });
        // The limit was lowered.
        assert_eq!(step(Some(entry(BEGIN, 130)), Change::Borrow(50)), Step::Keep { unlent: 0 });
        let Step::Write { unlent, .. } = step(Some(first), Change::GiveBack(30)) else {
            panic!("it is changed")
        };
        assert_eq!(unlent, 40);
        assert_eq!(step(Some(first), Change::Look), Step::Keep { unlent: 10 });
    }

    #[test]
    fn only_the_very_next_change_proves_that_another_was_not_made() {
        let ours = entry(BEGIN, 40);
        assert!(Entry { nonce: 1, ..ours }.came_instead_of(&ours));
        assert!(!ours.came_instead_of(&ours));
        let later = Entry { nonce: 1, changes: ours.changes + 1, ..ours };
        assert!(!later.came_instead_of(&ours), "ours may have been between");
    }

    #[test]
    fn windows_follow_each_other() {
        let (earlier, later) = (BEGIN.saturating_sub(HOUR), BEGIN.saturating_add(HOUR));
        let step = |begin, change| Entry::step(Some(entry(begin, 100)), &need(change), 1, BEGIN);
        let Step::Write { entry: next, granted: 5, unlent: 95 } = step(earlier, Change::Borrow(5)) else {
            panic!("all of a new window is there")
        };
        assert_eq!((next.begin, next.lent), (BEGIN, 5));
        assert_eq!(step(earlier, Change::Look), Step::Keep { unlent: 100 });
        assert_eq!(step(later, Change::Borrow(5)), Step::Keep { unlent: 0 });
        assert_eq!(step(later, Change::GiveBack(5)), Step::Keep { unlent: 0 });
    }

    #[test]
    fn what_passed_before_the_first_entry_counts_as_spent() {
        let now = BEGIN.saturating_add(HOUR / 3);
        for change in [Change::Look, Change::Borrow(0)] {
            let Step::Write { entry, unlent, .. } = Entry::step(None, &need(change), 1, now) else {
                panic!("it is written, or the next one would begin later")
            };
            assert_eq!((entry.lent, unlent), (34, 66));
        }
    }
}
