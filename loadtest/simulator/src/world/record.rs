//! What is kept of a call and of an attempt at it.

use crate::policy::{HoldBack, Pushback};
use crate::time::Nanos;

/// What a person wanted.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) client: u32,
    pub(super) class: u8,
    pub(super) tries: u32,
    /// The present attempt; news of others is late.
    pub(super) stamp: u32,
    pub(super) born: Nanos,
    /// Whether the present attempt waits for a connection.
    pub(super) parked: bool,
}

/// How a call ended. Each ends exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallEnd {
    /// Answered in time.
    Ok,
    /// Refused, and not tried again.
    Refused,
    TimedOut,
    /// An error or a broken connection, and not tried again.
    Failed,
    /// Kept back by the client, as it was told to.
    HeldBack,
    /// The client hung up.
    HungUp,
    /// The run was over first.
    Unfinished,
}

impl CallEnd {
    pub(crate) const COUNT: usize = 7;
}

/// Where an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    ToGateway,
    Gateway,
    ToWorker,
    Worker,
    ToClient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Refused,
    Failed,
    /// The server is not there.
    Unreachable,
}

/// A try of a call, on its way through servers.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) call: u32,
    pub(super) stamp: u32,
    pub(super) client: u32,
    pub(super) class: u8,
    pub(super) tier: u8,
    pub(super) user: u64,
    pub(super) place: Place,
    /// The server of each hop, and the life of it in which the attempt came.
    pub(super) server: [u32; 2],
    pub(super) epoch: [u32; 2],
    pub(super) reached: [Nanos; 2],
    pub(super) started: [Nanos; 2],
    pub(super) inflight_at_start: [u32; 2],
    /// Work at the front of the present hop, to tell waiting from working.
    pub(super) front: f64,
    /// What the client goes by.
    pub(super) deadline: Nanos,
    /// What the servers are told.
    pub(super) told_deadline: Nanos,
    pub(super) worker_tries: u8,
    pub(super) verdict: Verdict,
    pub(super) pushback: Pushback,
    pub(super) come_back: Option<Nanos>,
    pub(super) hold_back: Option<HoldBack>,
    pub(super) close: bool,
    /// Its gateway died under it.
    pub(super) orphan: bool,
}
