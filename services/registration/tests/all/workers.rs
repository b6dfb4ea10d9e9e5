//! Several workers on one store, and what becomes of codes when they race, die, or lose their queue.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use prometheus::Registry;
use spillway_api::v1;
use spillway_bus::nats::{ConnectionState, JetStreamWorkConfig, JetStreamWorkQueue, Nats, NatsConfig};
use spillway_bus::work::{Item, LocalWorkQueue, Restored, WorkError, WorkQueue};
use spillway_chassis::Tasks;
use spillway_registration::Config;
use tokio::sync::mpsc;

use crate::scripted::{Call, Scripted};
use crate::world::{NUMBER, Node, PATIENCE, World, config, is_queue_empty, next_call, until};

fn queue() -> Arc<LocalWorkQueue> {
    Arc::new(LocalWorkQueue::new(NonZeroUsize::new(10_000).unwrap()))
}

/// A configuration whose reaper looks once, at the start, and finds nothing yet.
fn without_reaper() -> Config {
    let mut config = config();
    config.dispatch.reap_interval = Duration::from_secs(3_600);
    config
}

/// Opens `count` sessions, turn by turn at the nodes, and many at a time.
async fn start_many(nodes: &[&Node], count: usize) -> Vec<v1::VerificationSession> {
    futures::stream::iter(0..count)
        .map(|n| async move { nodes[n % nodes.len()].start(&format!("+4930{n:07}")).await })
        .buffer_unordered(64)
        .collect()
        .await
}

/// What the provider was called for, by number.
fn count(calls: &mut mpsc::Receiver<Call>) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    while let Ok(call) = calls.try_recv() {
        *counts.entry(call.number).or_default() += 1;
    }
    counts
}

fn assert_once_each(calls: &mut mpsc::Receiver<Call>, sessions: usize) {
    let counts = count(calls);
    assert_eq!(counts.len(), sessions);
    let more: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(more.is_empty(), "sent more than once: {more:?}");
}

/// The value of a work event's counter.
fn events(node: &Node, event: &str) -> u64 {
    let metrics = prometheus::TextEncoder::new().encode_to_string(&node.registry.gather()).unwrap();
    let line = format!(r#"spillway_verification_work_total{{event="{event}"}} "#);
    metrics.lines().find_map(|metric| metric.strip_prefix(&line)).map_or(0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_send_each_code_once() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let queue = queue();
    let mut narrow = config();
    narrow.dispatch.concurrency = NonZeroUsize::new(16).unwrap();
    let first = world.node_on(queue.clone(), narrow.clone(), provider.clone());
    let second = world.node_on(queue.clone(), narrow, provider);
    start_many(&[&first, &second], 500).await;
    until("all are handed over", || is_queue_empty(&world)).await;
    first.stop().await;
    second.stop().await;
    assert_once_each(&mut calls, 500);
}

/// Each offer reaches the workers of both queues.
#[derive(Debug)]
struct Tee {
    own: Arc<LocalWorkQueue>,
    other: Arc<LocalWorkQueue>,
}

#[async_trait]
impl WorkQueue for Tee {
    async fn offer(&self, key: &[u8], payload: Bytes) -> Result<(), WorkError> {
        self.own.offer(key, payload.clone()).await?;
        self.other.offer(key, payload).await
    }

    async fn restore(&self, key: &[u8], payload: Bytes) -> Result<Restored, WorkError> {
        self.own.restore(key, payload).await
    }

    async fn take(&self, max: NonZeroUsize) -> Result<Vec<Item>, WorkError> {
        self.own.take(max).await
    }

    async fn depth(&self) -> Result<u64, WorkError> {
        self.own.depth().await
    }
}

/// Every single code is raced for, at a provider that is slow, so that the loser comes while the winner is at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_race_for_each_code_send_it_once() {
    let world = World::new();
    let (provider, mut calls) = Scripted::holding();
    let (one, other) = (queue(), queue());
    let tee = |own: &Arc<_>, other: &Arc<_>| Arc::new(Tee { own: Arc::clone(own), other: Arc::clone(other) });
    let first = world.node_on(tee(&one, &other), config(), provider.clone());
    let second = world.node_on(tee(&other, &one), config(), provider.clone());
    start_many(&[&first, &second], 200).await;
    let mut numbers = HashSet::new();
    for _ in 0..200 {
        assert!(numbers.insert(next_call(&mut calls).await.number), "a code is sent twice");
    }
    until("the losers have looked again and again", || async {
        events(&first, "held") + events(&second, "held") >= 1_000
    })
    .await;

    provider.release(1_000);
    until("all are handed over", || is_queue_empty(&world)).await;
    assert_eq!(count(&mut calls), HashMap::new(), "nothing is sent after the claims");
    first.stop().await;
    second.stop().await;
}

/// The worker dies with codes that it has claimed and given to the provider. They are late by its claim, not lost.
#[tokio::test]
async fn a_dead_workers_codes_are_late_and_not_lost() {
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (hanging, mut calls) = Scripted::holding();
    let queue = queue();
    let dead = {
        let _entered = runtime.enter();
        world.node_on(queue.clone(), config(), hanging)
    };
    let session = dead.start(NUMBER).await;
    let before = next_call(&mut calls).await;
    runtime.shutdown_background();

    let (provider, mut calls) = Scripted::accepting();
    let node = world.node_on(queue, config(), provider);
    until("the item comes to the other worker", || async { events(&node, "held") > 0 }).await;
    assert_eq!(count(&mut calls), HashMap::new(), "the claim still runs");

    let dispatch = config().dispatch;
    world.clock.advance(dispatch.provider_timeout + dispatch.claim_margin);
    let call = next_call(&mut calls).await;
    assert_eq!((&call.number, &call.code), (&before.number, &before.code));
    assert!(node.check(&session, &call.code).await.unwrap().verified);
}

/// Says that it has what it is offered, and has lost it already.
#[derive(Debug)]
struct Forgetful(Arc<LocalWorkQueue>);

#[async_trait]
impl WorkQueue for Forgetful {
    async fn offer(&self, _: &[u8], _: Bytes) -> Result<(), WorkError> {
        Ok(())
    }

    async fn restore(&self, key: &[u8], payload: Bytes) -> Result<Restored, WorkError> {
        self.0.restore(key, payload).await
    }

    async fn take(&self, max: NonZeroUsize) -> Result<Vec<Item>, WorkError> {
        self.0.take(max).await
    }

    async fn depth(&self) -> Result<u64, WorkError> {
        self.0.depth().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_queue_loses_is_found_in_the_store() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let queue = Arc::new(Forgetful(queue()));
    let mut few = config();
    few.dispatch.reap_max = NonZeroUsize::new(20).unwrap();
    let first = world.node_on(queue.clone(), few.clone(), provider.clone());
    let second = world.node_on(queue, few, provider);
    start_many(&[&first, &second], 300).await;
    until("all are handed over", || is_queue_empty(&world)).await;
    assert!(events(&first, "restored") + events(&second, "restored") >= 300);
    first.stop().await;
    second.stop().await;
    assert_once_each(&mut calls, 300);
}

/// As when JetStream has no quorum.
#[derive(Debug)]
struct Unreachable;

#[derive(Debug, thiserror::Error)]
#[error("unreachable by design")]
struct ByDesign;

fn unreachable_queue<T>() -> Result<T, WorkError> {
    Err(WorkError::Unavailable(Arc::new(ByDesign)))
}

#[async_trait]
impl WorkQueue for Unreachable {
    async fn offer(&self, _: &[u8], _: Bytes) -> Result<(), WorkError> {
        unreachable_queue()
    }

    async fn restore(&self, _: &[u8], _: Bytes) -> Result<Restored, WorkError> {
        unreachable_queue()
    }

    async fn take(&self, _: NonZeroUsize) -> Result<Vec<Item>, WorkError> {
        unreachable_queue()
    }

    async fn depth(&self) -> Result<u64, WorkError> {
        unreachable_queue()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_queue_the_store_alone_will_do() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let first = world.node_on(Arc::new(Unreachable), config(), provider.clone());
    let second = world.node_on(Arc::new(Unreachable), config(), provider);
    start_many(&[&first, &second], 300).await;
    until("all are handed over", || is_queue_empty(&world)).await;
    assert_eq!(events(&first, "offer_failed") + events(&second, "offer_failed"), 300);
    first.stop().await;
    second.stop().await;
    assert_once_each(&mut calls, 300);
}

/// A phone that is faster than the record of another process's hand-over.
#[tokio::test]
async fn a_check_at_another_worker_waits_for_the_record() {
    let world = World::new();
    let (provider, mut calls) = Scripted::holding();
    let queue = queue();
    let first = world.node_on(queue.clone(), without_reaper(), provider.clone());
    let session = first.start(NUMBER).await;
    let code = next_call(&mut calls).await.code;
    let second = world.node_on(queue, without_reaper(), provider.clone());
    let (answer, ()) = tokio::join!(biased; second.check(&session, &code), async {
        tokio::task::yield_now().await;
        provider.release(1);
    });
    assert!(answer.unwrap().verified);
}

/// JetStream as the queue of two processes, with resends that replace, and a redelivery time so short that messages
/// come again while the provider still has their codes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_on_jetstream_send_each_code_once() {
    let servers = std::env::var("SPILLWAY_TEST_NATS")
        .expect("SPILLWAY_TEST_NATS is not set: run `cargo xtask test`, which starts what the tests need");
    let links = Tasks::new();
    let nats = NatsConfig {
        servers: servers.split(',').map(str::to_owned).collect(),
        prefix: format!("codes-{:016x}", rand::random::<u64>()),
        ..NatsConfig::default()
    };
    let connect = async || {
        let nats = Nats::new(nats.clone(), "registration", &Registry::new(), &links).unwrap();
        let redelivery = Duration::from_millis(200);
        let config = JetStreamWorkConfig { redelivery, ..JetStreamWorkConfig::default() };
        let queue = JetStreamWorkQueue::connect(&nats, "verification", config).await.unwrap();
        queue.state().wait_for(ConnectionState::is_connected).await.unwrap();
        Arc::new(queue)
    };
    let world = World::new();
    let (provider, mut calls) = Scripted::holding();
    let (one, other) = (connect().await, connect().await);
    let mut patient = config();
    // Longer than the leap of the clock, which the provider's time-out does not see.
    patient.dispatch.claim_margin = Duration::from_secs(3_600);
    let first = world.node_on(one.clone(), patient.clone(), provider.clone());
    let second = world.node_on(other, patient, provider.clone());

    let sessions = start_many(&[&first, &second], 100).await;
    world.clock.advance(Duration::from_secs(60));
    for session in &sessions {
        second.resend(session, v1::Transport::Sms).await.unwrap();
    }
    until("messages come again", || async {
        events(&first, "redelivered") + events(&second, "redelivered") > 0
    })
    .await;
    provider.release(10_000);
    until("all are handed over", || is_queue_empty(&world)).await;
    until("the stream is empty", || async { one.depth().await.unwrap() == 0 }).await;
    first.stop().await;
    second.stop().await;
    one.delete().await.unwrap();
    drop(tokio::time::timeout(PATIENCE, links.close_and_wait(PATIENCE)).await);
    assert_once_each(&mut calls, 100);
}
