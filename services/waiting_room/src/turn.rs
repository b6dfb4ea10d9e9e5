//! Whose turn it is, and how long a turn lasts.

use std::time::Duration;

use crate::ticket::Late;

/// What a ticket is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The frontier has not come.
    Waiting,
    /// It may be claimed: a [`crate::Challenge`] goes out, and a claim is taken.
    Called {
        /// For how much longer.
        left: Duration,
        /// Under which [`crate::Frontier::number`], for [`crate::Claimed`].
        publication: u64,
    },
    /// Its holder did not come when called. He keeps the place, and is called again now that he has come: give him the ticket anew, with this in it.
    CallAgain(Late),
    /// He did not come for half an hour, or not when called for the fourth time.
    Over,
}

/// From the call until the place counts as missed.
pub const CLAIM_WINDOW: Duration = Duration::from_secs(120);
/// How often a place that was missed is called again.
///
/// The ticket says how often it has been. Who shows an older copy of it is called once more than that, and gains nothing, because all passes of a
/// ticket are one.
pub const LATE_MAX: u8 = 3;
/// From the call until a place can no longer be claimed at all: more than half an hour, less than this, which allows for changes of the holder of
/// the control lease. See [`crate::Frontier::marks`].
pub const CLAIMABLE_FOR: Duration = Duration::from_secs(3_600);
