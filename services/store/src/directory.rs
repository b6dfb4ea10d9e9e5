//! Who can be found by number. Derived from accounts and their claims; may be rebuilt from them.
//!
//! Beside look-ups there is what a reader needs that keeps the set of all numbers in its memory: a walk over them, and a
//! log of what was put lately. Together they miss nothing. What stood when a walk began is in the walk, and whatever was put
//! since is in the log; for the calls of [`Directory::put`] that took long, see [`PUT_LOGGED_WITHIN`].

use std::num::NonZeroUsize;
use std::time::Duration;

use async_trait::async_trait;
use spillway_types::{AccountId, NumberMac, Timestamp};

use crate::StoreError;

/// The log has a put under a time at most this long before its answer, by the clock of the process that it was called in.
pub const PUT_LOGGED_WITHIN: Duration = Duration::from_secs(15);

/// Where a walk over all numbers goes on. Means something to the store that made it, and only to that one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalkPosition(Option<Vec<u8>>);

impl WalkPosition {
    /// Before the first number.
    pub const START: Self = Self(None);

    /// For implementations: after what they call `key`.
    pub fn after(key: &[u8]) -> Self {
        Self(Some(key.to_vec()))
    }

    /// What it was made from; `None` at the start.
    pub fn key(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }
}

/// A part of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkPage {
    pub numbers: Vec<NumberMac>,
    /// `None`: that was the last part.
    pub next: Option<WalkPosition>,
}

/// What was put in some span of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutLog {
    /// In any order, and possibly more than once. Entries may be gone again, or may not be there yet.
    Numbers(Vec<NumberMac>),
    /// The log does not reach back that far. Only a walk tells what there is.
    Forgotten,
}

#[async_trait]
pub trait Directory: std::fmt::Debug + Send + Sync {
    /// Idempotent; the last call for a number wins.
    async fn put(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError>;

    /// Removes the entry if it names that account. Idempotent.
    async fn remove(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError>;

    /// One answer for each number asked about, in the same order.
    async fn lookup(&self, numbers: &[NumberMac]) -> Result<Vec<Option<AccountId>>, StoreError>;

    /// The numbers of all entries, in parts of at most `at_most` numbers and of a bounded size. An entry that is there from
    /// the walk's beginning to its end is in it exactly once; one that comes or goes meanwhile may be missing. A part may
    /// be empty and not be the last, and may be asked for again.
    async fn walk(&self, from: &WalkPosition, at_most: NonZeroUsize) -> Result<WalkPage, StoreError>;

    /// The numbers that were put from `from` until before `until`, by the clocks of those who put them. A put that was
    /// answered before this call is in the answer for the span that has its time. Spans of up to a minute are meant: an
    /// answer holds all puts of its span.
    async fn put_between(&self, from: Timestamp, until: Timestamp) -> Result<PutLog, StoreError>;
}
