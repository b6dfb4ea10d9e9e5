//! What a call holds: a seat while it runs, a ticket while it waits.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::admission::core::Finished;
use crate::admission::{Call, Shared, Waiter};
use crate::class::cohort::User;
use crate::class::{Level, Tier};
use crate::limiter::Kind;
use crate::pushback::{Reason, Refusal};
use crate::queue::{Entry, Next, Place};

/// How a call that ran ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Served. Counts as throughput if it was within the deadline.
    Served,
    /// Failed, or refused by a hop below.
    Failed,
}

/// The right to run. Dropped without [`finish`](Self::finish), it counts as cancelled: its time says nothing.
pub struct Seat<W: Waiter> {
    /// `None` once it was given back.
    shared: Option<Arc<Shared<W>>>,
    tier: Tier,
    kind: Kind,
    /// 0 for an exempt call, which has a seat of its own.
    seats: u32,
    started: Duration,
    waited: Duration,
    deadline: Duration,
}

/// A place in the queue.
pub struct Ticket<W: Waiter> {
    shared: Arc<Shared<W>>,
    place: Place,
    level: Level,
    user: User,
    expires: Duration,
}

impl<W: Waiter> Seat<W> {
    pub(super) fn new(shared: &Arc<Shared<W>>, call: &Call, now: Duration, waited: Duration) -> Self {
        Self {
            shared: Some(Arc::clone(shared)),
            tier: call.level.tier(),
            kind: call.kind,
            seats: call.seats,
            started: now,
            waited,
            deadline: call.deadline,
        }
    }

    pub(super) fn exempt(shared: &Arc<Shared<W>>, call: &Call, now: Duration) -> Self {
        Self::new(shared, &Call { seats: 0, ..*call }, now, Duration::ZERO)
    }

    /// How long the call waited for it.
    pub const fn waited(&self) -> Duration {
        self.waited
    }

    /// Gives it back, and tells what became of the call.
    pub fn finish(mut self, now: Duration, outcome: Outcome) {
        if let Some(shared) = self.shared.take() {
            let useful = outcome == Outcome::Served && now <= self.deadline;
            let served = outcome == Outcome::Served;
            self.give_back(&shared, Some((now, served, useful)));
        }
    }

    fn give_back(&self, shared: &Arc<Shared<W>>, finished: Option<(Duration, bool, bool)>) {
        if self.seats == 0 {
            shared.exempt.fetch_sub(1, Relaxed);
            return;
        }
        let mut core = shared.core();
        let now = match finished {
            Some((now, served, useful)) => {
                let service = now.saturating_sub(self.started);
                let Self { tier, kind, seats, waited, .. } = *self;
                core.finish(now, &Finished { tier, kind, seats, service, waited, served, useful });
                now
            }
            // Whoever drops a future has no clock. The latest time that was told is late by less than a tick.
            None => core.cancel(self.tier, self.seats),
        };
        drop(core);
        shared.serve_waiting(now);
    }
}

impl<W: Waiter> Drop for Seat<W> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            self.give_back(&shared, None);
        }
    }
}

impl<W: Waiter> Ticket<W> {
    pub(super) fn new(shared: &Arc<Shared<W>>, place: Place, call: &Call, expires: Duration) -> Self {
        Self { shared: Arc::clone(shared), place, level: call.level, user: call.user, expires }
    }

    /// When the call must not be served any more. The next tick after it refuses, so that a wait can be a tick too long;
    /// who has a timer sets it to this and [gives up](Self::give_up).
    pub const fn expires(&self) -> Duration {
        self.expires
    }

    /// Leaves the queue at [`expires`](Self::expires). `None` when the waiter has been told already, or is being told: then
    /// its word counts.
    pub fn give_up(self) -> Option<Refusal> {
        let entry = self.shared.core().leave(self.place)?;
        let reason = if entry.doomed { Reason::Deadline } else { Reason::QueueAge };
        self.shared.gate.count_refused(self.level.tier(), reason);
        Some(self.shared.waiting.refuse(reason, self.level, self.user))
    }
}

impl<W: Waiter> Drop for Ticket<W> {
    fn drop(&mut self) {
        // The entry's waiter is dropped after the lock.
        let left = self.shared.core().leave(self.place);
        drop(left);
    }
}

impl<W: Waiter> Shared<W> {
    /// Gives free seats to those whose turn it is. Waiters are called without the lock, one by one, so that one who gives
    /// the seat back makes room for the next.
    pub(super) fn serve_waiting(self: &Arc<Self>, now: Duration) {
        loop {
            let next = self.core().next(now);
            match next {
                Next::Serve(entry) => {
                    let Entry { level, user, flow, seats, kind, deadline, arrived, waiter, .. } = entry;
                    let call = Call { level, kind, seats, user, flow: Some(flow), deadline };
                    let waited = now.saturating_sub(arrived);
                    self.metrics.waited(level.tier(), waited);
                    if let Err(mut seat) = waiter.admitted(Seat::new(self, &call, now, waited)) {
                        seat.shared = None;
                        self.core().cancel(level.tier(), seats);
                    }
                }
                Next::Expired(entry) => self.refuse_expired(entry),
                Next::Blocked | Next::Empty => return,
            }
        }
    }

    pub(super) fn refuse_expired(&self, entry: Entry<W>) {
        let reason = if entry.doomed { Reason::Deadline } else { Reason::QueueAge };
        self.refuse_waiting(entry, reason);
    }

    pub(super) fn refuse_waiting(&self, entry: Entry<W>, reason: Reason) {
        self.gate.count_refused(entry.level.tier(), reason);
        entry.waiter.refused(self.waiting.refuse(reason, entry.level, entry.user));
    }
}

impl<W: Waiter> fmt::Debug for Seat<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tier, kind, seats, started, waited, deadline, .. } = self;
        f.debug_struct("Seat")
            .field("tier", tier)
            .field("kind", kind)
            .field("seats", seats)
            .field("started", started)
            .field("waited", waited)
            .field("deadline", deadline)
            .finish_non_exhaustive()
    }
}

impl<W: Waiter> fmt::Debug for Ticket<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, expires, .. } = self;
        f.debug_struct("Ticket").field("level", level).field("expires", expires).finish_non_exhaustive()
    }
}
