//! A device that is online: receives, drops what it has seen, writes the rest into the ledger, acks, and comes back
//! when the stream ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng;
use spillway_api::{account_id, v1};
use spillway_client::{CallError, Client, Dedup, Delivery, Identity, Session, SessionEvent};
use spillway_types::AccountId;
use tokio::time::Instant;

use super::{BACKLOG, DELIVER, OPEN_SESSION, World, outcome};
use crate::cohorts::Cohort;
use crate::ledger;
use crate::stats::Outcome;

/// Guids that a device remembers.
pub(crate) const SEEN_MAX: usize = 4_096;
/// A device that lost its stream waits up to this long before it comes back, so that all do not come at once.
pub(crate) const REOPENS_WITHIN: Duration = Duration::from_secs(1);

/// How a device takes its mail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Tells the service what has come.
    pub(crate) acks: bool,
    /// Whether how long mail takes to it says something about the service.
    pub(crate) measured: bool,
    /// Before each event is taken from the session.
    pub(crate) pause: Duration,
    /// Who opens sessions as something to be counted apart, and by when they are opened again at the latest.
    opens: Option<Cohort>,
    reopens_within: Duration,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            acks: true,
            measured: true,
            pause: Duration::ZERO,
            opens: None,
            reopens_within: REOPENS_WITHIN,
        }
    }
}

impl Reading {
    /// Sessions are what this cohort does.
    pub(crate) fn opens_as(&mut self, cohort: Cohort, within: Duration) {
        (self.opens, self.reopens_within) = (Some(cohort), within);
    }
}

/// A device and what it has seen.
#[derive(Debug)]
pub(crate) struct Inbox {
    client: Client,
    identity: Arc<Identity>,
    session: Option<Session>,
    /// When it was opened, until everything that had been kept has come.
    catching_up_since: Option<Instant>,
    /// Shared with its twin.
    seen: Arc<Mutex<Dedup>>,
    pub(crate) reading: Reading,
}

/// A message that arrived for the first time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(super) from: u32,
    pub(super) from_account: AccountId,
}

impl Inbox {
    pub(super) fn new(client: Client, identity: Arc<Identity>) -> Self {
        let seen = Arc::new(Mutex::new(Dedup::new(SEEN_MAX)));
        Self { client, identity, session: None, catching_up_since: None, seen, reading: Reading::default() }
    }

    /// The same device on another connection. What one of them has seen, both have.
    pub(crate) fn twin(&self, client: Client) -> Self {
        let (identity, seen) = (self.identity.clone(), self.seen.clone());
        Self { client, identity, session: None, catching_up_since: None, seen, reading: self.reading }
    }

    /// Opens the session now, once; later losses are repaired by [`Inbox::next`].
    pub(super) async fn open(&mut self, world: &World) -> Option<()> {
        let mut operation = OPEN_SESSION;
        if let Some(cohort) = self.reading.opens {
            world.crowd.turn(cohort).await;
            world.crowd.tally(cohort).attempt(0);
            operation = cohort.operation();
        }
        let timer = world.stats().start(operation, Instant::now());
        outcome::finish(timer, self.try_open().await)
    }

    /// The same, untimed.
    pub(super) async fn try_open(&mut self) -> Result<(), CallError> {
        self.session = None;
        let session = self.client.open_session(&self.identity).await?;
        self.catching_up_since = Some(Instant::now());
        self.session = Some(session);
        Ok(())
    }

    /// The connection is lost; from now on there is another one.
    pub(crate) fn lose(&mut self, client: Client) {
        self.session = None;
        self.client = client;
    }

    /// Waits for the next new message. Cancel-safe but for a message that is just being acked, which then arrives
    /// again and is recognised.
    pub(crate) async fn next(&mut self, world: &World) -> Arrived {
        loop {
            let Some(session) = &mut self.session else {
                let pause = self.reading.reopens_within.mul_f64(rand::rng().random());
                tokio::time::sleep(pause).await;
                // Rare, and large beside what an open session needs.
                Box::pin(self.open(world)).await;
                continue;
            };
            if !self.reading.pause.is_zero() {
                tokio::time::sleep(self.reading.pause).await;
            }
            match session.next().await {
                Ok(Some(SessionEvent::Delivery(delivery))) => {
                    if let Some(arrived) = self.take(world, delivery).await {
                        return arrived;
                    }
                }
                Ok(Some(SessionEvent::QueueEmpty)) => {
                    if let Some(since) = self.catching_up_since.take()
                        && self.reading.measured
                    {
                        world.stats().record(BACKLOG, since, since, Instant::now(), Outcome::Ok);
                    }
                }
                Ok(Some(SessionEvent::Migrate(_))) => {}
                Ok(Some(SessionEvent::Closing(reason))) => self.lost(Some(reason)),
                Ok(None)
                | Err(CallError::Transport(_) | CallError::Refused(_) | CallError::HeldBack { .. }) => {
                    self.lost(None)
                }
            }
        }
    }

    async fn take(&mut self, world: &World, delivery: Delivery) -> Option<Arrived> {
        let now = Instant::now();
        let is_new = self.seen.lock().unwrap_or_else(PoisonError::into_inner).is_new(delivery.guid);
        let entry = is_new.then(|| world.ledger.delivered(&delivery.envelope.content));
        if let (Some(id), Some(session), true) = (delivery.id, &self.session, self.reading.acks) {
            // False: the stream has just ended, and the message will come again and be recognised.
            session.handle().ack([id]).await;
        }
        let ledger::Delivery::First { conversation, sent_at } = entry? else { return None };
        let sent = world.moment(sent_at);
        if self.reading.measured && world.crowd.behaves(conversation.sender) {
            world.stats().record(DELIVER, sent, sent, now, Outcome::Ok);
        }
        let source = delivery.envelope.source.as_ref().map_or(&[][..], |source| &source.account_id);
        let from_account = account_id("source", source).ok()?;
        Some(Arrived { from: conversation.sender, from_account })
    }

    fn lost(&mut self, reason: Option<v1::closing::Reason>) {
        tracing::debug!(?reason, "a session ended");
        self.session = None;
    }
}
