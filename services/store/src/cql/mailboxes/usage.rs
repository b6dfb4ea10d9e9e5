//! How much a mailbox holds, roughly, without writing anything down.
//!
//! Counting exactly would take a conditional write for each message. Instead each worker keeps an estimate of the
//! mailboxes that it writes to: what was there at its last count, and what it has added since. A mailbox that it does
//! not know counts as empty. It counts (sums up the rows, without their envelopes)
//!
//! - when it has added a [`SHARE`]th of the capacity since its last count, or since it first heard of the mailbox;
//! - when the mailbox is half full or more and the last count is older than [`COUNT_AGE_MAX`];
//! - before it says "full", unless the last count said so, is younger than that, and nothing was deleted here since.
//!
//! So a worker alone never exceeds the capacity of a mailbox that it has counted. Several workers may, each by what it
//! adds between two of its counts: **a mailbox exceeds its capacity by at most one [`SHARE`]th, and one message, for
//! each worker that writes to it**, and again for each time that such a worker starts anew or forgets the mailbox, of
//! which it remembers [`REMEMBERED_MAX`]. A mailbox that was full and was emptied through another worker is refused for
//! at most [`COUNT_AGE_MAX`] more. An insert of unknown outcome that arrives after the next count is not counted.
//! The cost for mailboxes that are read is one count for every 312 messages with the default capacity of 10,000.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use spillway_types::MailboxId;
use tokio::time::Instant;

use crate::StoreError;
use crate::mailboxes::{Capacity, Usage};

/// The part of the capacity that a worker adds without counting: 1/32, about 3 %.
const SHARE: u64 = 32;
const COUNT_AGE_MAX: Duration = Duration::from_secs(30);
/// Mailboxes with an estimate, at about 300 bytes each.
const REMEMBERED_MAX: usize = 50_000;

#[derive(Debug)]
pub(super) struct Usages(Cache<MailboxId, Arc<Estimate>>);

impl Usages {
    pub(super) fn new() -> Self {
        Self(Cache::new(REMEMBERED_MAX))
    }

    pub(super) fn of(&self, mailbox: MailboxId) -> Arc<Estimate> {
        if let Some(estimate) = self.0.get(&mailbox) {
            return estimate;
        }
        let make = || Ok::<_, std::convert::Infallible>(Arc::default());
        let Ok(estimate) = self.0.get_or_insert_with(&mailbox, make);
        estimate
    }

    /// Something was deleted here: the estimate is too high.
    pub(super) fn deleted(&self, mailbox: MailboxId) {
        if let Some(estimate) = self.0.get(&mailbox) {
            estimate.lock().deleted = true;
        }
    }

    pub(super) fn forget(&self, mailbox: MailboxId) {
        self.0.remove(&mailbox);
    }
}

/// What this worker knows of one mailbox.
#[derive(Debug, Default)]
pub(super) struct Estimate {
    tally: Mutex<Tally>,
    /// Held while it is counted.
    counting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Tally {
    /// What the last count saw; nothing before the first.
    counted: Usage,
    counted_at: Option<Instant>,
    /// Added by a write that was under way at some time of the last count, so that it may have seen it or not.
    unseen: Usage,
    /// Added since the last count, whether written yet or not.
    added: Usage,
    /// Not answered yet.
    in_flight: Usage,
    /// Something was deleted since the last count.
    deleted: bool,
}

/// A tally when a count began.
#[derive(Clone, Copy, Debug)]
struct Before {
    in_flight: Usage,
    added: Usage,
}

/// The answer to a message that wants in.
#[derive(Debug)]
pub(super) enum Room {
    Reserved(Place),
    Full(Usage),
}

/// Room that is kept for a message until it was written or given up.
#[derive(Debug)]
pub(super) struct Place {
    estimate: Arc<Estimate>,
    size: u64,
    usage: Usage,
}

enum Decision {
    Reserve(Usage),
    Full(Usage),
    Count,
}

impl Estimate {
    /// Keeps room for a message of `size`, or finds that there is none. `count` is asked for when what is known does
    /// not suffice, by one caller at a time.
    pub(super) async fn room_for<F>(
        self: Arc<Self>,
        size: u64,
        capacity: Capacity,
        count: impl Fn() -> F,
    ) -> Result<Room, StoreError>
    where
        F: Future<Output = Result<Usage, StoreError>>,
    {
        if let Some(room) = self.decide(size, capacity) {
            return Ok(room);
        }
        let _counting = self.counting.lock().await;
        loop {
            // Somebody may have counted in the meantime; and what was under way at a count may still be.
            if let Some(room) = self.decide(size, capacity) {
                return Ok(room);
            }
            let before = self.lock().snapshot();
            let counted = count().await?;
            self.lock().count(counted, &before);
        }
    }

    fn decide(self: &Arc<Self>, size: u64, capacity: Capacity) -> Option<Room> {
        let mut tally = self.lock();
        match tally.decide(size, capacity) {
            Decision::Reserve(usage) => {
                tally.added = plus(tally.added, size);
                tally.in_flight = plus(tally.in_flight, size);
                Some(Room::Reserved(Place { estimate: Arc::clone(self), size, usage }))
            }
            Decision::Full(usage) => Some(Room::Full(usage)),
            Decision::Count => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn decide(&self, size: u64, capacity: Capacity) -> Decision {
        let usage = sum(sum(self.counted, self.added), self.unseen);
        let with_it = plus(usage, size);
        let is_young = self.counted_at.is_some_and(|at| at.elapsed() < COUNT_AGE_MAX);
        if !usage.fits(size, capacity) {
            // What was added may be there twice in the sum, as a repetition, or may have failed.
            let is_certain = is_young && !self.deleted && !self.counted.fits(size, capacity);
            return if is_certain { Decision::Full(usage) } else { Decision::Count };
        }
        let was_just_counted = self.counted_at.is_some() && self.added == Usage::default();
        let uncounted = plus(self.added, size);
        let is_much = uncounted.messages > (capacity.messages / SHARE).max(1)
            || uncounted.bytes > capacity.bytes / SHARE;
        if is_much && !was_just_counted {
            return Decision::Count;
        }
        let is_half_full = with_it.messages > capacity.messages / 2 || with_it.bytes > capacity.bytes / 2;
        if is_half_full && !is_young && !was_just_counted {
            return Decision::Count;
        }
        Decision::Reserve(with_it)
    }

    const fn snapshot(&self) -> Before {
        Before { in_flight: self.in_flight, added: self.added }
    }

    /// Starts anew from a count. It may have missed what was under way when it began, and what came after.
    fn count(&mut self, counted: Usage, before: &Before) {
        self.counted = counted;
        self.counted_at = Some(Instant::now());
        self.unseen = sum(before.in_flight, less(self.added, before.added));
        self.added = Usage::default();
        self.deleted = false;
    }
}

impl Place {
    /// With the message. It counts until the next count, even if it is not known whether it was written.
    pub(super) const fn usage(&self) -> Usage {
        self.usage
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut tally = self.estimate.lock();
        tally.in_flight = less(tally.in_flight, Usage { messages: 1, bytes: self.size });
    }
}

const fn plus(usage: Usage, size: u64) -> Usage {
    sum(usage, Usage { messages: 1, bytes: size })
}

const fn sum(a: Usage, b: Usage) -> Usage {
    Usage { messages: a.messages.saturating_add(b.messages), bytes: a.bytes.saturating_add(b.bytes) }
}

const fn less(a: Usage, b: Usage) -> Usage {
    Usage { messages: a.messages.saturating_sub(b.messages), bytes: a.bytes.saturating_sub(b.bytes) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A mailbox of messages of one byte in a database.
    #[derive(Debug, Default)]
    struct Stored {
        messages: AtomicU64,
        counts: AtomicU64,
    }

    const CAPACITY: Capacity = Capacity { messages: 320, bytes: u64::MAX };

    impl Stored {
        fn usage(&self) -> Usage {
            let messages = self.messages.load(Ordering::SeqCst);
            Usage { messages, bytes: messages }
        }

        fn counts(&self) -> u64 {
            self.counts.load(Ordering::SeqCst)
        }

        fn delete_all(&self, here: &Estimate) {
            self.messages.store(0, Ordering::SeqCst);
            here.lock().deleted = true;
        }

        async fn put(&self, estimate: &Arc<Estimate>) -> Option<Usage> {
            let count = || async {
                self.counts.fetch_add(1, Ordering::SeqCst);
                let usage = self.usage();
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(usage)
            };
            match Arc::clone(estimate).room_for(1, CAPACITY, count).await.unwrap() {
                Room::Full(_) => None,
                Room::Reserved(place) => {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                    self.messages.fetch_add(1, Ordering::SeqCst);
                    Some(place.usage())
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_mailbox_that_is_read_costs_a_count_for_each_share() {
        let (stored, estimate) = (Stored::default(), Arc::default());
        for _ in 0..1_000 {
            assert!(stored.put(&estimate).await.is_some());
            stored.delete_all(&estimate);
        }
        // 10 before the first, and one more for each after a count, which is not looked at twice.
        assert!((90..=100).contains(&stored.counts()), "{}", stored.counts());
    }

    #[tokio::test(start_paused = true)]
    async fn one_worker_never_exceeds_the_capacity_however_many_race() {
        let (stored, estimate) = (Arc::new(Stored::default()), Arc::<Estimate>::default());
        let mut racers = tokio::task::JoinSet::new();
        for _ in 0..1_000 {
            let (stored, estimate) = (Arc::clone(&stored), Arc::clone(&estimate));
            racers.spawn(async move { stored.put(&estimate).await.is_some() });
        }
        let taken = racers.join_all().await.into_iter().filter(|taken| *taken).count();
        assert_eq!((taken as u64, stored.usage().messages), (CAPACITY.messages, CAPACITY.messages));
    }

    #[tokio::test(start_paused = true)]
    async fn workers_exceed_the_capacity_by_a_share_each_at_most() {
        const WORKERS: u64 = 4;
        let stored = Arc::new(Stored::default());
        let mut racers = tokio::task::JoinSet::new();
        for _ in 0..WORKERS {
            let estimate = Arc::<Estimate>::default();
            for _ in 0..500 {
                let (stored, estimate) = (Arc::clone(&stored), Arc::clone(&estimate));
                racers.spawn(async move { stored.put(&estimate).await });
            }
        }
        racers.join_all().await;
        let messages = stored.usage().messages;
        let most = CAPACITY.messages + WORKERS * (CAPACITY.messages / SHARE + 1);
        assert!((CAPACITY.messages..=most).contains(&messages), "{messages}");
    }

    #[tokio::test(start_paused = true)]
    async fn full_tells_also_what_was_added_since_the_count() {
        let (capacity, estimate) = (Capacity { messages: 100, bytes: 100 }, Arc::<Estimate>::default());
        let ask = async |size| {
            let count = || async { Ok(Usage { messages: 1, bytes: 95 }) };
            Arc::clone(&estimate).room_for(size, capacity, count).await.unwrap()
        };
        assert!(matches!(ask(50).await, Room::Full(Usage { messages: 1, bytes: 95 })));
        assert!(matches!(ask(3).await, Room::Reserved(_)));
        let full = ask(50).await;
        assert!(matches!(full, Room::Full(Usage { messages: 2, bytes: 98 })), "{full:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn full_is_said_without_counting_until_something_is_deleted_here_or_the_count_is_old() {
        let (stored, estimate) = (Stored::default(), Arc::default());
        while stored.put(&estimate).await.is_some() {}
        let counts = stored.counts();
        assert_eq!(stored.put(&estimate).await, None);
        assert_eq!(stored.counts(), counts);

        stored.delete_all(&estimate);
        assert_eq!(stored.put(&estimate).await, Some(Usage { messages: 1, bytes: 1 }));

        while stored.put(&estimate).await.is_some() {}
        // By another worker.
        stored.messages.store(0, Ordering::SeqCst);
        assert_eq!(stored.put(&estimate).await, None);
        tokio::time::advance(COUNT_AGE_MAX).await;
        assert!(stored.put(&estimate).await.is_some());
    }
}
