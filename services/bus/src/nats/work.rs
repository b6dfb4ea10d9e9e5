//! Work queues in JetStream: a stream of retention "work queue" that keeps one message for each subject, and one
//! durable pull consumer that all workers share.
//!
//! | | name |
//! |---|---|
//! | subject of an item | `[<prefix>.]work.<name>.<key in hex>` |
//! | stream | `[<prefix>_]<name>` |
//! | consumer | `workers` |
//!
//! The stream and its consumer are made by the first worker that takes, and made again when they are lost; doing so
//! is idempotent, so any number of processes may do it at once. While JetStream cannot be reached, each call fails
//! within seconds: pausing and repeating is for the caller.
//!
//! # What the server does (seen on nats-server 2.14.5, and tested here)
//!
//! - A message that replaces a waiting one goes to the end of the stream.
//! - A message that is replaced while a worker has it is gone from the stream at once. The new one is given out at
//!   once, so two workers hold the key; the first one's acknowledgement, of whatever kind or none, changes nothing
//!   about the new message, and the old one is not given out again.
//! - "Expected last sequence of the subject: 0" is refused while the subject's message waits, pauses or is being
//!   worked on, and accepted once it has been acknowledged: this is [`WorkQueue::restore`].
//! - A paused message (a negative acknowledgement with a delay) keeps counting against `held_max`.
//!
//! # What a worker must be permitted
//!
//! With `S` the stream's name and `R` the role given to [`Nats::new`]:
//!
//! - publish: the items' subjects, `$JS.API.STREAM.INFO.S`, `$JS.API.STREAM.CREATE.S`, `$JS.API.STREAM.UPDATE.S`,
//!   `$JS.API.CONSUMER.CREATE.S.workers`, `$JS.API.CONSUMER.MSG.NEXT.S.workers`, `$JS.ACK.S.workers.>`
//! - subscribe: `_INBOX.R.>`
//!
//! Deleting (for [`JetStreamWorkQueue::delete`]: `$JS.API.STREAM.DELETE.S`), purging and reading messages out of turn
//! are not among them. Server 2.12 and newer may say `$JS.ACK` with
//! a domain and an account hash before the stream, once it is told to: `$JS.ACK.*.*.S.workers.>`.

use std::error::Error;
use std::fmt::{self, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer};
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::{Acker, PublishMessage};
use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{AckKind, Context, ErrorCode, Message};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::{ConnectError, ConnectionState, Nats};
use crate::work::{Item, Receipt, Restored, WorkError, WorkQueue};

/// Bound of one call to JetStream. Placing a stream on three servers takes well under a second when all are well.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one request for the next item waits at the server. A request that was lost with a server is repeated
/// after it, so it bounds that delay too.
const WAIT: Duration = Duration::from_secs(5);

/// How late the server's word that a request has expired may be.
const LATE: Duration = Duration::from_secs(1);

const CONSUMER: &str = "workers";

/// The last sequence of the subject is another than expected, in the words of servers since 2.12.
const WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10_164;

/// How a queue is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JetStreamWorkConfig {
    /// Servers that keep the stream: 1, or 3 to have it survive one of them. Losing it costs time only.
    pub replicas: usize,
    /// An item that a worker has had for this long is given to another. Longer than the work takes.
    #[serde(with = "humantime_serde")]
    pub redelivery: Duration,
    /// An item that nobody finished for this long is dropped.
    #[serde(with = "humantime_serde")]
    pub age_max: Duration,
    /// Items with all workers together, pausing ones included.
    pub held_max: u32,
    /// Items in the stream; the oldest are dropped beyond it. 100,000 of 200 bytes are 20 MB.
    pub items_max: u32,
}

impl Default for JetStreamWorkConfig {
    fn default() -> Self {
        Self {
            replicas: 1,
            redelivery: Duration::from_secs(30),
            age_max: Duration::from_secs(900),
            held_max: 5_000,
            items_max: 100_000,
        }
    }
}

/// A queue for the workers of a fleet.
pub struct JetStreamWorkQueue {
    jetstream: Context,
    config: JetStreamWorkConfig,
    stream: String,
    /// Up to the key.
    subjects: String,
    /// Once it is known to exist.
    consumer: Mutex<Option<PullConsumer>>,
    state: watch::Receiver<ConnectionState>,
}

struct JetStreamReceipt(Acker);

impl JetStreamWorkQueue {
    /// A queue on a connection of its own, which may still have to be made. `name` in lower case, without dots.
    ///
    /// # Errors
    ///
    /// What no waiting can mend: a file that cannot be read, an address that is none.
    pub async fn connect(
        nats: &Nats,
        name: &'static str,
        config: JetStreamWorkConfig,
    ) -> Result<Self, ConnectError> {
        let connection = nats.connect("work").await?;
        let mut jetstream = async_nats::jetstream::new(connection.client);
        jetstream.set_timeout(CALL_TIMEOUT);
        let stream = match nats.config().prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}_{name}"),
        };
        let subjects = nats.subject(&format!("work.{name}."));
        Ok(Self { jetstream, config, stream, subjects, consumer: Mutex::default(), state: connection.state })
    }

    /// What the process's readiness needs to know.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Deletes the stream with all that is in it, for who takes a fleet down. A worker that takes makes it again.
    pub async fn delete(&self) -> Result<(), WorkError> {
        self.jetstream.delete_stream(&self.stream).await.map_err(unavailable)?;
        Ok(())
    }

    /// Makes the stream and its consumer if they are not there, and gives them today's settings if they are.
    async fn consumer(&self) -> Result<PullConsumer, WorkError> {
        let mut known = self.consumer.lock().await;
        if let Some(consumer) = &*known {
            return Ok(consumer.clone());
        }
        self.check_connected()?;
        self.jetstream.create_or_update_stream(self.stream_config()).await.map_err(unavailable)?;
        let consumer = self
            .jetstream
            .create_consumer_on_stream(self.consumer_config(), self.stream.as_str())
            .await
            .map_err(unavailable)?;
        tracing::info!(stream = self.stream, "a work queue is ready");
        *known = Some(consumer.clone());
        Ok(consumer)
    }

    fn stream_config(&self) -> stream::Config {
        stream::Config {
            name: self.stream.clone(),
            subjects: vec![format!("{}*", self.subjects)],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            discard: DiscardPolicy::Old,
            max_messages_per_subject: 1,
            max_messages: self.config.items_max.into(),
            max_bytes: -1,
            max_age: self.config.age_max,
            num_replicas: self.config.replicas,
            ..stream::Config::default()
        }
    }

    fn consumer_config(&self) -> pull::Config {
        pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.config.redelivery,
            max_ack_pending: self.config.held_max.into(),
            // The store says when a work is not worth another try.
            max_deliver: -1,
            ..pull::Config::default()
        }
    }

    async fn next(&self, max: usize) -> Result<Vec<Item>, WorkError> {
        let consumer = self.consumer().await?;
        self.check_connected()?;
        let at_once = in_time(consumer.fetch().max_messages(max).messages()).await?;
        let (items, is_complete) = self.collect(at_once, CALL_TIMEOUT).await?;
        if !items.is_empty() {
            return Ok(items);
        }
        if !is_complete {
            return Err(unavailable(NoAnswer));
        }
        // One only: what else arrives is had by the next call, and nothing is under way to nobody.
        let one = in_time(consumer.batch().max_messages(1).expires(WAIT).messages()).await?;
        Ok(self.collect(one, WAIT + LATE).await?.0)
    }

    /// The items, and whether the server has said that these are all. The library would wait for that for ever.
    async fn collect(&self, mut batch: pull::Batch, bound: Duration) -> Result<(Vec<Item>, bool), WorkError> {
        let end = Instant::now() + bound;
        let mut items = Vec::new();
        loop {
            match timeout_at(end, batch.next()).await {
                Ok(Some(Ok(message))) => items.extend(self.item(message)),
                Ok(None) => return Ok((items, true)),
                // What has arrived before is not lost for it; the next call meets the error again.
                Ok(Some(Err(_))) if !items.is_empty() => return Ok((items, false)),
                Ok(Some(Err(error))) => return Err(WorkError::Unavailable(Arc::from(error))),
                Err(_elapsed) => return Ok((items, false)),
            }
        }
    }

    /// `None`: something else than an item was published there; it is left to expire.
    fn item(&self, message: Message) -> Option<Item> {
        let deliveries = message.info().ok()?.delivered;
        let key = decode_hex(message.subject.as_str().strip_prefix(&self.subjects)?)?;
        let (message, acker) = message.split();
        let deliveries = u32::try_from(deliveries).unwrap_or(u32::MAX);
        Some(Item::new(key, message.payload, deliveries, Box::new(JetStreamReceipt(acker))))
    }

    async fn publish(&self, key: &[u8], message: PublishMessage) -> Result<(), PublishError> {
        let mut subject = self.subjects.clone();
        for byte in key {
            write!(subject, "{byte:02x}").expect("a string takes everything");
        }
        self.jetstream.send_publish(subject, message).await?.await?;
        Ok(())
    }

    /// A request on a lost connection would wait for its time-out, and leave an entry in the client.
    fn check_connected(&self) -> Result<(), WorkError> {
        match self.jetstream.client().connection_state() {
            State::Connected => Ok(()),
            State::Pending | State::Disconnected => Err(unavailable(NotConnected)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("there is no connection")]
struct NotConnected;

#[derive(Debug, thiserror::Error)]
#[error("there is no answer")]
struct NoAnswer;

#[async_trait]
impl WorkQueue for JetStreamWorkQueue {
    async fn offer(&self, key: &[u8], payload: Bytes) -> Result<(), WorkError> {
        self.check_connected()?;
        self.publish(key, PublishMessage::build().payload(payload)).await.map_err(unavailable)
    }

    async fn restore(&self, key: &[u8], payload: Bytes) -> Result<Restored, WorkError> {
        self.check_connected()?;
        let message = PublishMessage::build().payload(payload).expected_last_subject_sequence(0);
        match self.publish(key, message).await {
            Ok(()) => Ok(Restored::Added),
            Err(error) if is_wrong_sequence(&error) => Ok(Restored::Present),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn take(&self, max: NonZeroUsize) -> Result<Vec<Item>, WorkError> {
        loop {
            match self.next(max.get()).await {
                Ok(items) if items.is_empty() => {}
                Ok(items) => return Ok(items),
                Err(error) => {
                    // The stream may be gone; the next call makes it again.
                    *self.consumer.lock().await = None;
                    return Err(error);
                }
            }
        }
    }

    async fn depth(&self) -> Result<u64, WorkError> {
        self.check_connected()?;
        let stream = self.jetstream.get_stream(&self.stream).await.map_err(unavailable)?;
        Ok(stream.cached_info().state.messages)
    }
}

#[async_trait]
impl Receipt for JetStreamReceipt {
    async fn done(self: Box<Self>) {
        acknowledge(&self.0, AckKind::Ack).await;
    }

    async fn retry_after(self: Box<Self>, pause: Duration) {
        acknowledge(&self.0, AckKind::Nak(Some(pause))).await;
    }
}

async fn acknowledge(acker: &Acker, kind: AckKind) {
    match timeout(CALL_TIMEOUT, acker.ack_with(kind)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error, "an item was not acknowledged and will come again"),
        Err(_elapsed) => tracing::debug!("an item could not be acknowledged in time and will come again"),
    }
}

/// For calls that wait as long as the client's queue of commands is full.
async fn in_time<T, E: Error + Send + Sync + 'static>(
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, WorkError> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(outcome) => outcome.map_err(unavailable),
        Err(_elapsed) => Err(unavailable(NoAnswer)),
    }
}

fn is_wrong_sequence(error: &PublishError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>());
    let code = source.map(async_nats::jetstream::Error::error_code);
    error.kind() == PublishErrorKind::WrongLastSequence
        || code == Some(ErrorCode(WRONG_LAST_SEQUENCE_CONSTANT))
}

fn unavailable(error: impl Error + Send + Sync + 'static) -> WorkError {
    WorkError::Unavailable(Arc::new(error))
}

fn decode_hex(text: &str) -> Option<Bytes> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks_exact(2).map(byte).collect::<Option<Vec<u8>>>().map(Bytes::from)
}

impl fmt::Debug for JetStreamWorkQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStreamWorkQueue").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl fmt::Debug for JetStreamReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JetStreamReceipt(..)")
    }
}

#[cfg(test)]
mod tests;
