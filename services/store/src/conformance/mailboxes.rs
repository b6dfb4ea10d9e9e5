use std::sync::Arc;
use std::time::Duration;

use rand::seq::SliceRandom;
use spillway_types::{
    Clock, Guid, MailboxId, MessageId, MessageIdGenerator, SystemClock, TestClock, Timestamp,
};

use super::{Counting, Subject, race, some_bytes};
use crate::Store;
use crate::mailboxes::{Capacity, Page, PageLimit, Put, RETENTION, StoredMessage, Usage};

pub async fn all(store: Store, counting: Counting) {
    let subject = &Subject { store, counting };
    run!(subject;
        a_repeated_put_changes_nothing,
        a_put_after_the_delete_stays_dead,
        a_full_mailbox_takes_nothing_new,
        racing_puts_never_exceed_the_capacity,
        usage_is_exact_under_racing_puts_and_deletes,
        a_racing_repeat_counts_once,
        pages_hold_what_their_limits_allow,
        messages_come_in_the_order_of_ids_whatever_their_arrival,
        mailboxes_do_not_see_each_other,
        unknown_ids_are_ignored_by_delete,
        messages_past_retention_are_not_read,
        the_settled_watermark_only_rises,
        a_purged_mailbox_is_empty,
        expired_messages_give_their_room_back,
    );
}

pub(super) const ROOMY: Capacity = Capacity { messages: 1_000_000, bytes: u64::MAX };
pub(super) const ALL: PageLimit = PageLimit { messages: usize::MAX, bytes: usize::MAX };

pub(super) fn now() -> Timestamp {
    SystemClock.now()
}

pub(super) fn generator() -> MessageIdGenerator {
    MessageIdGenerator::new(Arc::new(SystemClock))
}

pub(super) fn message(ids: &MessageIdGenerator, length: usize) -> StoredMessage {
    StoredMessage { id: ids.mint(), guid: Guid::random(), envelope: some_bytes(length) }
}

fn messages(count: usize) -> Vec<StoredMessage> {
    let ids = generator();
    (0..count).map(|length| message(&ids, 100 + length)).collect()
}

pub(super) fn usage_of<'a>(messages: impl IntoIterator<Item = &'a StoredMessage>) -> Usage {
    let add = |usage: Usage, message: &StoredMessage| Usage {
        messages: usage.messages + 1,
        bytes: usage.bytes + message.size(),
    };
    messages.into_iter().fold(Usage::default(), add)
}

async fn put(store: &Store, mailbox: MailboxId, message: &StoredMessage) -> Usage {
    match store.mailboxes.put(mailbox, message.clone(), ROOMY).await.unwrap() {
        Put::Stored(usage) => usage,
        Put::Full => panic!("a mailbox with room was full"),
    }
}

async fn put_all(store: &Store, mailbox: MailboxId, messages: &[StoredMessage]) {
    for message in messages {
        put(store, mailbox, message).await;
    }
}

async fn page(store: &Store, mailbox: MailboxId, after: MessageId, limit: PageLimit) -> Page {
    store.mailboxes.page(mailbox, after, limit, now()).await.unwrap()
}

pub(super) async fn read_all(store: &Store, mailbox: MailboxId) -> Vec<StoredMessage> {
    let page = page(store, mailbox, MessageId::MIN, ALL).await;
    assert!(!page.more);
    page.messages
}

async fn a_repeated_put_changes_nothing(store: &Subject) {
    let mailbox = MailboxId::random();
    let messages = messages(2);
    assert_eq!(put(store, mailbox, &messages[0]).await, usage_of(&messages[..1]));
    assert_eq!(put(store, mailbox, &messages[1]).await, usage_of(&messages));
    for _ in 0..3 {
        store.expect_usage(put(store, mailbox, &messages[0]).await, usage_of(&messages));
    }
    assert_eq!(read_all(store, mailbox).await, messages);
}

async fn a_put_after_the_delete_stays_dead(store: &Subject) {
    let mailbox = MailboxId::random();
    let messages = messages(2);
    put_all(store, mailbox, &messages).await;
    store.mailboxes.delete(mailbox, &[messages[0].id], now()).await.unwrap();
    for _ in 0..2 {
        store.expect_usage(put(store, mailbox, &messages[0]).await, usage_of(&messages[1..]));
        assert_eq!(read_all(store, mailbox).await, messages[1..]);
    }
}

async fn a_full_mailbox_takes_nothing_new(store: &Store) {
    let messages = messages(4);
    let by_count = Capacity { messages: 3, bytes: u64::MAX };
    let by_bytes = Capacity { messages: 1_000, bytes: usage_of(&messages[..3]).bytes };
    for capacity in [by_count, by_bytes] {
        let mailbox = MailboxId::random();
        let put = async |message: &StoredMessage| {
            store.mailboxes.put(mailbox, message.clone(), capacity).await.unwrap()
        };
        for stored in 1..=3 {
            assert_eq!(put(&messages[stored - 1]).await, Put::Stored(usage_of(&messages[..stored])));
        }
        assert_eq!(put(&messages[3]).await, Put::Full);
        assert_eq!(read_all(store, mailbox).await, messages[..3]);
        // What is stored already is no news.
        assert_eq!(put(&messages[1]).await, Put::Stored(usage_of(&messages[..3])));
        // The last is the largest, so all that is smaller by one of the others has room.
        store.mailboxes.delete(mailbox, &[messages[0].id, messages[1].id], now()).await.unwrap();
        assert_eq!(put(&messages[3]).await, Put::Stored(usage_of(&messages[2..])));
    }
}

async fn racing_puts_never_exceed_the_capacity(store: &Store) {
    let mailbox = MailboxId::random();
    let capacity = Capacity { messages: 50, bytes: u64::MAX };
    let ids = generator();
    let answers = race(|_| {
        let (mailboxes, message) = (store.mailboxes.clone(), message(&ids, 10));
        async move { mailboxes.put(mailbox, message, capacity).await.unwrap() }
    })
    .await;
    let stored = answers.iter().filter(|put| matches!(put, Put::Stored(_))).count();
    assert_eq!((stored, read_all(store, mailbox).await.len()), (50, 50));
}

async fn usage_is_exact_under_racing_puts_and_deletes(store: &Subject) {
    let mailbox = MailboxId::random();
    let ids = generator();
    let kept = race(|number| {
        let (mailboxes, message) = (store.mailboxes.clone(), message(&ids, number));
        async move {
            let _stored = mailboxes.put(mailbox, message.clone(), ROOMY).await.unwrap();
            if number % 3 == 0 {
                // Twice in one call and twice in two counts once.
                mailboxes.delete(mailbox, &[message.id, message.id], now()).await.unwrap();
                mailboxes.delete(mailbox, &[message.id], now()).await.unwrap();
                return None;
            }
            Some(message)
        }
    })
    .await;
    let mut kept: Vec<_> = kept.into_iter().flatten().collect();
    kept.sort_by_key(|message| message.id);
    assert_eq!(read_all(store, mailbox).await, kept);
    store.expect_usage(put(store, mailbox, &kept[0]).await, usage_of(&kept));
    assert_eq!(read_all(store, mailbox).await.len(), kept.len());
}

async fn a_racing_repeat_counts_once(store: &Subject) {
    let mailbox = MailboxId::random();
    let message = message(&generator(), 64);
    let answers = race(|_| {
        let (mailboxes, message) = (store.mailboxes.clone(), message.clone());
        async move { mailboxes.put(mailbox, message, ROOMY).await.unwrap() }
    })
    .await;
    for answer in answers {
        let Put::Stored(usage) = answer else { panic!("a mailbox with room was full") };
        store.expect_usage(usage, usage_of([&message]));
    }
    assert_eq!(read_all(store, mailbox).await, [message]);
}

async fn pages_hold_what_their_limits_allow(store: &Store) {
    let mailbox = MailboxId::random();
    let empty = page(store, mailbox, MessageId::MIN, ALL).await;
    assert_eq!(empty, Page::default());
    let messages = messages(30);
    put_all(store, mailbox, &messages).await;
    let bytes = |range: std::ops::Range<usize>| usize::try_from(usage_of(&messages[range]).bytes).unwrap();
    let limits = [
        (PageLimit { messages: 10, bytes: usize::MAX }, 10),
        (PageLimit { messages: 30, bytes: usize::MAX }, 30),
        (PageLimit { messages: 100, bytes: bytes(0..7) }, 7),
        (PageLimit { messages: 100, bytes: bytes(0..8) - 1 }, 7),
        (PageLimit { messages: 5, bytes: bytes(0..7) }, 5),
        // One is always given, or a reader would never get past a large message.
        (PageLimit { messages: 100, bytes: 1 }, 1),
        (PageLimit { messages: 0, bytes: 0 }, 1),
    ];
    for (limit, expected) in limits {
        let first = page(store, mailbox, MessageId::MIN, limit).await;
        assert_eq!((&first.messages[..], first.more), (&messages[..expected], expected < 30), "{limit:?}");
    }
    let mut read = Vec::new();
    loop {
        let after = read.last().map_or(MessageId::MIN, |message: &StoredMessage| message.id);
        let next = page(store, mailbox, after, PageLimit { messages: 7, bytes: usize::MAX }).await;
        read.extend(next.messages);
        if !next.more {
            break;
        }
    }
    assert_eq!(read, messages);
    assert_eq!(page(store, mailbox, messages[29].id, ALL).await, Page::default());
}

async fn messages_come_in_the_order_of_ids_whatever_their_arrival(store: &Store) {
    let mailbox = MailboxId::random();
    let messages = messages(40);
    let mut arrivals = messages.clone();
    arrivals.shuffle(&mut rand::rng());
    put_all(store, mailbox, &arrivals).await;
    assert_eq!(read_all(store, mailbox).await, messages);
}

async fn mailboxes_do_not_see_each_other(store: &Store) {
    let random = MailboxId::random();
    let mut next = *random.as_bytes();
    next[15] = next[15].wrapping_add(1);
    // The same id in two mailboxes is two messages.
    let message = message(&generator(), 9);
    let (first, second) = (random, MailboxId::from_bytes(next));
    put(store, first, &message).await;
    assert_eq!(put(store, second, &message).await, usage_of([&message]));
    store.mailboxes.delete(first, &[message.id], now()).await.unwrap();
    assert_eq!(read_all(store, first).await, []);
    assert_eq!(read_all(store, second).await, [message]);
    store.mailboxes.purge(first).await.unwrap();
    assert_eq!(read_all(store, second).await.len(), 1);
}

async fn unknown_ids_are_ignored_by_delete(store: &Subject) {
    let mailbox = MailboxId::random();
    let messages = messages(3);
    store.mailboxes.delete(mailbox, &[], now()).await.unwrap();
    store.mailboxes.delete(mailbox, &[messages[0].id], now()).await.unwrap();
    put_all(store, mailbox, &messages[1..]).await;
    store.mailboxes.delete(mailbox, &[messages[0].id, messages[1].id], now()).await.unwrap();
    assert_eq!(read_all(store, mailbox).await, messages[2..]);
    store.expect_usage(put(store, mailbox, &messages[2]).await, usage_of(&messages[2..]));
}

async fn messages_past_retention_are_not_read(store: &Store) {
    let mailbox = MailboxId::random();
    let messages = messages(2);
    put_all(store, mailbox, &messages).await;
    let minted = messages[0].id.time();
    let read = async |now| store.mailboxes.page(mailbox, MessageId::MIN, ALL, now).await.unwrap().messages;
    assert_eq!(read(minted.saturating_add(RETENTION)).await, messages);
    assert_eq!(read(minted.saturating_add(RETENTION + Duration::from_secs(1))).await, []);
}

async fn the_settled_watermark_only_rises(store: &Store) {
    let mailbox = MailboxId::random();
    assert_eq!(store.mailboxes.settled(mailbox).await.unwrap(), Timestamp::ZERO);
    let at = Timestamp::from_millis;
    for (raised, stored) in [(5, 5), (3, 5), (5, 5), (9, 9), (0, 9)] {
        store.mailboxes.raise_settled(mailbox, at(raised)).await.unwrap();
        assert_eq!(store.mailboxes.settled(mailbox).await.unwrap(), at(stored));
    }
    race(|number| {
        let mailboxes = store.mailboxes.clone();
        // A permutation of 1 to 211, which is prime, so that calls come in no order.
        let settled = at(10 + (number as u64 * 59) % 211);
        async move { mailboxes.raise_settled(mailbox, settled).await.unwrap() }
    })
    .await;
    let highest = (0..super::RACERS as u64).map(|number| 10 + (number * 59) % 211).max().unwrap();
    assert_eq!(store.mailboxes.settled(mailbox).await.unwrap(), at(highest));
}

async fn a_purged_mailbox_is_empty(store: &Store) {
    let (mailbox, other) = (MailboxId::random(), MailboxId::random());
    let messages = messages(20);
    put_all(store, mailbox, &messages).await;
    put_all(store, other, &messages).await;
    store.mailboxes.raise_settled(mailbox, now()).await.unwrap();
    for _ in 0..2 {
        store.mailboxes.purge(mailbox).await.unwrap();
        assert_eq!(read_all(store, mailbox).await, []);
    }
    assert_eq!(store.mailboxes.settled(mailbox).await.unwrap(), Timestamp::ZERO);
    assert_eq!(read_all(store, other).await, messages);
    let message = message(&generator(), 5);
    assert_eq!(put(store, mailbox, &message).await, usage_of([&message]));
}

async fn expired_messages_give_their_room_back(store: &Subject) {
    let mailbox = MailboxId::random();
    // Old by their ids, so that nothing else in a shared store expires with them.
    let clock = TestClock::default();
    let ids = MessageIdGenerator::new(Arc::new(clock.clone()));
    for _ in 0..10 {
        put(store, mailbox, &message(&ids, 50)).await;
        clock.advance(Duration::from_secs(6 * 60 * 60));
    }
    // A store may reclaim days whole.
    let last_expired = clock.now().saturating_add(RETENTION + Duration::from_secs(24 * 60 * 60));
    clock.set(last_expired);
    let young = [message(&ids, 70), message(&ids, 80)];
    put(store, mailbox, &young[0]).await;
    while store.mailboxes.expire(last_expired).await.unwrap() > 0 {}
    store.expect_usage(put(store, mailbox, &young[0]).await, usage_of(&young[..1]));
    let capacity = Capacity { messages: 10, bytes: u64::MAX };
    let answer = store.mailboxes.put(mailbox, young[1].clone(), capacity).await.unwrap();
    assert_eq!(answer, Put::Stored(usage_of(&young)));
    let read = store.mailboxes.page(mailbox, MessageId::MIN, ALL, last_expired).await.unwrap();
    assert_eq!(read.messages, young);
}
