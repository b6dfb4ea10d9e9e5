//! Messages that leave together.
//!
//! The library's task writes to the socket as soon as it has a message, and the scheduler runs it next after whoever
//! woke it, before others that are about to send. So each message costs a write of its own, and the server a read. Here a
//! task takes the first message, lets everybody else who is ready run, and hands over all that has come by then. When
//! nobody else is ready, nothing waits.

use std::sync::Arc;

use async_nats::{Client, Subject};
use bytes::Bytes;
use spillway_chassis::Tasks;
use tokio::sync::{mpsc, oneshot};

use super::message::Headers;

/// Messages that wait to be handed over; who has one more waits.
const CAPACITY: usize = 1_024;
/// Handed over at a time.
const TOGETHER_MAX: usize = 256;

/// Cheap to clone, which a client of the library is not: it has some ten references of its own.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(Arc<Inlet>);

#[derive(Debug)]
struct Inlet {
    client: Client,
    items: mpsc::Sender<Item>,
}

#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) subject: Subject,
    pub(crate) reply: Option<Subject>,
    pub(crate) headers: Headers,
    pub(crate) payload: Bytes,
}

#[derive(Debug)]
enum Item {
    Message(Outgoing),
    Flush(oneshot::Sender<()>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutboxError {
    #[error("the message is larger than the server takes")]
    TooLarge,
    #[error("the outbox is closed")]
    Closed,
}

impl Outbox {
    /// Open until `end`, or until no clone of it is left.
    pub(crate) fn open(
        client: Client,
        tasks: &Tasks,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let (items, waiting) = mpsc::channel(CAPACITY);
        let work = hand_over(client.clone(), waiting);
        tasks.spawn("nats outbox", async move {
            tokio::select! {
                () = work => {}
                () = end => {}
            }
        });
        Self(Arc::new(Inlet { client, items }))
    }

    /// # Errors
    ///
    /// When it will not be sent.
    pub(crate) async fn send(&self, message: Outgoing) -> Result<(), OutboxError> {
        if message.headers.wire_bytes() + message.payload.len() > self.0.client.max_payload() {
            return Err(OutboxError::TooLarge);
        }
        self.0.items.send(Item::Message(message)).await.map_err(|_closed| OutboxError::Closed)
    }

    /// Without waiting: when there is no room, the message is dropped.
    pub(crate) fn try_send(&self, message: Outgoing) {
        self.0.items.try_send(Item::Message(message)).ok();
    }

    /// Returns when all that was sent before has been written to the socket.
    pub(crate) async fn flush(&self) {
        let (flushed, done) = oneshot::channel();
        if self.0.items.send(Item::Flush(flushed)).await.is_ok() {
            done.await.ok();
        }
    }
}

async fn hand_over(client: Client, mut waiting: mpsc::Receiver<Item>) {
    let mut together = Vec::with_capacity(TOGETHER_MAX);
    while let Some(first) = waiting.recv().await {
        together.push(first);
        tokio::task::yield_now().await;
        while together.len() < TOGETHER_MAX
            && let Ok(next) = waiting.try_recv()
        {
            together.push(next);
        }
        for item in together.drain(..) {
            match item {
                Item::Message(message) => publish(&client, message).await,
                Item::Flush(flushed) => {
                    client.flush().await.ok();
                    flushed.send(()).ok();
                }
            }
        }
    }
}

async fn publish(client: &Client, message: Outgoing) {
    let Outgoing { subject, reply, headers, payload } = message;
    let sent = match (reply, headers.into_inner()) {
        (Some(reply), Some(headers)) => {
            client.publish_with_reply_and_headers(subject, reply, headers, payload).await
        }
        (Some(reply), None) => client.publish_with_reply(subject, reply, payload).await,
        (None, Some(headers)) => client.publish_with_headers(subject, headers, payload).await,
        (None, None) => client.publish(subject, payload).await,
    };
    if let Err(error) = sent {
        // It was checked; the limit of another server may be lower, and a connection may be closed.
        tracing::debug!(%error, "a message was not sent");
    }
}
