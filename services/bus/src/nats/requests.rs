//! Requests, and the one inbox that their answers come to.
//!
//! The library's own requests keep an entry for each that is never answered (its issue 1617). Here an entry goes with
//! the future that waits: on an answer, at the deadline, and when the caller drops it.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use spillway_chassis::Tasks;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Instant;

use super::connection::{Connection, ConnectionState, SUBSCRIPTION_CAPACITY};
use super::message::{Headers, Refusal};
use super::metrics::RequestMetrics;
use super::outbox::{Outbox, OutboxError, Outgoing};
use super::{ConnectError, Nats};

/// Requests that wait at a time; more wait for their turn. As many answers as this fit into the inbox, so none of
/// them is ever dropped for want of room.
const IN_FLIGHT_MAX: usize = SUBSCRIPTION_CAPACITY;

/// Enough that callers on all cores rarely meet at one lock.
const SHARDS: usize = 16;

#[derive(Clone, Debug)]
pub struct Request {
    pub subject: String,
    pub headers: Headers,
    pub payload: Bytes,
    /// Where to say that the caller has left, see [`super::Group::cancel_subject`].
    pub cancel_subject: Option<Arc<str>>,
}

/// What a handler answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub headers: Headers,
    pub payload: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("nobody serves this subject")]
    NoResponders,
    #[error("the deadline has passed")]
    Deadline,
    #[error("the responder has more to do than it can")]
    Busy { retry_after: Duration },
    /// It may have done some or all of the work.
    #[error("the responder went away without an answer")]
    Unanswered,
    #[error("the request is larger than a message may be")]
    RequestTooLarge,
    #[error("the answer is larger than a message may be")]
    ReplyTooLarge,
    /// The request may have arrived.
    #[error("not connected to NATS")]
    Disconnected,
    #[error("the subject is not valid")]
    Subject,
}

/// Makes requests over a connection of its own. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Requests {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    outbox: Outbox,
    /// What answers are sent to, but for the token at its end.
    inbox: String,
    waiting: Waiting,
    turns: Semaphore,
    metrics: RequestMetrics,
    state: watch::Receiver<ConnectionState>,
}

impl Requests {
    /// # Errors
    ///
    /// When the settings of NATS are wrong. A server that does not answer is none: see [`Requests::state`].
    pub async fn open(nats: &Nats) -> Result<Self, ConnectError> {
        let Connection { client, inbox, state } = nats.connect("requests").await?;
        let inbox = format!("{inbox}.r.");
        let answers =
            client.subscribe(format!("{inbox}*")).await.expect("a new connection takes a valid subject");
        let outbox = Outbox::open(client.clone(), nats.tasks(), nats.tasks().cancelled());
        let shared = Arc::new(Shared {
            client,
            outbox,
            inbox,
            waiting: Waiting::default(),
            turns: Semaphore::new(IN_FLIGHT_MAX),
            metrics: nats.metrics().requests(),
            state,
        });
        nats.tasks().spawn("nats answers", Arc::clone(&shared).dispatch(answers, nats.tasks().clone()));
        Ok(Self { shared })
    }

    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.shared.state.clone()
    }

    /// How many requests have no answer yet.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.len()
    }

    /// Sends a request and waits for its answer until `deadline`. Dropping the future tells the responder.
    ///
    /// # Errors
    ///
    /// Only [`RequestError::NoResponders`], [`RequestError::Busy`], [`RequestError::RequestTooLarge`] and
    /// [`RequestError::Subject`] mean that no handler has seen the request.
    pub async fn send(&self, request: Request, deadline: Instant) -> Result<Reply, RequestError> {
        let shared = &*self.shared;
        let outcome = shared.send(request, deadline).await;
        match &outcome {
            Err(RequestError::Deadline) => shared.metrics.deadline.inc(),
            Err(RequestError::NoResponders) => shared.metrics.no_responders.inc(),
            Err(RequestError::Disconnected) => shared.metrics.disconnected.inc(),
            _ => shared.metrics.answered.inc(),
        }
        outcome
    }
}

impl Shared {
    async fn send(&self, request: Request, deadline: Instant) -> Result<Reply, RequestError> {
        let mut entry = Entry { shared: self, token: None, reply: None, cancel_subject: None };
        let exchange = async {
            let _turn = self.turns.acquire().await.map_err(|_closed| RequestError::Disconnected)?;
            // While there is no connection the library would queue the request, and send it when nobody waits for it
            // any more.
            if self.client.connection_state() != State::Connected {
                return Err(RequestError::Disconnected);
            }
            let answer = entry.register(request.cancel_subject);
            let reply = entry.reply.clone().expect("registered");
            self.publish(request.subject, reply, request.headers, request.payload).await?;
            answer.await.map_err(|_connection_broke| RequestError::Disconnected)
        };
        match tokio::time::timeout_at(deadline, exchange).await {
            Ok(Ok(message)) => read(message),
            Ok(Err(error)) => {
                entry.cancel_subject = None;
                Err(error)
            }
            Err(_elapsed) => {
                // The responder has the same deadline.
                entry.cancel_subject = None;
                Err(RequestError::Deadline)
            }
        }
    }

    async fn publish(
        &self,
        subject: String,
        reply: Subject,
        headers: Headers,
        payload: Bytes,
    ) -> Result<(), RequestError> {
        let subject = Subject::validated(subject).map_err(|_| RequestError::Subject)?;
        let message = Outgoing { subject, reply: Some(reply), headers, payload };
        self.outbox.send(message).await.map_err(|error| match error {
            OutboxError::TooLarge => RequestError::RequestTooLarge,
            OutboxError::Closed => RequestError::Disconnected,
        })
    }

    /// Hands answers to those who wait, until the process ends.
    async fn dispatch(self: Arc<Self>, mut answers: Subscriber, tasks: Tasks) {
        let mut state = self.state.clone();
        let mut cancelled = pin!(tasks.cancelled());
        loop {
            tokio::select! {
                answer = answers.next() => match answer {
                    Some(message) => self.give(message),
                    None => break,
                },
                changed = state.changed() => {
                    let down = matches!(*state.borrow_and_update(), ConnectionState::Disconnected { .. });
                    if down || changed.is_err() {
                        // Answers that were on their way are lost. Those who wait had better try again now.
                        self.waiting.give_up();
                    }
                    if changed.is_err() {
                        break;
                    }
                }
                () = cancelled.as_mut() => break,
            }
        }
        self.turns.close();
        self.waiting.give_up();
    }

    fn give(&self, message: Message) {
        let token = message.subject.strip_prefix(self.inbox.as_str());
        let token = token.and_then(|token| u64::from_str_radix(token, 16).ok());
        // Late answers find nobody.
        if let Some(waiting) = token.and_then(|token| self.waiting.remove(token)) {
            // He may have left in this moment.
            drop(waiting.send(message));
        }
    }
}

fn read(message: Message) -> Result<Reply, RequestError> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(RequestError::NoResponders);
    }
    match message.headers.as_ref().and_then(Refusal::from_headers) {
        None => Ok(Reply { headers: Headers::of(message.headers), payload: message.payload }),
        Some(Refusal::Busy { retry_after }) => Err(RequestError::Busy { retry_after }),
        Some(Refusal::Unanswered) => Err(RequestError::Unanswered),
        Some(Refusal::TooLarge) => Err(RequestError::ReplyTooLarge),
    }
}

/// One caller, who leaves the map when this is dropped.
struct Entry<'a> {
    shared: &'a Shared,
    token: Option<u64>,
    reply: Option<Subject>,
    cancel_subject: Option<Arc<str>>,
}

impl Entry<'_> {
    fn register(&mut self, cancel_subject: Option<Arc<str>>) -> oneshot::Receiver<Message> {
        let (token, answer) = self.shared.waiting.add();
        self.shared.metrics.waiting.inc();
        self.token = Some(token);
        self.reply = Some(Subject::from(format!("{}{token:x}", self.shared.inbox)));
        self.cancel_subject = cancel_subject;
        answer
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let Some(token) = self.token else {
            return;
        };
        self.shared.metrics.waiting.dec();
        let unanswered = self.shared.waiting.remove(token).is_some();
        let (Some(reply), Some(cancel)) = (self.reply.take(), self.cancel_subject.take()) else {
            return;
        };
        if unanswered {
            self.shared.metrics.abandoned.inc();
            // Best effort: when there is no room, the responder works in vain. Behind the request, which it must not
            // overtake.
            self.shared.outbox.try_send(Outgoing {
                subject: Subject::from(&*cancel),
                reply: None,
                headers: Headers::default(),
                payload: Bytes::copy_from_slice(reply.as_bytes()),
            });
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    next: AtomicU64,
    shards: [Mutex<HashMap<u64, oneshot::Sender<Message>>>; SHARDS],
}

impl Waiting {
    fn add(&self) -> (u64, oneshot::Receiver<Message>) {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.shard(token).insert(token, sender);
        (token, receiver)
    }

    fn remove(&self, token: u64) -> Option<oneshot::Sender<Message>> {
        self.shard(token).remove(&token)
    }

    fn give_up(&self) {
        for shard in &self.shards {
            lock(shard).clear();
        }
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, token: u64) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Message>>> {
        lock(&self.shards[token as usize % SHARDS])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under this lock can leave the map half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use prometheus::Registry;

    use super::*;
    use crate::nats::NatsConfig;

    const BOUND: Duration = Duration::from_secs(10);

    fn nats(tasks: &Tasks) -> Nats {
        let address = std::env::var("SPILLWAY_TEST_NATS").expect(
            "SPILLWAY_TEST_NATS is not set: run `cargo xtask test`, which starts what the tests need",
        );
        let config = NatsConfig {
            servers: vec![format!("nats://{address}")],
            prefix: format!("test-{:016x}", rand::random::<u64>()),
            ..NatsConfig::default()
        };
        Nats::new(config, "test", &Registry::new(), tasks).unwrap()
    }

    async fn connected(mut state: watch::Receiver<ConnectionState>) {
        let up = state.wait_for(ConnectionState::is_connected);
        tokio::time::timeout(BOUND, up).await.expect("NATS does not answer").unwrap();
    }

    /// Somebody who takes requests and never answers. Counts them, and those who told him that they left.
    async fn silent(nats: &Nats, tasks: &Tasks) -> [Arc<AtomicUsize>; 2] {
        let connection = nats.connect("silent").await.unwrap();
        connected(connection.state.clone()).await;
        let counts = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        for (tail, count) in ["silence", "cancel"].into_iter().zip(&counts) {
            let mut messages = connection.client.subscribe(nats.subject(tail)).await.unwrap();
            let count = Arc::clone(count);
            tasks.spawn("silent", async move {
                while messages.next().await.is_some() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        // A flush says that the subscriptions have left. The server has taken them when a message comes back that
        // left behind them.
        let barrier = format!("{}.barrier", connection.inbox);
        let mut back = connection.client.subscribe(barrier.clone()).await.unwrap();
        connection.client.publish(barrier, Bytes::new()).await.unwrap();
        tokio::time::timeout(BOUND, back.next()).await.expect("NATS does not answer").unwrap();
        counts
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn requests_that_nobody_answered_leave_nothing_behind() {
        const REQUESTS: usize = 10_000;
        let tasks = Tasks::new();
        let nats = nats(&tasks);
        let requests = Requests::open(&nats).await.unwrap();
        connected(requests.state()).await;
        let [arrived, cancelled] = silent(&nats, &tasks).await;
        let mut callers = tokio::task::JoinSet::new();
        for i in 0..REQUESTS {
            let requests = requests.clone();
            let request = Request {
                subject: nats.subject("silence"),
                headers: Headers::default(),
                payload: Bytes::from_static(b"hello"),
                cancel_subject: Some(nats.subject("cancel").into()),
            };
            callers.spawn(async move {
                if i % 2 == 0 {
                    let deadline = Instant::now() + Duration::from_millis(20);
                    assert_eq!(requests.send(request, deadline).await.unwrap_err(), RequestError::Deadline);
                } else {
                    let call = requests.send(request, Instant::now() + BOUND);
                    tokio::time::timeout(Duration::from_millis(20), call).await.unwrap_err();
                }
            });
            // Fewer than may wait at a time, so that all of them are sent.
            if callers.len() >= IN_FLIGHT_MAX / 2 {
                callers.join_next().await.unwrap().unwrap();
            }
        }
        while let Some(outcome) = callers.join_next().await {
            outcome.unwrap();
        }
        assert_eq!(requests.waiting(), 0);
        assert_eq!(requests.shared.metrics.waiting.get(), 0);
        assert_eq!(requests.shared.turns.available_permits(), IN_FLIGHT_MAX);
        assert!(arrived.load(Ordering::SeqCst) > REQUESTS / 2, "{arrived:?}");
        assert!(cancelled.load(Ordering::SeqCst) > REQUESTS / 4, "those who left have told: {cancelled:?}");
    }

    #[tokio::test]
    async fn more_than_may_wait_at_a_time_wait_for_their_turn() {
        let tasks = Tasks::new();
        let nats = nats(&tasks);
        let requests = Requests::open(&nats).await.unwrap();
        connected(requests.state()).await;
        let all = requests.shared.turns.acquire_many(IN_FLIGHT_MAX as u32).await.unwrap();
        let request = || Request {
            subject: nats.subject("nobody"),
            headers: Headers::default(),
            payload: Bytes::new(),
            cancel_subject: None,
        };
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(requests.send(request(), soon).await.unwrap_err(), RequestError::Deadline);
        drop(all);
        let outcome = requests.send(request(), Instant::now() + BOUND).await;
        assert_eq!(outcome.unwrap_err(), RequestError::NoResponders);
    }

    #[tokio::test]
    async fn a_process_that_ends_lets_nobody_wait() {
        let tasks = Tasks::new();
        let nats = nats(&tasks);
        let requests = Requests::open(&nats).await.unwrap();
        connected(requests.state()).await;
        let [arrived, _] = silent(&nats, &Tasks::new()).await;
        let request = Request {
            subject: nats.subject("silence"),
            headers: Headers::default(),
            payload: Bytes::new(),
            cancel_subject: None,
        };
        let end = async {
            while arrived.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            tasks.cancel();
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! {
            outcome = requests.send(request, Instant::now() + BOUND) => outcome,
            () = end => unreachable!("it never ends"),
        };
        assert_eq!(outcome.unwrap_err(), RequestError::Disconnected);
    }
}
