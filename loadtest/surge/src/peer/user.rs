//! Somebody with an account at a peer.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use spillway_types::Guid;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::Outgoing;
use crate::stats::Outcome;
use crate::summary::EXISTING_SEND;
use crate::workload::{Entered, Order, Somebody, World, enter};

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct PeerUser {
    index: u32,
    /// `None` while offline.
    line: Arc<ArcSwapOption<Line>>,
    orders: mpsc::Sender<Order>,
}

/// How mail goes while somebody is online.
#[derive(Debug)]
pub(super) struct Line(pub(super) Arc<dyn Outgoing>);

impl PeerUser {
    pub(super) fn new(index: u32, orders: mpsc::Sender<Order>) -> Self {
        Self { index, line: Arc::default(), orders }
    }

    pub(super) fn has(&self, line: Option<Line>) {
        self.line.store(line.map(Arc::new));
    }
}

impl Somebody for PeerUser {
    fn index(&self) -> u32 {
        self.index
    }

    fn is_online(&self) -> bool {
        self.line.load().is_some()
    }

    async fn send_to(&self, world: &World, other: &Self, planned: Instant, bytes: Option<u32>) {
        let Some(Entered { ticket, content, sending: _sending }) =
            enter(world, self.index, other.index, bytes)
        else {
            return;
        };
        let timer = world.stats().start(EXISTING_SEND, planned);
        let Some(line) = self.line.load_full() else {
            world.ledger.gave_up(ticket);
            timer.finish(Outcome::Failed("offline"));
            return;
        };
        // As long as Spillway's client waits for an answer.
        let answer =
            timeout(world.client.call_timeout, line.0.send(other.index, Guid::random(), content)).await;
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
