//! Reads of the store, of which there is one at a time for each number: who asks for a number that is being read waits for
//! that read.
//!
//! So on the day when everybody looks for the same few numbers, each costs the store one read at a time. An answer is at
//! most as old as a read takes, and a read ends within the store's time-outs of a few seconds. That is also why there is no
//! cache: what it would save is little, as strangers do not get here and friends of different people are different ones, and
//! it would have to be told who hides.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use spillway_store::{Directory as DirectoryStore, StoreError};
use spillway_types::{AccountId, NumberMac};

use crate::metrics::ReadMetrics;

type Answer = Result<Arc<[Option<AccountId>]>, StoreError>;
/// Driven by whoever waits for it; gone when nobody does.
type Read = Shared<BoxFuture<'static, Answer>>;

#[derive(Debug)]
pub(crate) struct Reads {
    store: Arc<dyn DirectoryStore>,
    under_way: UnderWay,
    metrics: ReadMetrics,
}

/// Where a number's answer will be.
#[derive(Debug)]
struct Place {
    read: WeakShared<BoxFuture<'static, Answer>>,
    index: usize,
    /// Of the read.
    id: u64,
}

#[derive(Clone, Debug, Default)]
struct UnderWay(Arc<Mutex<Places>>);

#[derive(Debug, Default)]
struct Places {
    of: HashMap<NumberMac, Place>,
    last_id: u64,
}

impl Reads {
    pub(crate) fn new(store: Arc<dyn DirectoryStore>, metrics: ReadMetrics) -> Self {
        Self { store, under_way: UnderWay::default(), metrics }
    }

    /// One answer for each number, in their order.
    pub(crate) async fn read(&self, numbers: &[NumberMac]) -> Result<Vec<Option<AccountId>>, StoreError> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers = Vec::with_capacity(numbers.len());
        for (read, index) in self.places(numbers) {
            answers.push(read.await?[index]);
        }
        Ok(answers)
    }

    /// The reads that these numbers are in: such as are under way, and one for all the others.
    fn places(&self, numbers: &[NumberMac]) -> Vec<(Read, usize)> {
        let mut under_way = self.under_way.lock();
        let mut places: Vec<Option<(Read, usize)>> = Vec::with_capacity(numbers.len());
        let mut new = Vec::new();
        for number in numbers {
            let place = under_way.of.get(number).and_then(|place| Some((place.read.upgrade()?, place.index)));
            if place.is_none() {
                new.push(*number);
            }
            places.push(place);
        }
        self.metrics.read.inc_by(new.len() as u64);
        self.metrics.joined.inc_by((numbers.len() - new.len()) as u64);
        let mut read = None;
        if !new.is_empty() {
            under_way.last_id += 1;
            let id = under_way.last_id;
            let begun = self.begin(new.clone(), id);
            let weak = begun.downgrade().expect("a read that nobody has polled is not over");
            for (index, number) in new.iter().enumerate() {
                under_way.of.insert(*number, Place { read: weak.clone(), index, id });
            }
            read = Some(begun);
        }
        drop(under_way);
        let mut next = 0;
        let mut newly = || {
            let place = (read.clone().expect("there is a read of the new ones"), next);
            next += 1;
            place
        };
        places.into_iter().map(|place| place.unwrap_or_else(&mut newly)).collect()
    }

    fn begin(&self, numbers: Vec<NumberMac>, id: u64) -> Read {
        let store = Arc::clone(&self.store);
        let leaving = Leaving { under_way: self.under_way.clone(), numbers, id };
        async move {
            let answers = store.lookup(&leaving.numbers).await?;
            Ok(Arc::from(answers))
        }
        .boxed()
        .shared()
    }
}

/// Takes a read out of the table when it has ended, or when the last who waited for it has left.
#[derive(Debug)]
struct Leaving {
    under_way: UnderWay,
    numbers: Vec<NumberMac>,
    id: u64,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut under_way = self.under_way.lock();
        for number in &self.numbers {
            if let Entry::Occupied(place) = under_way.of.entry(*number)
                && place.get().id == self.id
            {
                place.remove();
            }
        }
    }
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, Places> {
        // Entries are put and taken one by one, so a poisoned table is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::{join, join_all};
    use prometheus::Registry;

    use super::*;
    use crate::fake::{FakeStore, number};

    fn reads(store: &FakeStore) -> Reads {
        let metrics = ReadMetrics::register(&Registry::new()).unwrap();
        Reads::new(Arc::new(store.clone()), metrics)
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_what_is_being_read_waits_for_that_read() {
        let store = FakeStore::default();
        store.set(number(1), Some(AccountId::from_bytes([1; 16])));
        store.slow(Duration::from_secs(1));
        let reads = reads(&store);
        let question = [number(1), number(2)];
        for answer in join_all((0..64).map(|_| reads.read(&question))).await {
            assert_eq!(answer.unwrap(), [Some(AccountId::from_bytes([1; 16])), None]);
        }
        assert_eq!(store.numbers_read(), 2);
        assert_eq!((reads.metrics.read.get(), reads.metrics.joined.get()), (2, 126));
        assert!(reads.under_way.lock().of.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_nobody_reads_yet_is_read() {
        let store = FakeStore::default();
        let account = |n: u8| Some(AccountId::from_bytes([n; 16]));
        for n in 1..=4 {
            store.set(number(n.into()), account(n));
        }
        store.slow(Duration::from_secs(1));
        let reads = reads(&store);
        let (first, second) = ([number(1), number(2)], [number(4), number(2), number(3), number(2)]);
        let (first, second) = join(reads.read(&first), reads.read(&second)).await;
        assert_eq!(first.unwrap(), [account(1), account(2)]);
        assert_eq!(second.unwrap(), [account(4), account(2), account(3), account(2)]);
        assert_eq!(store.numbers_read(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_takes_nobody_elses_read_along() {
        let store = FakeStore::default();
        store.set(number(1), Some(AccountId::from_bytes([1; 16])));
        store.slow(Duration::from_secs(2));
        let reads = reads(&store);
        let question = [number(1)];
        let leaves = tokio::time::timeout(Duration::from_secs(1), reads.read(&question));
        let (left, stayed) = join(leaves, reads.read(&question)).await;
        assert!(left.is_err());
        assert_eq!(stayed.unwrap(), [Some(AccountId::from_bytes([1; 16]))]);
        assert_eq!(store.numbers_read(), 1);
        // When all leave, the next one reads for himself.
        tokio::time::timeout(Duration::from_secs(1), reads.read(&question)).await.unwrap_err();
        assert!(reads.under_way.lock().of.is_empty());
        assert_eq!(reads.read(&question).await.unwrap(), [Some(AccountId::from_bytes([1; 16]))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_everybodys_and_is_not_kept() {
        let store = FakeStore::default();
        store.slow(Duration::from_secs(1));
        store.fail(true);
        let reads = reads(&store);
        let question = [number(1)];
        let (one, other) = join(reads.read(&question), reads.read(&question)).await;
        assert!(matches!((one, other), (Err(StoreError::Unavailable(_)), Err(StoreError::Unavailable(_)))));
        store.fail(false);
        assert_eq!(reads.read(&question).await.unwrap(), [None]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_hides_is_gone_with_the_next_read() {
        let store = FakeStore::default();
        store.set(number(1), Some(AccountId::from_bytes([1; 16])));
        let reads = reads(&store);
        let question = [number(1)];
        assert_eq!(reads.read(&question).await.unwrap().len(), 1);
        store.set(number(1), None);
        assert_eq!(reads.read(&question).await.unwrap(), [None]);
    }
}
