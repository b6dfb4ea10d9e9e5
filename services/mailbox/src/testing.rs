//! The role on an embedded store and a local bus, with a clock that tests move and a store that can be slow or fail.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use prometheus::Registry;
use prost::Message;
use spillway_api::internal::v1::MailboxHint;
use spillway_api::internal::v1::mailbox_hint::Hint;
use spillway_bus::{Bus, Event, LocalBus, Subject, Subscription};
use spillway_chassis::Tasks;
use spillway_store::embedded::{self, EmbeddedHandle};
use spillway_store::mailboxes::{Capacity, Page, PageLimit, Put, StoredMessage};
use spillway_store::{Mailboxes, StoreError};
use spillway_types::{Clock, Guid, MailboxId, MessageId, MessageIdGenerator, TestClock, Timestamp};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::{Config, Deps, Mailbox};

/// Turns a hang into a failure.
const BOUND: Duration = Duration::from_secs(10);

pub(crate) const ALL: PageLimit = PageLimit { messages: 1_000, bytes: 1 << 20 };

pub(crate) struct Fixture {
    pub(crate) mailbox: Mailbox,
    pub(crate) clock: TestClock,
    pub(crate) store: Arc<SlowStore>,
    pub(crate) tasks: Tasks,
    bus: Arc<LocalBus>,
    ids: MessageIdGenerator,
    _store: EmbeddedHandle,
    _folder: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = TestClock::default();
        let registry = Registry::new();
        let store = embedded::Config { path: folder.path().to_owned(), ..embedded::Config::default() };
        let (store, handle) = embedded::open(&store, &registry, Arc::new(clock.clone())).unwrap();
        let store = Arc::new(SlowStore::new(store.mailboxes, clock.clone()));
        let bus = Arc::new(LocalBus::new());
        let tasks = Tasks::new();
        let deps = Deps {
            mailboxes: store.clone(),
            bus: bus.clone(),
            clock: Arc::new(clock.clone()),
            tasks: tasks.clone(),
            registry,
        };
        let mailbox = Mailbox::new(config, deps).unwrap();
        let ids = MessageIdGenerator::new(Arc::new(clock.clone()));
        Self { mailbox, clock, store, tasks, bus, ids, _store: handle, _folder: folder }
    }

    /// A message that is minted now.
    pub(crate) fn message(&self, envelope: impl Into<Bytes>) -> StoredMessage {
        StoredMessage { id: self.ids.mint(), guid: Guid::random(), envelope: envelope.into() }
    }

    /// A message that is minted and stored now.
    pub(crate) async fn stored(&self, mailbox: MailboxId) -> StoredMessage {
        let message = self.message("hello");
        self.mailbox.append(mailbox, message.clone()).await.unwrap();
        message
    }

    /// What a new session reads.
    pub(crate) async fn read(&self, mailbox: MailboxId) -> Page {
        self.mailbox.fetch(mailbox, None, None, ALL).await.unwrap().page
    }

    /// What the store has, whatever the watermark.
    pub(crate) async fn contents(&self, mailbox: MailboxId) -> Vec<StoredMessage> {
        let now = self.clock.now();
        self.store.inner.page(mailbox, MessageId::MIN, ALL, now).await.unwrap().messages
    }

    pub(crate) async fn settled(&self, mailbox: MailboxId) -> Timestamp {
        self.store.inner.settled(mailbox).await.unwrap()
    }

    pub(crate) async fn subscribe(&self, mailbox: MailboxId) -> Hints {
        Hints(self.bus.subscribe(Subject::Mailbox(mailbox)).await.unwrap())
    }
}

/// The hints of one mailbox.
pub(crate) struct Hints(Box<dyn Subscription>);

impl Hints {
    pub(crate) async fn next(&mut self) -> Hint {
        let event = timeout(BOUND, self.0.next()).await.expect("a hint comes within ten seconds");
        hint(event)
    }

    /// A hint that is there already.
    pub(crate) async fn now(&mut self) -> Option<Hint> {
        let mut next = self.0.next();
        let event = poll_fn(|cx| match next.as_mut().poll(cx) {
            Poll::Ready(event) => Poll::Ready(Some(event)),
            Poll::Pending => Poll::Ready(None),
        });
        event.await.map(hint)
    }
}

fn hint(event: Option<Event>) -> Hint {
    let Some(Event::Hint(bytes)) = event else { panic!("expected a hint, got {event:?}") };
    MailboxHint::decode(bytes).unwrap().hint.unwrap()
}

/// Passes everything to a real store; on the way it takes time, waits or fails as it is told.
#[derive(Debug)]
pub(crate) struct SlowStore {
    inner: Arc<dyn Mailboxes>,
    clock: TestClock,
    put_takes: Mutex<Duration>,
    /// While true, puts wait before they begin.
    held: watch::Sender<bool>,
    /// How many puts have begun or wait to.
    puts: watch::Sender<usize>,
    failure: Mutex<Option<StoreError>>,
    pub(crate) raises: AtomicUsize,
    /// Look-ups of a watermark.
    pub(crate) looked_up: AtomicUsize,
}

impl SlowStore {
    fn new(inner: Arc<dyn Mailboxes>, clock: TestClock) -> Self {
        Self {
            inner,
            clock,
            put_takes: Mutex::default(),
            held: watch::Sender::new(false),
            puts: watch::Sender::new(0),
            failure: Mutex::default(),
            raises: AtomicUsize::new(0),
            looked_up: AtomicUsize::new(0),
        }
    }

    pub(crate) fn puts_take(&self, duration: Duration) {
        *self.put_takes.lock().unwrap() = duration;
    }

    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Waits until a put has come.
    pub(crate) async fn put_has_come(&self) {
        self.puts.subscribe().wait_for(|puts| *puts > 0).await.expect("the store lives");
    }

    /// The next write fails so.
    pub(crate) fn fail(&self, error: StoreError) {
        *self.failure.lock().unwrap() = Some(error);
    }

    fn check(&self) -> Result<(), StoreError> {
        self.failure.lock().unwrap().take().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Mailboxes for SlowStore {
    async fn put(
        &self,
        mailbox: MailboxId,
        message: StoredMessage,
        capacity: Capacity,
    ) -> Result<Put, StoreError> {
        self.puts.send_modify(|puts| *puts += 1);
        self.held.subscribe().wait_for(|held| !held).await.expect("the store lives");
        self.check()?;
        let put = self.inner.put(mailbox, message, capacity).await;
        self.clock.advance(*self.put_takes.lock().unwrap());
        put
    }

    async fn page(
        &self,
        mailbox: MailboxId,
        after: MessageId,
        limit: PageLimit,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        self.inner.page(mailbox, after, limit, now).await
    }

    async fn delete(&self, mailbox: MailboxId, ids: &[MessageId], now: Timestamp) -> Result<(), StoreError> {
        self.check()?;
        self.inner.delete(mailbox, ids, now).await
    }

    async fn settled(&self, mailbox: MailboxId) -> Result<Timestamp, StoreError> {
        self.looked_up.fetch_add(1, Ordering::SeqCst);
        self.inner.settled(mailbox).await
    }

    async fn raise_settled(&self, mailbox: MailboxId, settled: Timestamp) -> Result<(), StoreError> {
        self.raises.fetch_add(1, Ordering::SeqCst);
        self.check()?;
        self.inner.raise_settled(mailbox, settled).await
    }

    async fn purge(&self, mailbox: MailboxId) -> Result<(), StoreError> {
        self.check()?;
        self.inner.purge(mailbox).await
    }

    async fn expire(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.check()?;
        self.inner.expire(now).await
    }
}
