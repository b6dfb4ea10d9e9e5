//! A device that is online.

use std::collections::HashSet;

use bytes::Bytes;
use spillway_api::v1::closing;
use spillway_client::{CallError, Delivery, Session, SessionEvent};
use tokio::time::timeout;

use super::support::{PATIENCE, Person};

/// An open session. Waits for what must come, and fails when it does not.
pub(crate) struct Inbox(pub(crate) Session);

impl Person {
    pub(crate) async fn inbox(&self) -> Inbox {
        Inbox(self.client.open_session(&self.identity).await.unwrap())
    }
}

impl Inbox {
    /// `None`: the stream has ended without a word.
    pub(crate) async fn try_event(&mut self) -> Result<Option<SessionEvent>, CallError> {
        timeout(PATIENCE, self.0.next()).await.expect("nothing happens in the session")
    }

    pub(crate) async fn event(&mut self) -> SessionEvent {
        self.try_event().await.unwrap().expect("the stream ended")
    }

    /// The next event is a message. It is not acked.
    pub(crate) async fn delivery(&mut self) -> Delivery {
        match self.event().await {
            SessionEvent::Delivery(delivery) => delivery,
            other => panic!("{other:?} instead of a message"),
        }
    }

    pub(crate) async fn ack(&self, delivery: &Delivery) {
        if let Some(id) = delivery.id {
            self.0.handle().ack([id]).await;
        }
    }

    /// The content of the next message, which is acked. Passes over the end of the backlog.
    pub(crate) async fn message(&mut self) -> Bytes {
        loop {
            match self.event().await {
                SessionEvent::Delivery(delivery) => {
                    self.ack(&delivery).await;
                    return delivery.envelope.content;
                }
                SessionEvent::QueueEmpty => {}
                other => panic!("{other:?} instead of a message"),
            }
        }
    }

    /// What was stored when the session opened, all acked.
    pub(crate) async fn backlog(&mut self) -> Vec<Bytes> {
        let mut contents = Vec::new();
        loop {
            match self.event().await {
                SessionEvent::Delivery(delivery) => {
                    self.ack(&delivery).await;
                    contents.push(delivery.envelope.content);
                }
                SessionEvent::QueueEmpty => return contents,
                other => panic!("{other:?} in the backlog"),
            }
        }
    }

    /// Acks messages until all of `wanted` have come.
    pub(crate) async fn until_all(&mut self, wanted: &[Bytes]) {
        let mut missing: HashSet<_> = wanted.iter().cloned().collect();
        while !missing.is_empty() {
            missing.remove(&self.message().await);
        }
    }

    /// Reads to the end, which must have a reason.
    pub(crate) async fn closing(&mut self) -> closing::Reason {
        loop {
            if let SessionEvent::Closing(reason) = self.event().await {
                return reason;
            }
        }
    }
}
