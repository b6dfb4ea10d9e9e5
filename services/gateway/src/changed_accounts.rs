//! Accounts whose devices changed lately: for them a signature alone is no proof any more.
//!
//! A token or ticket that was proved before the change costs a (cached) look at the account's devices, which decides.
//! So a removed device is refused at once, the devices that stay are not, and clocks that disagree by a few seconds
//! cost a look-up and never a refusal. Forgetting an account for lack of room is safe: everything proved before that
//! account's change is then looked up, whoever's it is.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use spillway_types::{AccountId, Timestamp};

/// How far the clocks of gateways may be apart without letting a proof pass for newer than the change.
const CLOCK_SKEW: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct ChangedAccounts {
    capacity: usize,
    /// Nothing older is good: how long an unchecked proof can live on in a ticket.
    remember_for: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    changed_at: HashMap<AccountId, Timestamp>,
    /// Oldest first. An account that changed again is in it twice; the map says which entry counts.
    order: VecDeque<(Timestamp, AccountId)>,
    /// Every proof from before is to be checked.
    gap_until: Timestamp,
}

impl ChangedAccounts {
    pub(crate) fn new(capacity: usize, remember_for: Duration) -> Self {
        Self { capacity, remember_for, state: Mutex::default() }
    }

    pub(crate) fn note(&self, account: AccountId, now: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = now.saturating_sub(self.remember_for);
        while state.order.front().is_some_and(|(changed_at, _)| *changed_at < oldest) {
            state.forget_first();
        }
        while state.order.len() >= self.capacity.max(1) {
            let forgotten = state.forget_first();
            state.gap_until = state.gap_until.max(forgotten);
        }
        state.changed_at.insert(account, now);
        state.order.push_back((now, account));
    }

    /// Changes may have been missed until now.
    pub(crate) fn note_gap(&self, now: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.gap_until = state.gap_until.max(now);
    }

    /// Whether a proof of that time says nothing about the account as it is now.
    pub(crate) fn is_doubtful(&self, account: AccountId, proved_at: Timestamp) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed_at = state.changed_at.get(&account).copied().unwrap_or_default().max(state.gap_until);
        changed_at > Timestamp::ZERO && proved_at <= changed_at.saturating_add(CLOCK_SKEW)
    }
}

impl State {
    /// When the forgotten account changed.
    fn forget_first(&mut self) -> Timestamp {
        let Some((changed_at, account)) = self.order.pop_front() else { return Timestamp::ZERO };
        if self.changed_at.get(&account) == Some(&changed_at) {
            self.changed_at.remove(&account);
        }
        changed_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_610_722_800_000 + seconds * 1_000)
    }

    #[test]
    fn only_proofs_from_before_the_change_are_doubtful() {
        let changed = ChangedAccounts::new(10, DAY);
        let (alice, bob) = (AccountId::random(), AccountId::random());
        changed.note(alice, at(100));
        assert!(changed.is_doubtful(alice, at(0)));
        assert!(changed.is_doubtful(alice, at(105)), "clocks may disagree");
        assert!(!changed.is_doubtful(alice, at(111)));
        assert!(!changed.is_doubtful(bob, at(0)));
    }

    #[test]
    fn a_forgotten_change_makes_older_proofs_doubtful() {
        let changed = ChangedAccounts::new(2, DAY);
        let accounts = [(); 3].map(|()| AccountId::random());
        for (i, account) in accounts.iter().enumerate() {
            changed.note(*account, at(100 * (i as u64 + 1)));
        }
        let stranger = AccountId::random();
        assert!(changed.is_doubtful(accounts[0], at(50)));
        assert!(changed.is_doubtful(stranger, at(50)));
        assert!(!changed.is_doubtful(stranger, at(150)));
    }

    #[test]
    fn memory_is_bounded_when_one_account_changes_again_and_again() {
        let changed = ChangedAccounts::new(4, DAY);
        let alice = AccountId::random();
        for second in 0..100 {
            changed.note(alice, at(second));
        }
        let state = changed.state.lock().unwrap();
        assert_eq!((state.order.len(), state.changed_at.len()), (4, 1));
    }

    #[test]
    fn what_has_expired_is_forgotten_without_a_gap() {
        let changed = ChangedAccounts::new(1, DAY);
        changed.note(AccountId::random(), at(0));
        changed.note(AccountId::random(), at(2 * 86_400));
        assert!(!changed.is_doubtful(AccountId::random(), at(0)));
    }
}
