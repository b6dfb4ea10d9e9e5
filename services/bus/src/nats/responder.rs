//! Answers requests as a member of a queue group.
//!
//! Every request that arrives gets an answer: the handler's; BUSY, at once, when all permits are taken; or "unanswered",
//! when the handler went away without one. So nobody waits in vain for a responder that lives.
//!
//! To stop, a responder leaves the group first, takes what was on its way to it, and ends when that has been answered.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, Message, Subject, Subscriber};
use bytes::Bytes;
use futures::future::{AbortHandle, Abortable};
use futures::{FutureExt, StreamExt};
use spillway_chassis::Tasks;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;

use super::connection::{Connection, ConnectionState};
use super::message::{Headers, Refusal};
use super::metrics::ResponderMetrics;
use super::outbox::{Outbox, OutboxError, Outgoing};
use super::sample::Sample;
use super::{ConnectError, Nats};

/// A number of messages that takes more than the nine digits which a server reads, see [`Responder::leave`].
const NEVER: u64 = u64::MAX;
/// For the server to process what we sent it. Only a broken connection takes longer.
const BARRIER_WAIT: Duration = Duration::from_secs(1);
/// For calls that were stopped to be gone.
const ABORT_WAIT: Duration = Duration::from_secs(1);

/// What is served, and by whom together.
#[derive(Clone, Debug)]
pub struct Group {
    /// May have wildcards.
    pub subject: String,
    /// Each request goes to one member of the group with this name.
    pub name: String,
    /// All members hear here of callers that left. Must not match `subject`, and the server must allow to publish to
    /// it as well: a responder that stops hears itself there.
    pub cancel_subject: String,
}

#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that are handled at a time; one more is answered BUSY.
    pub concurrency_max: usize,
    /// When those who got BUSY should come back.
    pub retry_after: Duration,
    /// From leaving the group until requests that are still being handled are stopped.
    pub drain_max: Duration,
}

/// A connection on which requests of others arrive, and answers leave. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Responders {
    nats: Nats,
    connection: Connection,
}

impl Responders {
    /// # Errors
    ///
    /// When the settings of NATS are wrong.
    pub async fn open(nats: &Nats) -> Result<Self, ConnectError> {
        Ok(Self { nats: nats.clone(), connection: nats.connect("calls").await? })
    }

    pub fn nats(&self) -> &Nats {
        &self.nats
    }

    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.connection.state.clone()
    }

    /// Joins a group and answers with `handler`, until `tasks` is cancelled. Waiting for `tasks` then waits for the
    /// requests in flight.
    ///
    /// # Panics
    ///
    /// When a subject of the group is not valid, which is a mistake in the code.
    pub async fn join<H, F>(&self, group: Group, limits: Limits, tasks: &Tasks, handler: H)
    where
        H: Fn(Incoming) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let client = self.connection.client.clone();
        let valid = "the subjects of a group are valid";
        let cancels = client.subscribe(group.cancel_subject.clone()).await.expect(valid);
        let requests = client.queue_subscribe(group.subject, group.name.clone()).await.expect(valid);
        let (end, ended) = oneshot::channel();
        let outbox = Outbox::open(client.clone(), tasks, ended.map(drop));
        let responder = Responder {
            outbox,
            _end_of_outbox: end,
            metrics: self.nats.metrics().responder(&group.name),
            barrier: Bytes::from(format!("{}.barrier", self.connection.inbox)),
            permits: Arc::new(Semaphore::new(limits.concurrency_max.min(Semaphore::MAX_PERMITS))),
            in_flight: InFlight::default(),
            busy: Sample::default(),
            group: group.name,
            cancel_subject: group.cancel_subject,
            tasks: tasks.clone(),
            client,
            limits,
            handler,
        };
        tasks.spawn("nats responder", responder.run(requests, cancels));
    }
}

/// A request that must be answered. Dropping it says that nobody will.
#[derive(Debug)]
pub struct Incoming {
    outbox: Outbox,
    subject: Subject,
    headers: Headers,
    payload: Bytes,
    /// None once answered.
    reply: Option<Subject>,
    metrics: ResponderMetrics,
}

#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The caller has been told.
    #[error("the answer is larger than a message may be")]
    TooLarge,
    #[error("not connected to NATS")]
    Disconnected,
}

impl Incoming {
    pub fn subject(&self) -> &str {
        &self.subject
    }

    pub const fn headers(&self) -> &Headers {
        &self.headers
    }

    pub fn payload(&self) -> Bytes {
        self.payload.clone()
    }

    /// # Errors
    ///
    /// When the caller does not get this answer.
    pub async fn answer(mut self, headers: Headers, payload: Bytes) -> Result<(), AnswerError> {
        let Some(reply) = self.reply.clone() else {
            return Ok(());
        };
        let answer = Outgoing { subject: reply.clone(), reply: None, headers, payload };
        let outcome = match self.outbox.send(answer).await {
            Ok(()) => Ok(()),
            Err(OutboxError::TooLarge) => {
                let told = self.outbox.send(refusal(reply, Refusal::TooLarge)).await;
                told.map_or(Err(AnswerError::Disconnected), |()| Err(AnswerError::TooLarge))
            }
            Err(OutboxError::Closed) => Err(AnswerError::Disconnected),
        };
        self.reply = None;
        outcome
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            self.metrics.unanswered.inc();
            // When there is no room, the caller waits for its deadline.
            self.outbox.try_send(refusal(reply, Refusal::Unanswered));
        }
    }
}

fn refusal(subject: Subject, refusal: Refusal) -> Outgoing {
    let headers = Headers::of(Some(refusal.into_headers()));
    Outgoing { subject, reply: None, headers, payload: Bytes::new() }
}

struct Responder<H> {
    client: Client,
    /// Where answers go. It ends with this, after the last of them.
    outbox: Outbox,
    _end_of_outbox: oneshot::Sender<()>,
    group: String,
    cancel_subject: String,
    limits: Limits,
    permits: Arc<Semaphore>,
    in_flight: InFlight,
    /// What we tell ourselves when we leave.
    barrier: Bytes,
    metrics: ResponderMetrics,
    busy: Sample,
    tasks: Tasks,
    handler: H,
}

impl<H, F> Responder<H>
where
    H: Fn(Incoming) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    async fn run(self, mut requests: Subscriber, mut cancels: Subscriber) {
        let mut stopped = pin!(self.tasks.cancelled());
        loop {
            tokio::select! {
                biased;
                () = stopped.as_mut() => break,
                Some(cancel) = cancels.next() => self.cancel(&cancel),
                request = requests.next() => match request {
                    Some(request) => self.accept(request).await,
                    // The connection was closed.
                    None => break,
                },
            }
        }
        let deadline = Instant::now() + self.limits.drain_max;
        self.leave(requests, &mut cancels).await;
        self.finish(cancels, deadline).await;
    }

    async fn accept(&self, message: Message) {
        let Some(reply) = message.reply else {
            tracing::debug!(group = self.group, "a request without a place for its answer");
            return;
        };
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.metrics.busy.inc();
            if let Some(earlier) = self.busy.take() {
                tracing::warn!(group = self.group, earlier, "busy: all permits are taken");
            }
            let busy = Refusal::Busy { retry_after: self.limits.retry_after };
            // A failure means that the connection is gone, and the caller with it.
            self.outbox.send(refusal(reply, busy)).await.ok();
            return;
        };
        let (abort, registration) = AbortHandle::new_pair();
        let call =
            self.in_flight.add(Bytes::copy_from_slice(reply.as_bytes()), abort, permit, self.metrics.clone());
        let incoming = Incoming {
            outbox: self.outbox.clone(),
            subject: message.subject,
            headers: Headers::of(message.headers),
            payload: message.payload,
            reply: Some(reply),
            metrics: self.metrics.clone(),
        };
        // It is kilobytes, and would be copied several times on its way into the task.
        let work = Abortable::new(Box::pin((self.handler)(incoming)), registration);
        self.tasks.spawn("nats call", async move {
            // Stopped because the caller left, or for the drain: its answer has been given by the drop.
            let _stopped = work.await;
            drop(call);
        });
    }

    fn cancel(&self, message: &Message) {
        if self.in_flight.abort(&message.payload) {
            self.metrics.cancelled.inc();
        }
    }

    /// Leaves the group without losing what the server has sent already.
    ///
    /// The library's own `drain` forgets the subscription as soon as anything else arrives, and drops what comes after
    /// that. `unsubscribe_after` keeps the subscription until that many messages have come; a server reads at most
    /// nine digits of the number and takes more for "now". A server that took it at its word would send us requests
    /// until the subscription is dropped below, which is what `drain` would give.
    async fn leave(&self, mut requests: Subscriber, cancels: &mut Subscriber) {
        let told = async {
            requests.unsubscribe_after(NEVER).await.ok()?;
            self.client.publish(self.cancel_subject.clone(), self.barrier.clone()).await.ok()
        };
        if told.await.is_some() {
            // The server answers in order: what comes before the barrier is all that comes.
            let rest = async {
                loop {
                    tokio::select! {
                        biased;
                        Some(request) = requests.next() => self.accept(request).await,
                        cancel = cancels.next() => match cancel {
                            Some(cancel) if cancel.payload == self.barrier => break,
                            Some(cancel) => self.cancel(&cancel),
                            None => break,
                        },
                    }
                }
            };
            if tokio::time::timeout(BARRIER_WAIT, rest).await.is_err() {
                tracing::warn!(group = self.group, "the NATS server does not confirm that we left");
            }
        }
        while let Some(Some(request)) = requests.next().now_or_never() {
            self.accept(request).await;
        }
    }

    /// Waits for the calls in flight, and stops those that take too long.
    async fn finish(&self, mut cancels: Subscriber, deadline: Instant) {
        let idle = || async {
            let all = u32::try_from(self.limits.concurrency_max).unwrap_or(u32::MAX);
            drop(self.permits.acquire_many(all).await);
        };
        let finished = async {
            let mut idle = pin!(idle());
            loop {
                tokio::select! {
                    () = idle.as_mut() => return,
                    Some(cancel) = cancels.next() => self.cancel(&cancel),
                }
            }
        };
        if tokio::time::timeout_at(deadline, finished).await.is_err() {
            let stopped = self.in_flight.abort_all();
            tracing::warn!(group = self.group, stopped, "calls did not end in time");
            drop(tokio::time::timeout(ABORT_WAIT, idle()).await);
        }
        // The answers are on their way when the process goes on ending.
        drop(tokio::time::timeout(BARRIER_WAIT, self.outbox.flush()).await);
    }
}

/// The calls that can be stopped, by where their answer goes.
#[derive(Clone, Debug, Default)]
struct InFlight(Arc<Mutex<HashMap<Bytes, AbortHandle>>>);

/// Leaves the map, and gives the permit back, when dropped.
struct Call {
    in_flight: InFlight,
    reply: Bytes,
    metrics: ResponderMetrics,
    _permit: OwnedSemaphorePermit,
}

impl InFlight {
    fn add(
        &self,
        reply: Bytes,
        abort: AbortHandle,
        permit: OwnedSemaphorePermit,
        metrics: ResponderMetrics,
    ) -> Call {
        self.calls().insert(reply.clone(), abort);
        metrics.calls.inc();
        Call { in_flight: self.clone(), reply, metrics, _permit: permit }
    }

    fn abort(&self, reply: &[u8]) -> bool {
        let call = self.calls().remove(reply);
        call.inspect(AbortHandle::abort).is_some()
    }

    fn abort_all(&self) -> usize {
        let calls = std::mem::take(&mut *self.calls());
        calls.values().for_each(AbortHandle::abort);
        calls.len()
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<Bytes, AbortHandle>> {
        // Nothing under this lock can leave the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.in_flight.calls().remove(&self.reply);
        self.metrics.calls.dec();
    }
}
