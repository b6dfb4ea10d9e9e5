//! The right to act, which ends by itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use spillway_store::leases::{FencingToken, Lease};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::fence::Fence;

/// The lease was held, and may be another's by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time of this tenure is over")]
pub(crate) struct Lapsed;

/// Time that was won by taking or renewing the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tenure {
    token: FencingToken,
    valid_until: Instant,
}

impl Tenure {
    pub(crate) const fn new(token: FencingToken, valid_until: Instant) -> Self {
        Self { token, valid_until }
    }

    /// To be asked right before each act, with a fresh `now`: the process may have stood still since it was asked last.
    /// The act carries the token, because it may also stand still right after.
    pub(crate) fn check(&self, now: Instant) -> Result<FencingToken, Lapsed> {
        if now < self.valid_until { Ok(self.token) } else { Err(Lapsed) }
    }

    pub(crate) const fn token(&self) -> FencingToken {
        self.token
    }

    /// No act may take longer than until then.
    pub(crate) const fn valid_until(&self) -> Instant {
        self.valid_until
    }
}

/// What this process knows of the lease, between the campaign that wins it and those who act under it.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    state: Mutex<State>,
    acquired: Notify,
}

#[derive(Debug, Default)]
struct State {
    tenure: Option<Tenure>,
    seen: Option<Lease>,
    heard: Fence,
}

impl Guard {
    pub(crate) fn tenure(&self, now: Instant) -> Option<Tenure> {
        let state = self.state();
        // A monotonic clock may stop with a suspended machine, and then a successor is heard before the time is over.
        state.tenure.filter(|tenure| tenure.check(now).is_ok() && state.heard.allows(tenure.token))
    }

    /// The lease as it was last seen in the store.
    pub(crate) fn seen(&self) -> Option<Lease> {
        self.state().seen
    }

    pub(crate) fn record(&self, tenure: Option<Tenure>, seen: Option<Lease>) {
        let mut state = self.state();
        let token = |tenure: Option<Tenure>| tenure.map(|tenure| tenure.token);
        let acquired = tenure.is_some() && token(tenure) != token(state.tenure);
        (state.tenure, state.seen) = (tenure, seen);
        if acquired {
            self.acquired.notify_one();
        }
    }

    /// Whether what came with this token is to be obeyed.
    pub(crate) fn heard(&self, token: FencingToken) -> bool {
        self.state().heard.admit(token)
    }

    /// Resolves when this process has become the holder. For one waiter.
    pub(crate) async fn acquired(&self) {
        self.acquired.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Only assignments happen under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_tenure_ends_by_the_clock_and_by_a_successor() {
        let (guard, now) = (Guard::default(), Instant::now());
        let end = now + Duration::from_millis(2_500);
        guard.record(Some(Tenure::new(FencingToken(4), end)), None);
        assert!(guard.heard(FencingToken(4)), "its own state comes back");
        let tenure = guard.tenure(now).unwrap();
        assert_eq!(tenure.check(end - Duration::from_micros(1)), Ok(FencingToken(4)));
        assert_eq!(tenure.check(end), Err(Lapsed));
        assert_eq!(guard.tenure(end), None);

        assert!(!guard.heard(FencingToken(3)));
        assert_eq!(guard.tenure(now), Some(tenure), "a predecessor's late word changes nothing");
        assert!(guard.heard(FencingToken(5)));
        assert_eq!(guard.tenure(now), None);
    }

    #[tokio::test]
    async fn becoming_the_holder_is_told_once() {
        let (guard, now) = (Guard::default(), Instant::now());
        for renewal in 0..3 {
            let end = now + Duration::from_secs(renewal);
            guard.record(Some(Tenure::new(FencingToken(4), end)), None);
        }
        guard.acquired().await;
        tokio::select! {
            biased;
            () = guard.acquired() => panic!("a renewal is no acquisition"),
            () = std::future::ready(()) => {}
        }
    }
}
