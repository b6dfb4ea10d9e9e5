//! The frontier: everybody whose place is not above it is called.
//!
//! Control publishes it each second ([`Frontier`], made by [`crate::Steering`]), gateways compare ([`crate::View`]). Between two
//! publications it goes on at the speed that was published, at every gateway and at control alike, so that people are let in one by one and
//! not in gusts, and so that nobody has to be asked.

pub(crate) mod gaps;
pub(crate) mod show_up;
pub(crate) mod steering;
pub(crate) mod view;

use spillway_types::Timestamp;

use crate::order::lottery::Pool;

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frontier {
    /// The fencing token of the lease under which it was made.
    pub epoch: u64,
    /// Rises by one with each publication, over all epochs. A claim is counted for the publication under which its turn came.
    pub number: u64,
    /// When it was made, for people. Nothing is computed from it, because clocks differ.
    pub at: Timestamp,
    /// The highest place that has been called.
    pub f: u64,
    /// Places a second from now on.
    pub speed: f64,
    /// Seats a second that there are: A.
    pub rate: f64,
    /// The share of the called who claim: sigma.
    pub show_up: f64,
    /// Places a second that gateways go on at when control has been silent for a minute.
    pub floor: f64,
    pub mode: Mode,
    /// The highest number given out, as far as control knows.
    pub issued: u64,
    /// The lottery. While it has not been drawn its count is 0, and the frontier stays below it.
    pub pool: Option<Pool>,
    /// `f` at the last four turns of ten minutes, the newest first. What is not above the last of them has been called for 30 minutes at least,
    /// and can no longer be claimed.
    pub marks: [u64; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The frontier moves at its speed.
    Paced,
    /// Existing users are being refused, or were until some seconds ago.
    Overload,
    /// The operator has stopped it.
    Stopped,
    /// It opens at a time that was announced, and whoever comes before takes part in the lottery.
    NotOpen,
    /// The operator lets everybody in at once.
    Open,
}

impl Frontier {
    /// Before anything was published.
    pub const NONE: Frontier = Frontier {
        epoch: 0,
        number: 0,
        at: Timestamp::ZERO,
        f: 0,
        speed: 0.0,
        rate: 0.0,
        show_up: 1.0,
        floor: 0.0,
        mode: Mode::Paced,
        issued: 0,
        pool: None,
        marks: [0; 4],
    };

    pub const fn frozen(&self) -> bool {
        matches!(self.mode, Mode::Overload | Mode::Stopped | Mode::NotOpen)
    }

    /// The highest place that can no longer be claimed.
    pub const fn closed(&self) -> u64 {
        self.marks[3]
    }

    /// Places a second that A gives: rate / show_up. [`Frontier::speed`] corrects it for what was called too much or too
    /// little.
    pub fn pace(&self) -> f64 {
        self.rate / self.show_up.max(f64::MIN_POSITIVE)
    }
}
