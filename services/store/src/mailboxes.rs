//! Stored messages of devices.
//!
//! Messages are ordered by id, which is the order of minting, not of arrival: a message may become visible after one
//! with a greater id. Therefore nobody may skip to "after the last one I saw" across sessions; readers start at the
//! settled watermark, below which the mailbox role has proved that nothing undelivered can appear.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use spillway_types::{Guid, MailboxId, MessageId, Timestamp};

use crate::StoreError;

/// How long a message is kept: 31 days.
pub const RETENTION: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// How long a deleted id stays dead against a late repetition of its insert. The mailbox role refuses to insert ids
/// older than 10 s and does not acknowledge an insert that took longer than 20 s; 60 s leaves room for both and for
/// clocks that differ.
pub const GRAVE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    pub id: MessageId,
    pub guid: Guid,
    pub envelope: Bytes,
}

impl StoredMessage {
    /// What the message counts for in its mailbox, in bytes: ids and the envelope.
    pub fn size(&self) -> u64 {
        (2 * 16 + self.envelope.len()) as u64
    }
}

/// How much a mailbox may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub messages: u64,
    pub bytes: u64,
}

/// How much a mailbox holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub messages: u64,
    pub bytes: u64,
}

impl Usage {
    pub const fn fits(self, message: u64, capacity: Capacity) -> bool {
        self.messages < capacity.messages && self.bytes + message <= capacity.bytes
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Put {
    /// Durable. The usage includes the message.
    Stored(Usage),
    /// Nothing was written.
    Full,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Oldest first.
    pub messages: Vec<StoredMessage>,
    /// There is at least one more after the last of these.
    pub more: bool,
}

/// What a page may hold: whichever is reached first. A page always holds one message if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit {
    pub messages: usize,
    pub bytes: usize,
}

#[async_trait]
pub trait Mailboxes: std::fmt::Debug + Send + Sync {
    /// Stores a message; durable when answered. Repeating it with the same id changes nothing. An id that was
    /// deleted less than [`GRAVE`] ago stays deleted, and the answer is `Stored` all the same.
    async fn put(
        &self,
        mailbox: MailboxId,
        message: StoredMessage,
        capacity: Capacity,
    ) -> Result<Put, StoreError>;

    /// Live messages with an id greater than `after`. Messages older than [`RETENTION`] at `now` are not returned.
    /// Sees every `put` and `delete` that was answered before the call.
    async fn page(
        &self,
        mailbox: MailboxId,
        after: MessageId,
        limit: PageLimit,
        now: Timestamp,
    ) -> Result<Page, StoreError>;

    /// Deletes messages; unknown ids are ignored. Idempotent.
    async fn delete(&self, mailbox: MailboxId, ids: &[MessageId], now: Timestamp) -> Result<(), StoreError>;

    /// The settled watermark: reads may start after it. [`Timestamp::ZERO`] when none was stored.
    async fn settled(&self, mailbox: MailboxId) -> Result<Timestamp, StoreError>;

    /// Raises the watermark; a lower value than the stored one changes nothing, in whatever order calls arrive.
    /// Need not be durable when answered: an older watermark costs a longer read and nothing else.
    async fn raise_settled(&self, mailbox: MailboxId, settled: Timestamp) -> Result<(), StoreError>;

    /// Deletes a mailbox whole. Idempotent.
    async fn purge(&self, mailbox: MailboxId) -> Result<(), StoreError>;

    /// Reclaims the space of messages older than [`RETENTION`] at `now`, of some of them up to a day later; answers
    /// with how many there were. Bounded work a call: call again until it answers 0.
    async fn expire(&self, now: Timestamp) -> Result<usize, StoreError>;
}
