//! Random operations on mailboxes, checked against maps in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use spillway_types::{MailboxId, MessageId, MessageIdGenerator, Timestamp};
use tokio::task::JoinSet;

use super::mailboxes::{ROOMY, generator, message, now, read_all, usage_of};
use super::{Counting, Subject};
use crate::Store;
use crate::mailboxes::{Capacity, PageLimit, Put, StoredMessage};

const STEPS: usize = 600;
const MAILBOXES: usize = 3;
const WRITERS: u64 = 8;
const SMALL: Capacity = Capacity { messages: 40, bytes: 4_000 };

pub async fn all(store: Store, counting: Counting) {
    let subject = &Subject { store, counting };
    run!(subject; one_caller_agrees_with_the_model, many_callers_agree_with_the_model);
}

/// A mailbox as it should be.
#[derive(Debug, Default)]
struct Model {
    live: BTreeMap<MessageId, StoredMessage>,
    dead: BTreeMap<MessageId, StoredMessage>,
    settled: Timestamp,
}

fn seeded() -> (u64, StdRng) {
    let seed = rand::random();
    println!("seed {seed}");
    (seed, StdRng::seed_from_u64(seed))
}

async fn one_caller_agrees_with_the_model(store: &Subject) {
    let (_, mut random) = seeded();
    let ids = generator();
    let mut models: Vec<_> = (0..MAILBOXES).map(|_| (MailboxId::random(), Model::default())).collect();
    for _ in 0..STEPS {
        let (mailbox, model) = models.iter_mut().choose(&mut random).expect("there are mailboxes");
        step(store, mailbox, model, &ids, &mut random).await;
    }
    for (mailbox, model) in &models {
        assert_eq!(read_all(store, *mailbox).await, model.live.values().cloned().collect::<Vec<_>>());
    }
}

async fn step(
    store: &Subject,
    mailbox_id: &mut MailboxId,
    model: &mut Model,
    ids: &MessageIdGenerator,
    random: &mut StdRng,
) {
    let mailbox = *mailbox_id;
    match random.random_range(0..100) {
        0..40 => {
            let message = message(ids, random.random_range(0..300));
            put(store, mailbox, model, message).await;
        }
        40..50 => {
            let again = model.live.values().chain(model.dead.values()).choose(random).cloned();
            if let Some(message) = again {
                put(store, mailbox, model, message).await;
            }
        }
        50..70 => {
            let count = random.random_range(0..5);
            let mut deleted = model.live.keys().copied().choose_multiple(random, count);
            deleted.extend(model.dead.keys().copied().choose(random));
            store.mailboxes.delete(mailbox, &deleted, now()).await.unwrap();
            for id in deleted {
                model.dead.extend(model.live.remove_entry(&id));
            }
        }
        70..95 => read(store, mailbox, model, random).await,
        95..99 => {
            let settled = Timestamp::from_micros(random.random_range(0..1_000_000));
            store.mailboxes.raise_settled(mailbox, settled).await.unwrap();
            model.settled = model.settled.max(settled);
            assert_eq!(store.mailboxes.settled(mailbox).await.unwrap(), model.settled);
        }
        _ => {
            store.mailboxes.purge(mailbox).await.unwrap();
            // Whether a purged message comes back when it is repeated is left open, so none is.
            *model = Model { dead: std::mem::take(&mut model.dead), ..Model::default() };
            if store.counting == Counting::Estimated {
                assert_eq!(read_all(store, mailbox).await, []);
                (*mailbox_id, *model) = (MailboxId::random(), Model::default());
            }
        }
    }
}

async fn put(store: &Subject, mailbox: MailboxId, model: &mut Model, message: StoredMessage) {
    let is_live = model.live.contains_key(&message.id);
    let is_dead = model.dead.contains_key(&message.id);
    let fits = usage_of(model.live.values()).fits(message.size(), SMALL);
    let answer = store.mailboxes.put(mailbox, message.clone(), SMALL).await.unwrap();
    if fits && !is_live && !is_dead {
        model.live.insert(message.id, message);
    }
    match answer {
        Put::Stored(usage) => {
            assert!(fits || is_live || is_dead, "stored where there is no room");
            store.expect_usage(usage, usage_of(model.live.values()));
        }
        // What was deleted may count as new.
        Put::Full if is_dead && store.counting == Counting::Estimated => {
            assert!(!fits, "full, and it has room")
        }
        Put::Full => assert!(!fits && !is_live && !is_dead, "full, and it has room"),
    }
}

async fn read(store: &Store, mailbox: MailboxId, model: &Model, random: &mut StdRng) {
    let after = model.live.keys().copied().choose(random).filter(|_| random.random());
    let after = after.unwrap_or(MessageId::MIN);
    let limit = PageLimit { messages: random.random_range(1..20), bytes: random.random_range(1..4_000) };
    let page = store.mailboxes.page(mailbox, after, limit, now()).await.unwrap();
    let mut left = model.live.range((Bound::Excluded(after), Bound::Unbounded)).map(|(_, message)| message);
    let mut expected: Vec<StoredMessage> = left.next().cloned().into_iter().collect();
    let mut more = false;
    for message in left {
        let bytes = usage_of(&expected).bytes + message.size();
        more = expected.len() >= limit.messages || bytes > limit.bytes as u64;
        if more {
            break;
        }
        expected.push(message.clone());
    }
    assert_eq!((page.messages, page.more), (expected, more), "after {after}, {limit:?}");
}

/// Each writer has messages of its own in a mailbox that all share, so each knows what must be there of its own at
/// any time, and all together at the end.
async fn many_callers_agree_with_the_model(store: &Subject) {
    let (seed, _) = seeded();
    let mailbox = MailboxId::random();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let random = StdRng::seed_from_u64(seed.wrapping_add(writer));
        writers.spawn(write(store.store.clone(), mailbox, random));
    }
    let mut expected: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    expected.sort_by_key(|message: &StoredMessage| message.id);
    assert_eq!(read_all(store, mailbox).await, expected);
    let usage = usage_of(&expected);
    let Some(last) = expected.pop() else { return };
    match store.mailboxes.put(mailbox, last, ROOMY).await.unwrap() {
        Put::Stored(stored) => store.expect_usage(stored, usage),
        Put::Full => panic!("a mailbox with room was full"),
    }
}

async fn write(store: Store, mailbox: MailboxId, mut random: StdRng) -> Vec<StoredMessage> {
    let ids = generator();
    let mut live = BTreeMap::new();
    let mut dead = BTreeSet::new();
    for _ in 0..60 {
        match random.random_range(0..10) {
            0..5 => {
                let message = message(&ids, random.random_range(0..300));
                let _stored = store.mailboxes.put(mailbox, message.clone(), ROOMY).await.unwrap();
                live.insert(message.id, message);
            }
            5..8 => {
                let Some(id) = live.keys().copied().choose(&mut random) else { continue };
                store.mailboxes.delete(mailbox, &[id], now()).await.unwrap();
                let message = live.remove(&id).expect("chosen from the live");
                dead.insert(id);
                if random.random() {
                    let _stays_dead = store.mailboxes.put(mailbox, message, ROOMY).await.unwrap();
                }
            }
            _ => {
                let read: BTreeSet<_> =
                    read_all(&store, mailbox).await.iter().map(|message| message.id).collect();
                assert!(live.keys().all(|id| read.contains(id)), "an answered put is not seen");
                assert!(read.is_disjoint(&dead), "an answered delete is not seen");
            }
        }
    }
    live.into_values().collect()
}
