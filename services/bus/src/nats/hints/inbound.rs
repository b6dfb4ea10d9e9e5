//! Hints that come in: the interest of this process, kept on a server of one cluster.
//!
//! The table of interest is what should be; SUB and UNSUB are written as it changes, and all of it again after a
//! reconnect. `subscribe` answers after a PONG that follows the SUB, because its caller reads the store next and relies
//! on hearing of everything after that. Those who subscribe at the same time share a PING.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use prometheus::IntCounter;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::dispatch::{Interest, SHARDS};
use super::link::{Link, Ping};
use super::metrics::Metrics;
use super::protocol::{self, Message, ServerInfo};
use super::session::{Denial, Traffic};
use super::state::LinkState;
use super::subjects::Subjects;
use crate::queue::{Queue, lock};
use crate::{BusError, Event, Subject, Subscription};

/// How long `subscribe` waits for a connection.
const DISCONNECTED_MAX: Duration = Duration::from_secs(2);

/// How long it waits altogether. Resubscribing 200,000 devices takes about a second, and new ones come after them.
const CONFIRMATION_MAX: Duration = Duration::from_secs(10);

/// Less than this waiting to be written, and the link gets more.
const UNSENT_BYTES_LOW: usize = 64 * 1024;

pub(super) struct Inbound {
    subjects: Arc<Subjects>,
    interest: Interest,
    commands: Mutex<Commands>,
    wake: Arc<Notify>,
    state: watch::Receiver<LinkState>,
    metrics: Metrics,
}

/// What the link has to send. Bounded: a SUB has somebody who waits for it, and there are no more UNSUBs than there
/// were subscriptions.
#[derive(Default)]
struct Commands {
    /// Else there is no need for commands, since all interest is written when the link is back.
    connected: bool,
    closed: bool,
    bytes: BytesMut,
    waiting: Vec<Waiter>,
}

struct Waiter {
    subject: Subject,
    outcome: oneshot::Sender<Result<(), BusError>>,
}

pub(super) struct NatsSubscription {
    subject: Subject,
    queue: Arc<Queue>,
    inbound: Arc<Inbound>,
}

impl Inbound {
    pub(super) fn new(
        subjects: Arc<Subjects>,
        state: watch::Receiver<LinkState>,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            subjects,
            interest: Interest::default(),
            commands: Mutex::default(),
            wake: Arc::default(),
            state,
            metrics,
        })
    }

    pub(super) fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    pub(super) fn subjects(&self) -> usize {
        self.interest.subjects()
    }

    pub(super) async fn subscribe(self: &Arc<Self>, subject: Subject) -> Result<NatsSubscription, BusError> {
        let queue = Arc::default();
        self.interest.add(subject, &queue, |sid| {
            self.metrics.interest.inc();
            self.commands().push(|bytes| protocol::sub(&self.subjects.name(&subject), sid, bytes));
        });
        // From here on the interest ends with this, also when the caller gives up.
        let subscription = NatsSubscription { subject, queue, inbound: Arc::clone(self) };
        let (outcome, confirmed) = oneshot::channel();
        self.commands().wait(Waiter { subject, outcome });
        self.wake.notify_one();
        tokio::select! {
            outcome = confirmed => outcome.unwrap_or(Err(BusError::Disconnected))?,
            () = self.disconnected_for_long() => return Err(BusError::Disconnected),
            () = sleep(CONFIRMATION_MAX) => return Err(BusError::Disconnected),
        }
        Ok(subscription)
    }

    async fn disconnected_for_long(&self) {
        let mut state = self.state.clone();
        loop {
            // An error is the end of the link's task, which ends the waiters as well.
            if state.wait_for(|state| !state.is_connected()).await.is_err() {
                return;
            }
            match timeout(DISCONNECTED_MAX, state.wait_for(LinkState::is_connected)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    fn commands(&self) -> MutexGuard<'_, Commands> {
        lock(&self.commands)
    }
}

impl Commands {
    fn push(&mut self, encode: impl FnOnce(&mut BytesMut)) {
        if self.connected {
            encode(&mut self.bytes);
        }
    }

    fn wait(&mut self, waiter: Waiter) {
        if self.closed {
            // Dropping the waiter tells it.
            return;
        }
        if self.waiting.len() == self.waiting.capacity() {
            // While the link is down, those who gave up would pile up.
            self.waiting.retain(|waiter| !waiter.outcome.is_closed());
        }
        self.waiting.push(waiter);
    }
}

#[async_trait]
impl Subscription for NatsSubscription {
    async fn next(&mut self) -> Option<Event> {
        self.queue.next().await
    }
}

impl Drop for NatsSubscription {
    fn drop(&mut self) {
        let inbound = &self.inbound;
        inbound.interest.remove(&self.subject, &self.queue, |sid| {
            inbound.metrics.interest.dec();
            inbound.commands().push(|bytes| protocol::unsub(sid, bytes));
            inbound.wake.notify_one();
        });
    }
}

/// The link's side of [`Inbound`].
pub(super) struct InboundTraffic {
    inbound: Arc<Inbound>,
    hints: IntCounter,
    unmatched: IntCounter,
    /// The next shard whose interest is to be written on a new connection.
    resume_at: usize,
    /// It is not the first connection, so hints may have been missed.
    reconnected: bool,
    barriers: VecDeque<Barrier>,
}

enum Barrier {
    Resumed,
    Waiters(Vec<Waiter>),
}

impl InboundTraffic {
    pub(super) fn new(inbound: Arc<Inbound>) -> Self {
        let (hints, unmatched) =
            (inbound.metrics.inward.hints.clone(), inbound.metrics.dropped_unmatched.clone());
        Self { inbound, hints, unmatched, resume_at: SHARDS, reconnected: false, barriers: VecDeque::new() }
    }

    fn resume(&mut self, link: &mut Link) {
        let mut bytes = BytesMut::new();
        let subjects = &self.inbound.subjects;
        self.inbound.interest.each(self.resume_at, |subject, sid| {
            protocol::sub(&subjects.name(subject), sid, &mut bytes);
        });
        link.send(bytes.freeze());
        self.resume_at += 1;
        if self.resume_at == SHARDS {
            self.barriers.push_back(Barrier::Resumed);
            link.ping(Ping::Barrier);
        }
    }

    fn waiters(&mut self) -> impl Iterator<Item = &mut Vec<Waiter>> {
        self.barriers.iter_mut().filter_map(|barrier| match barrier {
            Barrier::Waiters(waiters) => Some(waiters),
            Barrier::Resumed => None,
        })
    }
}

impl Traffic for InboundTraffic {
    fn connected(&mut self, _info: &ServerInfo) {
        // Before the table is read: a change during that is written once more, which the server does not mind.
        self.inbound.commands().connected = true;
        self.resume_at = 0;
    }

    fn refill(&mut self, link: &mut Link) {
        while self.resume_at < SHARDS {
            if link.unsent() >= UNSENT_BYTES_LOW {
                return;
            }
            self.resume(link);
        }
        if link.unsent() >= UNSENT_BYTES_LOW {
            return;
        }
        let (bytes, waiters) = {
            let mut commands = self.inbound.commands();
            (mem::take(&mut commands.bytes), mem::take(&mut commands.waiting))
        };
        link.send(bytes.freeze());
        if !waiters.is_empty() {
            self.barriers.push_back(Barrier::Waiters(waiters));
            link.ping(Ping::Barrier);
        }
    }

    fn message(&mut self, message: &Message) {
        let subject = self.inbound.subjects.parse(&message.subject);
        let delivered = subject
            .is_some_and(|subject| self.inbound.interest.deliver(&subject, message.sid, &message.payload));
        if delivered { self.hints.inc() } else { self.unmatched.inc() }
    }

    fn confirmed(&mut self) {
        match self.barriers.pop_front() {
            Some(Barrier::Resumed) => {
                // Not before: a look at the store now sees all that was stored while nobody was listening.
                let may_have_missed = mem::replace(&mut self.reconnected, true);
                if may_have_missed {
                    (0..SHARDS).for_each(|shard| self.inbound.interest.lag(shard));
                }
            }
            Some(Barrier::Waiters(waiters)) => {
                for waiter in waiters {
                    // An error: it has given up.
                    let _gave_up = waiter.outcome.send(Ok(()));
                }
            }
            None => {}
        }
    }

    fn denied(&mut self, denial: Denial<'_>) {
        let Denial::Subscribe(name) = denial else { return };
        tracing::warn!(subject = kind(name), "NATS does not permit this process to subscribe");
        let Some(subject) = self.inbound.subjects.parse(name.as_bytes()) else { return };
        if self.inbound.interest.refuse(&subject) {
            self.inbound.metrics.interest.dec();
        }
        for waiters in self.waiters() {
            for waiter in waiters.extract_if(.., |waiter| waiter.subject == subject) {
                let _gave_up = waiter.outcome.send(Err(BusError::Refused));
            }
        }
    }

    fn tick(&mut self, _link: &mut Link) {}

    fn disconnected(&mut self) {
        let unconfirmed: Vec<_> = self.waiters().flat_map(mem::take).collect();
        self.barriers.clear();
        let mut commands = self.inbound.commands();
        commands.connected = false;
        commands.bytes = BytesMut::new();
        commands.waiting.extend(unconfirmed);
    }

    fn closed(&mut self) {
        {
            let mut commands = self.inbound.commands();
            commands.closed = true;
            commands.waiting.clear();
        }
        self.inbound.metrics.interest.sub(i64::try_from(self.inbound.subjects()).unwrap_or(i64::MAX));
        self.inbound.interest.close();
    }
}

/// Without the mailbox, which has no place in a log.
fn kind(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(kind, _)| kind)
}

impl std::fmt::Debug for NatsSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsSubscription").field("subject", &self.subject).finish_non_exhaustive()
    }
}
