//! Somebody with an account at a peer.

use std::sync::Arc;

use spillway_types::Guid;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::{Outgoing, PeerError};
use crate::stats::Outcome;
use crate::summary::EXISTING_SEND;
use crate::workload::{Contact, Entered, Order, Somebody, World, enter};

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct PeerUser {
    index: u32,
    /// How mail goes; `None` while offline.
    line: Arc<watch::Sender<Option<Arc<dyn Outgoing>>>>,
    orders: mpsc::Sender<Order>,
}

impl PeerUser {
    pub(super) fn new(index: u32, orders: mpsc::Sender<Order>) -> Self {
        Self { index, line: Arc::new(watch::Sender::new(None)), orders }
    }

    pub(super) fn has(&self, line: Option<Arc<dyn Outgoing>>) {
        self.line.send_replace(line);
    }

    /// Who has just lost the connection sends when it is back.
    async fn send(&self, to: u32, content: Vec<u8>) -> Result<(), PeerError> {
        let gone = || PeerError::failed("send", "offline", "there is nobody any more");
        let line = self.line.subscribe().wait_for(Option::is_some).await.ok().and_then(|line| line.clone());
        line.ok_or_else(gone)?.send(to, Guid::random(), content).await
    }
}

impl Somebody for PeerUser {
    /// A peer knows people by their numbers.
    type Account = ();

    fn index(&self) -> u32 {
        self.index
    }

    fn contact(&self) -> Contact<()> {
        Contact { index: self.index, account: () }
    }

    fn is_online(&self) -> bool {
        self.line.borrow().is_some()
    }

    async fn send_to(&self, world: &World, other: &Contact<()>, planned: Instant, bytes: Option<u32>) {
        let Some(Entered { ticket, content, sending: _sending }) =
            enter(world, self.index, other.index, bytes)
        else {
            return;
        };
        let timer = world.stats().start(EXISTING_SEND, planned);
        // As long as Spillway's client waits for an answer.
        let answer = timeout(world.client.call_timeout, self.send(other.index, content)).await;
        let outcome = match answer {
            Ok(Ok(())) => Outcome::Ok,
            Ok(Err(error)) => {
                tracing::debug!(error = ?error, "not sent");
                error.outcome()
            }
            Err(_) => Outcome::Failed("deadline_exceeded"),
        };
        match outcome {
            Outcome::Ok => world.ledger.acked(ticket),
            _ => world.ledger.gave_up(ticket),
        }
        timer.finish(outcome);
    }

    /// Refused before the run: no peer has an equal of it.
    async fn discover(&self, _: &World, _: Instant) {}

    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            tracing::debug!(index = self.index, ?order, "not reached");
        }
    }
}
