//! How much may run at once.
//!
//! The limit is the slow loop; the gate is the fast one. A [`LimitLaw`] sees every finished call and every tick. The
//! shipped one is [`Adaptive`](adaptive::Adaptive); others stand beside it for comparison.

pub(crate) mod adaptive;
pub(crate) mod estimates;

use std::fmt;
use std::time::Duration;

use crate::class::Tier;

/// Which kind of work a call is, usually its method. Service times are only compared within a kind, so that another
/// mix of methods does not look like congestion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(u8);

impl Kind {
    /// Kinds above the last one share it.
    pub const COUNT: usize = 64;

    pub const fn new(number: u8) -> Self {
        if (number as usize) < Self::COUNT { Self(number) } else { Self(Self::COUNT as u8 - 1) }
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A finished call.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub now: Duration,
    /// From the seat to the end, without the wait for the seat.
    pub service: Duration,
    pub waited: Duration,
    pub kind: Kind,
    pub tier: Tier,
    pub seats: u32,
    /// Seats taken when it finished, its own included.
    pub inflight: u32,
    /// It succeeded within its deadline. What did not is no throughput.
    pub useful: bool,
}

/// What a tick measured.
#[derive(Clone, Copy, Debug)]
pub struct LimitTick {
    pub now: Duration,
    pub length: Duration,
    pub limit: u32,
    /// Seats in use at its end.
    pub inflight: u32,
    pub inflight_mean: f64,
    pub inflight_max: u32,
    /// The share of the tick in which the limit was reached, 0 to 1.
    pub full: f64,
    /// Seats of useful calls that finished, and those of them that finished while the limit was reached.
    pub finished: u64,
    pub finished_full: u64,
    /// Calls that waited for a seat at the end of the tick.
    pub queued: u32,
    pub run_queue_delay: Duration,
}

/// Decides the limit. Called under the lock of the limiter: must not wait.
pub trait LimitLaw: fmt::Debug + Send {
    fn finished(&mut self, sample: &Sample);

    /// The limit from now on, in seats.
    fn tick(&mut self, tick: &LimitTick) -> u32;
}

/// A limit that somebody knows.
#[derive(Clone, Copy, Debug)]
pub struct StaticLimit(pub u32);

impl LimitLaw for StaticLimit {
    fn finished(&mut self, _: &Sample) {}

    fn tick(&mut self, _: &LimitTick) -> u32 {
        self.0
    }
}
