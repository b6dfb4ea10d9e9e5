//! Work that several workers share, and that nobody is harmed by losing.
//!
//! A [`WorkQueue`] says what is to be done, soon and mostly once. It is not the truth about it: whoever offers work
//! has written to the store before, and whoever takes work looks there first. So each promise here is about speed:
//!
//! - *One item for each key.* An offer replaces what is queued under its key.
//! - *An item that is being worked on can be given out again*: after the redelivery time, because its worker may have
//!   died, and at once, when an offer came meanwhile. Two workers can hold one key; the store decides between them.
//! - *Everything may be lost.* Who needs the work done calls [`WorkQueue::restore`] for what the store knows of.
//! - *No order*, although the queue tends to give out first what came first.
//!
//! [`LocalWorkQueue`] serves the workers of one process, [`crate::nats::JetStreamWorkQueue`] those of a fleet.

mod local;

use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use local::LocalWorkQueue;

/// Longest key, in bytes. A key is part of a subject's name, in hex.
pub const KEY_BYTES_MAX: usize = 64;

#[derive(Clone, Debug, thiserror::Error)]
pub enum WorkError {
    #[error("the work queue is full")]
    Full,
    #[error("the work queue cannot be reached")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
}

/// What became of an item that was to be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    Added,
    /// The queue has an item of this key: waiting, pausing, or with a worker.
    Present,
}

#[async_trait]
pub trait WorkQueue: std::fmt::Debug + Send + Sync {
    /// Queues an item, in place of one with the same key, which is then not given out again.
    async fn offer(&self, key: &[u8], payload: Bytes) -> Result<(), WorkError>;

    /// Queues an item if there is none with this key. For reapers: it leaves the place, the pause, and the worker of
    /// what is queued alone.
    async fn restore(&self, key: &[u8], payload: Bytes) -> Result<Restored, WorkError>;

    /// Waits for items; answers with at least one and at most `max`. Give it as many as can be begun at once: the
    /// redelivery time of each runs from here.
    ///
    /// Dropping the future may delay items by the redelivery time. After an error, pause before the next call.
    async fn take(&self, max: NonZeroUsize) -> Result<Vec<Item>, WorkError>;

    /// How many items there are, those with workers included. A few may be counted wrongly.
    async fn depth(&self) -> Result<u64, WorkError>;
}

/// An item in the hand of a worker. Dropping it is what a worker does that dies: the item comes again.
#[derive(Debug)]
pub struct Item {
    pub key: Bytes,
    pub payload: Bytes,
    /// How often it has been given out, this time included.
    pub deliveries: u32,
    receipt: Box<dyn Receipt>,
}

/// How a queue learns what became of an item. For implementations of [`WorkQueue`].
#[async_trait]
pub trait Receipt: std::fmt::Debug + Send + Sync {
    async fn done(self: Box<Self>);
    async fn retry_after(self: Box<Self>, pause: Duration);
}

impl Item {
    pub fn new(key: Bytes, payload: Bytes, deliveries: u32, receipt: Box<dyn Receipt>) -> Self {
        Self { key, payload, deliveries, receipt }
    }

    /// Takes the item out of the queue, unless it has been replaced. When the queue does not hear of it, the item
    /// comes again.
    pub async fn done(self) {
        self.receipt.done().await;
    }

    /// The item comes again after `pause`, or earlier when it is offered again.
    pub async fn retry_after(self, pause: Duration) {
        self.receipt.retry_after(pause).await;
    }
}
