//! What only this store can get wrong: weeks, order within a tick, several workers.

use std::collections::HashMap;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus::{Registry, TextEncoder};
use spillway_store::Store;
use spillway_store::cql::{self, Config};
use spillway_store::mailboxes::{Capacity, Page, PageLimit, Put, StoredMessage};
use spillway_types::{
    Clock, Guid, MailboxId, MessageId, MessageIdGenerator, SystemClock, TestClock, Timestamp,
};
use tokio::task::JoinSet;

use super::open;

const ROOMY: Capacity = Capacity { messages: u64::MAX, bytes: u64::MAX };
const ALL: PageLimit = PageLimit { messages: usize::MAX, bytes: usize::MAX };

pub(super) async fn all(config: &Config, store: &Store) {
    ids_of_one_tick_are_in_our_order(store).await;
    pages_go_from_week_to_week(store).await;
    a_deletion_by_a_clock_that_is_behind_holds(store).await;
    deletions_of_many_messages_and_weeks(store).await;
    // Their first counts begin where the mailbox may have begun: at a watermark, or at its birth.
    let born =
        |ago_s| MailboxId::minted(SystemClock.now().saturating_sub(Duration::from_secs(ago_s)), [7; 10]);
    for mailbox in [MailboxId::random(), born(0), born(3_600)] {
        workers_exceed_a_capacity_by_little(config, mailbox).await;
    }
    one_place_serves_many(config).await;
    let requests = requests_for_many_messages(config, 8).await;
    assert!(requests < MANY, "{requests} requests for {MANY} messages at once");
    assert_eq!(requests_for_many_messages(config, 1).await, MANY);
}

fn message(id: MessageId) -> StoredMessage {
    StoredMessage { id, guid: Guid::random(), envelope: Bytes::from(vec![7; 40]) }
}

async fn put(store: &Store, mailbox: MailboxId, message: &StoredMessage) {
    assert!(matches!(store.mailboxes.put(mailbox, message.clone(), ROOMY).await.unwrap(), Put::Stored(_)));
}

async fn read_all(store: &Store, mailbox: MailboxId, now: Timestamp) -> Vec<StoredMessage> {
    store.mailboxes.page(mailbox, MessageId::MIN, ALL, now).await.unwrap().messages
}

/// Messages minted some days apart, the last one now, oldest first.
fn messages_over(days: &[u64]) -> (Vec<StoredMessage>, Timestamp) {
    let now = SystemClock.now();
    let mint = |days: &u64| {
        let clock = TestClock::at(now.saturating_sub(Duration::from_secs(days * 24 * 60 * 60)));
        message(MessageIdGenerator::new(Arc::new(clock)).mint())
    };
    (days.iter().map(mint).collect(), now)
}

async fn ids_of_one_tick_are_in_our_order(store: &Store) {
    let mailbox = MailboxId::random();
    let now = SystemClock.now();
    let mut bytes = MessageId::last_at(now).to_bytes();
    let nodes: [[u8; 2]; 6] = [[0, 0x7F], [0, 0x80], [0x7F, 0], [0x80, 1], [0xFF, 0x10], [0xFF, 0xF0]];
    let messages: Vec<_> = nodes
        .iter()
        .map(|node| {
            bytes[8..].copy_from_slice(&[0x80, node[0], node[1], 1, 1, 1, 1, 1]);
            message(MessageId::from_bytes(bytes))
        })
        .collect();
    for message in messages.iter().rev() {
        put(store, mailbox, message).await;
    }
    assert_eq!(read_all(store, mailbox, now).await, messages);
    let later = store.mailboxes.page(mailbox, messages[2].id, ALL, now).await.unwrap();
    assert_eq!(later.messages, messages[3..]);
    let settled = MessageId::last_at(now);
    assert_eq!(store.mailboxes.page(mailbox, settled, ALL, now).await.unwrap(), Page::default());
}

async fn pages_go_from_week_to_week(store: &Store) {
    let mailbox = MailboxId::random();
    // Two weeks in the middle are empty.
    let (messages, now) = messages_over(&[30, 29, 28, 5, 1, 0]);
    for message in &messages {
        put(store, mailbox, message).await;
    }
    for count in 1..=6 {
        let limit = PageLimit { messages: count, bytes: usize::MAX };
        let page = store.mailboxes.page(mailbox, MessageId::MIN, limit, now).await.unwrap();
        assert_eq!((&page.messages[..], page.more), (&messages[..count], count < 6));
        let rest = store.mailboxes.page(mailbox, messages[count - 1].id, ALL, now).await.unwrap();
        assert_eq!(rest.messages, messages[count..]);
    }
}

async fn a_deletion_by_a_clock_that_is_behind_holds(store: &Store) {
    let mailbox = MailboxId::random();
    let (messages, now) = messages_over(&[0]);
    put(store, mailbox, &messages[0]).await;
    store.mailboxes.delete(mailbox, &[messages[0].id], Timestamp::ZERO).await.unwrap();
    put(store, mailbox, &messages[0]).await;
    assert_eq!(read_all(store, mailbox, now).await, []);
}

async fn deletions_of_many_messages_and_weeks(store: &Store) {
    let mailbox = MailboxId::random();
    let (mut messages, now) = messages_over(&[29, 22, 15, 8]);
    let ids = MessageIdGenerator::new(Arc::new(SystemClock));
    messages.extend((0..200).map(|_| message(ids.mint())));
    let mut writers = JoinSet::new();
    for message in messages.clone() {
        let store = store.clone();
        writers.spawn(async move { put(&store, mailbox, &message).await });
    }
    writers.join_all().await;
    let kept = messages.split_off(203);
    let deleted: Vec<_> = messages.iter().map(|message| message.id).rev().collect();
    store.mailboxes.delete(mailbox, &deleted, now).await.unwrap();
    assert_eq!(read_all(store, mailbox, now).await, kept);
}

async fn workers_exceed_a_capacity_by_little(config: &Config, mailbox: MailboxId) {
    const CAPACITY: Capacity = Capacity { messages: 64, bytes: u64::MAX };
    const WORKERS: usize = 3;
    let ids = MessageIdGenerator::new(Arc::new(SystemClock));
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(open(config).await.unwrap());
    }
    let mut stored = 0;
    for _ in 0..40 {
        for worker in &workers {
            let put = worker.mailboxes.put(mailbox, message(ids.mint()), CAPACITY).await.unwrap();
            stored += usize::from(put != Put::Full);
        }
    }
    // A share of 64 is 2.
    assert!((64..=64 + WORKERS * (2 + 1)).contains(&stored), "{stored}");
    assert_eq!(read_all(&workers[0], mailbox, SystemClock.now()).await.len(), stored);
}

const MANY: u64 = 400;

/// Messages of all sizes for many mailboxes, stored at once by one worker, and read.
async fn requests_for_many_messages(config: &Config, rows_per_insert_max: u8) -> u64 {
    let config =
        Config { rows_per_insert_max: NonZeroU8::new(rows_per_insert_max).unwrap(), ..config.clone() };
    let registry = Registry::new();
    let (store, _handle) = cql::open(&config, &registry, Arc::new(SystemClock)).await.unwrap();
    let ids = MessageIdGenerator::new(Arc::new(SystemClock));
    let mailboxes: Vec<_> = (0..40).map(|_| MailboxId::minted(SystemClock.now(), rand::random())).collect();
    let mut sent: HashMap<_, Vec<_>> = HashMap::new();
    let mut writers = JoinSet::new();
    for number in 0..MANY as usize {
        let mailbox = mailboxes[number % mailboxes.len()];
        // Up to 7.6 kB: more than goes into a request with others.
        let envelope = Bytes::from(vec![number as u8; number * 19]);
        let message = StoredMessage { envelope, ..message(ids.mint()) };
        sent.entry(mailbox).or_default().push(message.clone());
        let store = store.clone();
        writers.spawn(async move { put(&store, mailbox, &message).await });
    }
    writers.join_all().await;
    for (mailbox, messages) in sent {
        assert_eq!(read_all(&store, mailbox, SystemClock.now()).await, messages);
    }
    let families = registry.gather();
    let inserts = families.iter().find(|family| family.name() == "spillway_store_insert_rows").unwrap();
    let rows = inserts.get_metric()[0].get_histogram();
    assert_eq!(rows.get_sample_sum(), MANY as f64);
    rows.get_sample_count()
}

async fn one_place_serves_many(config: &Config) {
    let one = NonZeroUsize::new(1).unwrap();
    let narrow = Config { requests_in_flight_per_node_max: one, connections_per_host: one, ..config.clone() };
    let registry = Registry::new();
    let (store, handle) = cql::open(&narrow, &registry, Arc::new(SystemClock)).await.unwrap();
    handle.ping().await.unwrap();
    let ids = MessageIdGenerator::new(Arc::new(SystemClock));
    let mailbox = MailboxId::random();
    let mut writers = JoinSet::new();
    for _ in 0..50 {
        let (store, message) = (store.clone(), message(ids.mint()));
        writers.spawn(async move { put(&store, mailbox, &message).await });
    }
    writers.join_all().await;
    let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        "spillway_store_operations_total{operation=\"message_put\",outcome=\"ok\"} 50",
        "spillway_store_operation_seconds_count{operation=\"message_put\"} 50",
        "spillway_cql_requests_in_flight 0",
        "spillway_cql_connections ",
        "spillway_cql_request_latency_seconds{quantile=\"0.99\"}",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
