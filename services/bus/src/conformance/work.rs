//! What every implementation of [`WorkQueue`] must do on an undisturbed connection.
//!
//! The queue is fresh and for these cases alone. Its redelivery time should be a second or less, since one case waits
//! for it; the others end well before it.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::BOUND;
use crate::work::{Item, KEY_BYTES_MAX, Restored, WorkQueue};

const MANY: NonZeroUsize = NonZeroUsize::new(100).expect("not zero");

/// Runs all cases. Each leaves the queue empty.
///
/// # Panics
///
/// When the queue does not conform.
pub async fn all(queue: &dyn WorkQueue) {
    what_was_offered_is_given_out_once(queue).await;
    no_more_are_given_out_than_asked_for(queue).await;
    a_waiting_worker_gets_what_is_offered(queue).await;
    a_later_offer_replaces(queue).await;
    an_offer_during_the_work_is_given_out(queue).await;
    a_postponed_item_comes_again_later(queue).await;
    what_a_dead_worker_held_comes_again(queue).await;
    restoring_adds_only_what_is_missing(queue).await;
    two_workers_share(queue).await;
}

pub async fn what_was_offered_is_given_out_once(queue: &dyn WorkQueue) {
    let longest = [0xff; KEY_BYTES_MAX];
    offer(queue, &longest, "long").await;
    // Bytes that mean something in subjects.
    offer(queue, b".*> ", "").await;
    let mut taken = take_all(queue, 2).await;
    taken.sort_by_key(|item| item.key.len());
    assert_eq!((&taken[0].key[..], &taken[0].payload[..]), (&b".*> "[..], &b""[..]));
    assert_eq!((&taken[1].key[..], &taken[1].payload[..]), (&longest[..], &b"long"[..]));
    assert!(taken.iter().all(|item| item.deliveries == 1));
    finish(queue, taken).await;
}

pub async fn no_more_are_given_out_than_asked_for(queue: &dyn WorkQueue) {
    for key in 0..5 {
        offer(queue, &[key], "").await;
    }
    let two = NonZeroUsize::new(2).expect("not zero");
    let mut taken = Vec::new();
    while taken.len() < 5 {
        let some = timeout(BOUND, queue.take(two)).await.expect("items are given out").expect("reachable");
        assert!((1..=2).contains(&some.len()), "{} items", some.len());
        taken.extend(some);
    }
    finish(queue, taken).await;
}

pub async fn a_waiting_worker_gets_what_is_offered(queue: &dyn WorkQueue) {
    let (taken, ()) = tokio::join!(biased; take(queue), offer(queue, b"key", "new"));
    assert_eq!(&taken[0].payload[..], b"new");
    finish(queue, taken).await;
}

pub async fn a_later_offer_replaces(queue: &dyn WorkQueue) {
    for payload in ["first", "second", "third"] {
        offer(queue, b"key", payload).await;
    }
    offer(queue, b"end", "").await;
    let taken = take_all(queue, 2).await;
    let payload = |key: &[u8]| taken.iter().find(|item| item.key == key).map(|item| item.payload.clone());
    assert_eq!(payload(b"key"), Some(Bytes::from_static(b"third")));
    finish(queue, taken).await;
}

/// What the first worker says of its item has no effect on the one that replaced it.
pub async fn an_offer_during_the_work_is_given_out(queue: &dyn WorkQueue) {
    for postpone in [false, true] {
        offer(queue, b"key", "first").await;
        let first = take(queue).await.remove(0);
        offer(queue, b"key", "second").await;
        if postpone {
            first.retry_after(Duration::ZERO).await;
        } else {
            first.done().await;
        }
        let second = take(queue).await;
        assert_eq!((second.len(), &second[0].payload[..]), (1, &b"second"[..]));
        finish(queue, second).await;
    }
}

pub async fn a_postponed_item_comes_again_later(queue: &dyn WorkQueue) {
    const PAUSE: Duration = Duration::from_millis(300);
    offer(queue, b"key", "payload").await;
    let item = take(queue).await.remove(0);
    let started = Instant::now();
    item.retry_after(PAUSE).await;
    let again = take(queue).await;
    assert!(started.elapsed() >= PAUSE, "after {:?}", started.elapsed());
    assert_eq!((&again[0].payload[..], again[0].deliveries), (&b"payload"[..], 2));
    finish(queue, again).await;
}

pub async fn what_a_dead_worker_held_comes_again(queue: &dyn WorkQueue) {
    offer(queue, b"key", "payload").await;
    drop(take(queue).await);
    let again = take(queue).await;
    assert_eq!((&again[0].payload[..], again[0].deliveries), (&b"payload"[..], 2));
    finish(queue, again).await;
}

pub async fn restoring_adds_only_what_is_missing(queue: &dyn WorkQueue) {
    assert_eq!(restore(queue).await, Restored::Added);
    assert_eq!(restore(queue).await, Restored::Present, "it waits");
    let item = take(queue).await.remove(0);
    assert_eq!(restore(queue).await, Restored::Present, "it is with a worker");
    item.retry_after(Duration::from_millis(200)).await;
    assert_eq!(restore(queue).await, Restored::Present, "it pauses");
    let taken = take(queue).await;
    finish(queue, taken).await;
    assert_eq!(restore(queue).await, Restored::Added, "it is done");
    let taken = take(queue).await;
    finish(queue, taken).await;
}

pub async fn two_workers_share(queue: &dyn WorkQueue) {
    const ITEMS: u8 = 200;
    let boss = async {
        for key in 0..ITEMS {
            offer(queue, &[key], "").await;
        }
        until_empty(queue).await;
        offer(queue, b"end", "").await;
    };
    let (first, second, ()) = tokio::join!(work_until_the_end(queue), work_until_the_end(queue), boss);
    let mut all = [first, second].concat();
    all.sort_unstable();
    assert_eq!(all, (0..ITEMS).collect::<Vec<_>>());
    let end = take(queue).await;
    finish(queue, end).await;
}

/// The keys that it worked on.
async fn work_until_the_end(queue: &dyn WorkQueue) -> Vec<u8> {
    let mut keys = Vec::new();
    loop {
        for item in take(queue).await {
            if item.key == b"end"[..] {
                // For the other worker.
                item.retry_after(Duration::ZERO).await;
                return keys;
            }
            keys.push(item.key[0]);
            item.done().await;
        }
    }
}

async fn offer(queue: &dyn WorkQueue, key: &[u8], payload: &'static str) {
    queue.offer(key, Bytes::from_static(payload.as_bytes())).await.expect("the queue is reachable");
}

async fn restore(queue: &dyn WorkQueue) -> Restored {
    queue.restore(b"key", Bytes::new()).await.expect("the queue is reachable")
}

async fn take(queue: &dyn WorkQueue) -> Vec<Item> {
    let items = timeout(BOUND, queue.take(MANY)).await.expect("an item is given out within ten seconds");
    items.expect("the queue is reachable")
}

async fn take_all(queue: &dyn WorkQueue, count: usize) -> Vec<Item> {
    let mut items = Vec::new();
    while items.len() < count {
        items.extend(take(queue).await);
    }
    assert_eq!(items.len(), count, "{items:?}");
    items
}

/// All are done, and nothing else is there.
async fn finish(queue: &dyn WorkQueue, items: Vec<Item>) {
    for item in items {
        item.done().await;
    }
    until_empty(queue).await;
}

async fn until_empty(queue: &dyn WorkQueue) {
    let empty = async {
        while queue.depth().await.expect("the queue is reachable") > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(BOUND, empty).await.expect("the queue is empty when all is done");
}
