//! The machine's clock is set forward and back while people talk.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use serde_json::json;
use spillway::{App, Config, Listeners, SandboxCodes};
use spillway_api::v1::closing;
use spillway_chassis::signals::{Hangups, StopSignal, StopSignals};
use spillway_chassis::telemetry;
use spillway_client::{Client, Dedup, SessionEvent};
use spillway_types::{Clock, Guid, SystemClock, Timestamp};
use surge::ledger::{Conversation, Ledger};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::desk::{Desk, logs};
use super::support::{Person, connect, eventually};

/// The real clock with an error.
#[derive(Debug, Default)]
struct WrongClock(AtomicI64);

impl WrongClock {
    fn step(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        let now = SystemClock.now().as_micros();
        Timestamp::from_micros(now.saturating_add_signed(self.0.load(Ordering::SeqCst)))
    }
}

/// A service in this process, because no other has a clock that a test can set.
struct Clocked {
    public: String,
    desk: Desk,
    clock: Arc<WrongClock>,
    _running: JoinSet<()>,
    _data: tempfile::TempDir,
    _ends: (watch::Sender<()>, mpsc::Sender<StopSignal>),
}

impl Clocked {
    async fn start(name: &'static str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let config: Config = serde_json::from_value(json!({
            "node": { "data": data.path().join("data") },
            "listen": { "public": "127.0.0.1:0", "sandbox_codes": "127.0.0.1:0" },
            "admin": { "listen": "127.0.0.1:0" },
            "telemetry": { "level": "debug,h2=info,hyper=info,fjall=info,lsm_tree=info" },
            "quotas": { "messages": { "enabled": false }, "verification_start_network": { "enabled": false } },
        }))
        .unwrap();
        let mut desk = Desk::new(name);
        let log = File::create(logs().join(format!("{name}.log"))).unwrap();
        let (subscriber, log_level) = telemetry::subscriber(&config.telemetry, log, false).unwrap();
        tracing::subscriber::set_global_default(subscriber).expect("the only service in this process");
        let (hangup, hangups) = watch::channel(());
        let (stop, stops) = mpsc::channel(1);
        let clock = Arc::new(WrongClock::default());
        let listeners = Listeners::bind(&config, SandboxCodes::Alone).await.unwrap();
        let read_config = {
            let config = config.clone();
            Box::new(move || Ok(config.clone()))
        };
        let hangups = Hangups::from_channel(hangups);
        let app =
            App::build(config, listeners, clock.clone(), log_level, hangups, read_config).await.unwrap();
        let addresses = app.addresses();
        let mut running = JoinSet::new();
        running.spawn(async move {
            let _exit = app.run(StopSignals::from_channel(stops)).await;
        });
        desk.answer_phones(&format!("http://{}", addresses.sandbox_codes.unwrap())).await;
        let public = format!("http://{}", addresses.public.expect("a gateway is here"));
        Self { public, desk, clock, _running: running, _data: data, _ends: (hangup, stop) }
    }

    async fn person(&self, index: u64) -> Person {
        self.desk.person(&self.public, index).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_loses_nothing() {
    let node = Box::pin(Clocked::start("clock")).await;
    let ledger = Arc::new(Ledger::new(1));
    let (alice, online, offline) = (node.person(0).await, node.person(1).await, node.person(2).await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for (sender, receiver) in [(&alice, &online), (&alice, &offline)] {
        tasks.spawn(send(sender.clone(), receiver.clone(), ledger.clone(), stop.clone()));
    }
    let mut receivers = JoinSet::new();
    receivers.spawn(receive(online.clone(), ledger.clone()));

    let comes_back = node.person(3).await;
    let mut older = comes_back.inbox().await;
    assert!(older.backlog().await.is_empty());
    for step in [10, -10, -10, 10, -10] {
        let acked = ledger.counts().acked;
        eventually("sends go on", || async { ledger.counts().acked > acked + 20 }).await;
        // In the middle of sends, and of a session.
        node.clock.step(step);
        let stranger = node.person(100 + acked).await;
        stranger.reaches(&alice).await;
        let newer = comes_back.inbox().await;
        assert_eq!(older.closing().await, closing::Reason::Replaced, "the newest session wins");
        older = newer;
    }
    let acked = ledger.counts().acked;
    eventually("sends still go on", || async { ledger.counts().acked > acked + 20 }).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(sender) = tasks.join_next().await {
        sender.unwrap();
    }

    // Two sessions of a device may deliver the same, so nothing is said about duplicates here.
    // One who was away comes, and the one who was there comes back, before the clock is where it was.
    receivers.spawn(receive(offline.clone(), ledger.clone()));
    receivers
        .spawn(receive(Person { client: connect(&node.public).await, ..online.clone() }, ledger.clone()));
    eventually("everything acknowledged is delivered", || async { ledger.counts().lost == 0 }).await;
    let counts = ledger.counts();
    println!("{counts:?}");
    assert_eq!((counts.lost, counts.corrupted, counts.unexpected), (0, 0, 0), "{counts:?}");
}

async fn send(sender: Person, receiver: Person, ledger: Arc<Ledger>, stop: Arc<AtomicBool>) {
    let client: Client = sender.client.clone();
    while !stop.load(Ordering::Relaxed) {
        let conversation =
            Conversation { sender: sender.index as u32, receiver: receiver.index as u32, device: 1 };
        let ticket = ledger.send(conversation);
        let content = ledger.encode(ticket, SystemClock.now(), 512);
        // A clock that moves is no reason to refuse.
        client.send(&sender.identity, receiver.message(Guid::random(), content)).await.unwrap();
        ledger.acked(ticket);
    }
}

async fn receive(person: Person, ledger: Arc<Ledger>) {
    let mut seen = Dedup::new(100_000);
    let mut session = person.client.open_session(&person.identity).await.unwrap();
    let acks = session.handle();
    while let Ok(Some(event)) = session.next().await {
        let SessionEvent::Delivery(delivery) = event else { continue };
        if seen.is_new(delivery.guid) {
            ledger.delivered(&delivery.envelope.content);
        }
        if let Some(id) = delivery.id {
            acks.ack([id]).await;
        }
    }
}
