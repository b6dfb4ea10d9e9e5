//! Hints over a real NATS server.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use prometheus::Registry;
use spillway_bus::nats::hints::{LinkState, StartError};
use spillway_bus::nats::{NatsBus, NatsConfig};
use spillway_bus::{Bus, BusError, Event, Subject, Subscription, conformance};
use spillway_chassis::Tasks;
use spillway_types::MailboxId;
use tokio::time::{Instant, timeout};

use crate::proxy::{Mode, Proxy};
use crate::server;

const BOUND: Duration = Duration::from_secs(15);

/// One process of a fleet, as far as hints go.
pub(crate) struct Process {
    pub(crate) bus: NatsBus,
    tasks: Tasks,
    registry: Registry,
}

impl Process {
    pub(crate) fn start(config: &NatsConfig) -> Self {
        let (tasks, registry) = (Tasks::new(), Registry::new());
        let bus = NatsBus::start(config, "test", &tasks, &registry).unwrap();
        Self { bus, tasks, registry }
    }

    async fn connected(config: &NatsConfig) -> Self {
        let process = Self::start(config);
        process.wait_connected().await;
        process
    }

    pub(crate) async fn wait_connected(&self) {
        self.wait(LinkState::is_connected).await;
    }

    /// Until all links are in such a state.
    pub(crate) async fn wait(&self, state: impl Fn(&LinkState) -> bool) {
        for mut link in self.bus.links() {
            let reached = timeout(BOUND, link.state.wait_for(&state)).await.is_ok();
            assert!(reached, "{} is {:?}", link.name, *link.state.borrow());
        }
    }

    fn counted(&self, name: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        family.get_metric().iter().map(|metric| metric.get_counter().get_value() as u64).sum()
    }

    async fn end(self) {
        self.tasks.close_and_wait(BOUND).await.unwrap();
    }
}

pub(crate) fn config(server: &str) -> NatsConfig {
    let prefix = format!("test-{:016x}", rand::random::<u64>());
    NatsConfig { servers: vec![server.to_owned()], prefix, ..NatsConfig::default() }
}

fn mailbox() -> Subject {
    Subject::Mailbox(MailboxId::random())
}

pub(crate) async fn next(subscription: &mut dyn Subscription) -> Event {
    timeout(BOUND, subscription.next()).await.expect("an event comes in time").expect("the bus is open")
}

#[tokio::test]
async fn one_process_conforms() {
    let process = Process::connected(&config(&server::shared())).await;
    conformance::all(&process.bus).await;
    assert_eq!(process.bus.interest(), 0);
    process.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_conform() {
    let config = config(&server::shared());
    let (publisher, subscriber) = (Process::connected(&config).await, Process::connected(&config).await);
    conformance::between(&publisher.bus, &subscriber.bus).await;
}

#[tokio::test]
async fn three_cells_conform() {
    let mut config = config(&server::shared());
    config.cells = vec![config.servers.clone(); 3];
    let (publisher, subscriber) = (Process::connected(&config).await, Process::connected(&config).await);
    assert_eq!(publisher.bus.links().len(), 8);
    conformance::between(&publisher.bus, &subscriber.bus).await;
}

#[tokio::test]
async fn all_that_was_subscribed_hears_of_a_lost_connection_and_of_what_comes_after() {
    let proxy = Proxy::start(&server::shared()).await;
    let direct = config(&server::shared());
    let publisher = Process::connected(&direct).await;
    let through = NatsConfig { servers: vec![proxy.address()], ..direct };
    let subscriber = Process::connected(&through).await;
    let subjects: Vec<_> = (0..500).map(|_| mailbox()).chain([Subject::Control]).collect();
    let subscriptions = join_all(subjects.iter().map(|subject| subscriber.bus.subscribe(*subject))).await;
    let mut subscriptions: Vec<_> = subscriptions.into_iter().map(Result::unwrap).collect();

    proxy.set(Mode::Refuse);
    subscriber.wait(|state| !state.is_connected()).await;
    for subject in &subjects {
        publisher.bus.publish(*subject, Bytes::from_static(b"lost")).await.unwrap();
    }
    proxy.set(Mode::Pass);
    for subscription in &mut subscriptions {
        assert_eq!(next(&mut **subscription).await, Event::Lagged);
    }
    for subject in &subjects {
        publisher.bus.publish(*subject, Bytes::from_static(b"found")).await.unwrap();
    }
    for subscription in &mut subscriptions {
        assert_eq!(next(&mut **subscription).await, Event::Hint(Bytes::from_static(b"found")));
    }
    subscriber.wait_connected().await;
    assert_eq!(subscriber.counted("spillway_bus_hint_reconnects_total"), 2);
}

#[tokio::test]
async fn without_a_connection_nobody_waits_for_long() {
    let proxy = Proxy::start(&server::shared()).await;
    proxy.set(Mode::Refuse);
    let process = Process::start(&config(&proxy.address()));
    let began = Instant::now();
    for _ in 0..1_000 {
        let published = process.bus.publish(mailbox(), Bytes::from_static(b"x")).await;
        assert!(matches!(published, Err(BusError::Disconnected)));
    }
    assert!(began.elapsed() < Duration::from_millis(500), "publishing took {:?}", began.elapsed());
    assert_eq!(process.counted("spillway_bus_hints_dropped_total"), 1_000);

    let began = Instant::now();
    let refused = timeout(BOUND, process.bus.subscribe(mailbox())).await.unwrap();
    assert!(matches!(refused, Err(BusError::Disconnected)));
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(process.bus.interest(), 0, "who gave up leaves no interest");

    // Whoever is still waiting when the server comes, gets what it wanted.
    let subject = mailbox();
    let waiting =
        async { tokio::join!(biased; process.bus.subscribe(subject), async { proxy.set(Mode::Pass) }).0 };
    let mut subscription = waiting.await.unwrap();
    process.wait_connected().await;
    process.bus.publish(subject, Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(next(&mut *subscription).await, Event::Hint(Bytes::from_static(b"x")));
}

/// The receiver's connection is well all the time, so nothing would tell it to look at the store.
#[tokio::test]
async fn what_a_dying_connection_had_taken_is_sent_again() {
    let direct = config(&server::shared());
    let receiver = Process::connected(&direct).await;
    let proxy = Proxy::start(&server::shared()).await;
    let sender = Process::connected(&NatsConfig { servers: vec![proxy.address()], ..direct }).await;
    let subject = mailbox();
    let mut subscription = receiver.bus.subscribe(subject).await.unwrap();

    let swallowed = proxy.swallowed();
    proxy.set(Mode::Swallow);
    sender.bus.publish(subject, Bytes::from_static(b"first")).await.unwrap();
    proxy.wait_swallowed(swallowed + 1).await;
    proxy.set(Mode::Refuse);
    sender.wait(|state| !state.is_connected()).await;
    proxy.set(Mode::Pass);
    assert_eq!(next(&mut *subscription).await, Event::Hint(Bytes::from_static(b"first")));
}

/// The server knows of no interest once a subscription has gone, however short its life was.
#[tokio::test]
async fn a_thousand_subscriptions_leave_nothing_behind() {
    let config = config(&server::shared());
    let process = Process::connected(&config).await;
    let client = async_nats::connect(&config.servers[0]).await.unwrap();
    let ids: Vec<_> = (0..1_000).map(|_| MailboxId::random()).collect();
    let has_listener = async |id: &MailboxId| {
        let subject = format!("{}.d.0.{}", config.prefix, id.to_string().replace('-', ""));
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.unwrap();
        client.publish_with_reply(subject, inbox.clone(), Bytes::new()).await.unwrap();
        // Comes after the server's "no responders", if there is one.
        client.publish(inbox, Bytes::from_static(b"end")).await.unwrap();
        let answer = timeout(BOUND, futures::StreamExt::next(&mut answers)).await.unwrap().unwrap();
        answer.status.is_none()
    };

    let subscribed = join_all(ids.iter().map(|id| process.bus.subscribe(Subject::Mailbox(*id)))).await;
    for id in ids.iter().step_by(100) {
        assert!(has_listener(id).await);
    }
    // Some that give up in the middle.
    for id in &ids[..100] {
        let mut given_up = process.bus.subscribe(Subject::Mailbox(*id));
        let first_poll = futures::FutureExt::now_or_never(&mut given_up);
        assert!(first_poll.is_none());
    }
    drop(subscribed);
    assert_eq!(process.bus.interest(), 0);
    // It is confirmed after all that was written before it.
    let kept = process.bus.subscribe(Subject::Mailbox(ids[0])).await.unwrap();
    assert!(has_listener(&ids[0]).await);
    for id in &ids[1..] {
        assert!(!has_listener(id).await, "{id} has a listener");
    }
    drop(kept);
}

#[tokio::test]
async fn what_is_too_large_is_not_sent_and_the_connection_stays() {
    let process = Process::connected(&config(&server::shared())).await;
    let subject = mailbox();
    let mut subscription = process.bus.subscribe(subject).await.unwrap();
    let large = process.bus.publish(subject, vec![0; 2 * 1024 * 1024].into()).await;
    assert!(matches!(large, Err(BusError::TooLarge)));
    process.bus.publish(subject, vec![1; 300_000].into()).await.unwrap();
    assert_eq!(next(&mut *subscription).await, Event::Hint(vec![1; 300_000].into()));
}

#[tokio::test]
async fn subscriptions_end_with_the_process_and_the_last_hints_are_delivered() {
    let config = config(&server::shared());
    let (ending, other) = (Process::connected(&config).await, Process::connected(&config).await);
    let subject = mailbox();
    let mut own = ending.bus.subscribe(mailbox()).await.unwrap();
    let mut others = other.bus.subscribe(subject).await.unwrap();
    ending.bus.publish(subject, Bytes::from_static(b"last")).await.unwrap();
    ending.tasks.close_and_wait(BOUND).await.unwrap();
    assert_eq!(own.next().await, None);
    assert_eq!(next(&mut *others).await, Event::Hint(Bytes::from_static(b"last")));
    assert!(matches!(ending.bus.subscribe(subject).await, Err(BusError::Disconnected)));
}

#[tokio::test]
async fn a_server_in_lame_duck_mode_is_left() {
    let fake = server::Fake::start().await;
    let process = Process::connected(&config(&fake.address())).await;
    assert_eq!(fake.connections(), 2);
    fake.announce_lame_duck();
    timeout(BOUND, fake.wait_connections(4)).await.expect("both links come back");
    process.wait_connected().await;
}

#[tokio::test]
async fn settings_that_cannot_work_are_errors_at_once() {
    let start = |config: &NatsConfig| {
        NatsBus::start(config, "test", &Tasks::new(), &Registry::new()).map(drop).unwrap_err()
    };
    assert!(matches!(start(&NatsConfig::default()), StartError::NoServers));
    let good = config("nats://127.0.0.1:1");
    for (config, expected) in [
        (
            NatsConfig { credentials: Some("/nowhere/x.creds".into()), ..good.clone() },
            "cannot read /nowhere/x.creds",
        ),
        (NatsConfig { tls_roots: Some("/nowhere/ca.pem".into()), ..good.clone() }, "/nowhere/ca.pem"),
        (NatsConfig { prefix: "a.b".into(), ..good.clone() }, "prefix \"a.b\""),
        (NatsConfig { cells: vec![vec![]], ..good.clone() }, "cell 0"),
        (NatsConfig { servers: vec!["http://x".into()], ..good }, "nats://host:4222"),
    ] {
        let text = start(&config).to_string();
        assert!(text.contains(expected), "{text}");
    }
}
