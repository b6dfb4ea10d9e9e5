//! The bus of one process.
//!
//! A subscription is a small queue that its publishers fill and its subscriber empties. A publisher never waits.
//!
//! A process holds a subscription for every connected device and nearly all of them are idle, so an idle one must be
//! small. It costs 88 bytes for the queue with its counts (no buffer until the first hint, and none again after the
//! last), 56 for the subscriber's handle, 8 for the list that holds the queue and 41 for the map entry, times 16/7
//! in the worst case of a hash table that has just doubled: under 300 bytes with the allocator's rounding. A tokio
//! channel allocates a block of 32 slots at once, and would cost 1.2 KB for slots of the size of `Bytes`.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::Waker;

use async_trait::async_trait;
use bytes::Bytes;

use crate::queue::{Queue, lock};
use crate::{Bus, BusError, Event, Subject, Subscription};

/// Publishers of different subjects rarely meet on a lock; more shards than twice the cores bring nothing.
const SHARDS: usize = 32;

/// Connects the roles of one process. Subscriptions end when it is dropped.
pub struct LocalBus {
    interest: Arc<Interest>,
}

/// Who listens to what.
struct Interest {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

type Shard = HashMap<Subject, Vec<Arc<Queue>>>;

struct LocalSubscription {
    subject: Subject,
    queue: Arc<Queue>,
    interest: Weak<Interest>,
}

impl LocalBus {
    #[expect(clippy::new_without_default, reason = "a second bus by accident would connect nobody")]
    pub fn new() -> Self {
        let interest =
            Interest { hasher: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()) };
        Self { interest: Arc::new(interest) }
    }

    /// How many subscriptions there are.
    pub fn subscriptions(&self) -> usize {
        self.interest.shards.iter().map(|shard| lock(shard).values().map(Vec::len).sum::<usize>()).sum()
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn publish(&self, subject: Subject, hint: Bytes) -> Result<(), BusError> {
        let mut wake = Vec::new();
        if let Some(queues) = self.interest.shard(&subject).get(&subject) {
            // Under the shard's lock, so that all subscribers see the hints of a subject in one order.
            wake.extend(queues.iter().filter_map(|queue| queue.push(&hint)));
        }
        // With no lock held: dropping a waker may drop a task, and with it a subscription.
        wake.into_iter().for_each(Waker::wake);
        Ok(())
    }

    async fn subscribe(&self, subject: Subject) -> Result<Box<dyn Subscription>, BusError> {
        let queue = Arc::new(Queue::default());
        let mut shard = self.interest.shard(&subject);
        // Nearly every subject has one subscriber, and the default first capacity is four.
        shard.entry(subject).or_insert_with(|| Vec::with_capacity(1)).push(Arc::clone(&queue));
        Ok(Box::new(LocalSubscription { subject, queue, interest: Arc::downgrade(&self.interest) }))
    }
}

#[async_trait]
impl Subscription for LocalSubscription {
    async fn next(&mut self) -> Option<Event> {
        self.queue.next().await
    }
}

impl Drop for LocalSubscription {
    fn drop(&mut self) {
        let Some(interest) = self.interest.upgrade() else {
            return;
        };
        let mut shard = interest.shard(&self.subject);
        if let Some(queues) = shard.get_mut(&self.subject) {
            queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
            if queues.is_empty() {
                shard.remove(&self.subject);
            }
        }
    }
}

impl Interest {
    fn shard(&self, subject: &Subject) -> MutexGuard<'_, Shard> {
        // The high bits: the tables use the low ones of hashes of their own, but nothing promises that they differ.
        let index = (self.hasher.hash_one(subject) >> 32) as usize % SHARDS;
        lock(&self.shards[index])
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        for shard in &self.shards {
            lock(shard).values().flatten().filter_map(|queue| queue.close()).for_each(Waker::wake);
        }
    }
}

impl fmt::Debug for LocalBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBus").field("subscriptions", &self.subscriptions()).finish()
    }
}

impl fmt::Debug for LocalSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSubscription").field("subject", &self.subject).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::Layout;

    use spillway_types::MailboxId;

    use super::*;
    use crate::queue::{QUEUE_BYTES_MAX, QUEUE_HINTS_MAX};

    fn subject() -> Subject {
        Subject::Mailbox(MailboxId::random())
    }

    async fn publish(bus: &LocalBus, subject: Subject, count: usize, size: usize) {
        for i in 0..count {
            bus.publish(subject, vec![u8::try_from(i % 256).unwrap(); size].into()).await.unwrap();
        }
    }

    /// Reads without waiting.
    async fn drain(subscription: &mut dyn Subscription) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            tokio::select! {
                biased;
                event = subscription.next() => events.push(event.unwrap()),
                () = std::future::ready(()) => return events,
            }
        }
    }

    #[tokio::test]
    async fn conforms() {
        crate::conformance::all(&LocalBus::new()).await;
    }

    #[tokio::test]
    async fn what_was_published_before_subscribing_does_not_arrive() {
        let (bus, subject) = (LocalBus::new(), subject());
        publish(&bus, subject, 1, 1).await;
        let mut subscription = bus.subscribe(subject).await.unwrap();
        assert_eq!(drain(&mut *subscription).await, []);
    }

    #[tokio::test]
    async fn overflow_keeps_what_was_queued_and_marks_the_gap_once() {
        let (bus, subject) = (LocalBus::new(), subject());
        let mut subscription = bus.subscribe(subject).await.unwrap();
        publish(&bus, subject, QUEUE_HINTS_MAX + 10, 1).await;
        let events = drain(&mut *subscription).await;
        assert_eq!(events.len(), QUEUE_HINTS_MAX + 1);
        assert_eq!(events.iter().position(|event| *event == Event::Lagged), Some(QUEUE_HINTS_MAX));

        publish(&bus, subject, 1, 1).await;
        assert_eq!(drain(&mut *subscription).await, [Event::Hint(Bytes::from_static(&[0]))]);
    }

    #[tokio::test]
    async fn nothing_is_queued_between_a_gap_and_its_report() {
        let (bus, subject) = (LocalBus::new(), subject());
        let mut subscription = bus.subscribe(subject).await.unwrap();
        publish(&bus, subject, QUEUE_HINTS_MAX + 1, 1).await;
        subscription.next().await;
        publish(&bus, subject, 1, 1).await;
        let events = drain(&mut *subscription).await;
        assert_eq!(events.len(), QUEUE_HINTS_MAX);
        assert_eq!(events.last(), Some(&Event::Lagged));
    }

    #[tokio::test]
    async fn large_hints_are_bounded_by_bytes() {
        let (bus, subject) = (LocalBus::new(), subject());
        let mut subscription = bus.subscribe(subject).await.unwrap();
        for _ in 0..2 {
            // Twice, so that bytes that were read are seen to be given back.
            publish(&bus, subject, 10, QUEUE_BYTES_MAX / 4).await;
            let events = drain(&mut *subscription).await;
            assert_eq!((events.len(), events.last()), (5, Some(&Event::Lagged)));
        }
        publish(&bus, subject, 1, QUEUE_BYTES_MAX + 1).await;
        assert!(
            matches!(drain(&mut *subscription).await[..], [Event::Hint(_)]),
            "alone, a larger one goes through"
        );
    }

    #[tokio::test]
    async fn a_slow_subscriber_costs_the_others_nothing() {
        let (bus, subject) = (LocalBus::new(), subject());
        let _slow = bus.subscribe(subject).await.unwrap();
        let mut quick = bus.subscribe(subject).await.unwrap();
        for _ in 0..10 {
            publish(&bus, subject, QUEUE_HINTS_MAX, 1).await;
            let events = drain(&mut *quick).await;
            assert!(events.len() == QUEUE_HINTS_MAX && !events.contains(&Event::Lagged));
        }
    }

    #[tokio::test]
    async fn dropping_a_subscription_ends_the_interest() {
        let (bus, subject) = (LocalBus::new(), subject());
        let (first, second) = (bus.subscribe(subject).await.unwrap(), bus.subscribe(subject).await.unwrap());
        assert_eq!(bus.subscriptions(), 2);
        drop(first);
        assert_eq!(bus.subscriptions(), 1);
        drop(second);
        assert!(bus.interest.shard(&subject).is_empty(), "no empty list stays behind");
    }

    #[tokio::test]
    async fn what_was_published_is_read_before_the_end() {
        let (bus, subject) = (LocalBus::new(), subject());
        let mut subscription = bus.subscribe(subject).await.unwrap();
        publish(&bus, subject, 1, 1).await;
        drop(bus);
        assert!(matches!(subscription.next().await, Some(Event::Hint(_))));
        assert_eq!(subscription.next().await, None);
    }

    #[tokio::test]
    async fn the_end_wakes_a_waiting_subscriber() {
        let (bus, subject) = (LocalBus::new(), subject());
        let mut subscription = bus.subscribe(subject).await.unwrap();
        let ((), event) = tokio::join!(biased_drop(bus), subscription.next());
        assert_eq!(event, None);
    }

    /// Drops the bus after the other side of a `join!` has been polled once.
    async fn biased_drop(bus: LocalBus) {
        tokio::task::yield_now().await;
        drop(bus);
    }

    #[tokio::test]
    async fn an_idle_subscription_is_small() {
        let (bus, subject) = (LocalBus::new(), subject());
        let mut subscription = bus.subscribe(subject).await.unwrap();
        publish(&bus, subject, QUEUE_HINTS_MAX, 1).await;
        drain(&mut *subscription).await;

        let shard = bus.interest.shard(&subject);
        let queues = &shard[&subject];
        assert_eq!(queues[0].capacity(), 0, "the buffer is given back");
        let counts = 2 * size_of::<usize>();
        let entry = (Layout::new::<(Subject, Vec<Arc<Queue>>)>().size() + 1) * 16 / 7;
        let total = counts
            + size_of::<Queue>()
            + size_of::<LocalSubscription>()
            + queues.capacity() * size_of::<Arc<Queue>>()
            + entry;
        assert!(total <= 300, "{total} bytes");
    }
}
