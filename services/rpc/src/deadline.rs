//! The instant by which a call must have ended.
//!
//! It travels as the time that remains (`grpc-timeout`), and is an instant again from the arrival of the headers on,
//! so that clocks need not agree. The surrounding call's deadline is ambient: a call made by a handler inherits it
//! through [`Deadline::current`] without a parameter. Work that a handler hands to another task leaves it behind,
//! which is right for work that must outlive the caller.

mod enforce;
mod propagate;
mod pushback;
mod wire;

use std::time::Duration;

use tokio::time::Instant;

pub(crate) use enforce::{EnforceDeadline, TimedBody, trailers};
pub(crate) use propagate::PropagateDeadline;
pub(crate) use pushback::PUSHBACK;

tokio::task_local! {
    static CURRENT: Option<Deadline>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    pub const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// `None` when the instant is too far away to be represented, which is as good as no deadline.
    pub fn after(duration: Duration) -> Option<Self> {
        Instant::now().checked_add(duration).map(Self)
    }

    /// The deadline of a call that is being served; `None` when its caller set none.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<Self> {
        request.extensions().get().copied()
    }

    /// The deadline that a call's headers ask for; `None` when they ask for none, or cannot be read.
    pub(crate) fn of_headers(headers: &http::HeaderMap) -> Option<Self> {
        wire::read(headers).ok().flatten().and_then(Self::after)
    }

    /// The deadline of the call that this future is part of, if it is part of one that has any.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|deadline| *deadline).ok().flatten()
    }

    pub const fn instant(self) -> Instant {
        self.0
    }

    /// Zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }
}

/// Runs `work` as part of a call with this deadline. `None` hides the deadline of a call further out, as a socket
/// between the two would.
fn within<R>(deadline: Option<Deadline>, work: impl FnOnce() -> R) -> R {
    CURRENT.sync_scope(deadline, work)
}
