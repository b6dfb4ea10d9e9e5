//! The work queue of one process, in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::{Item, Receipt, Restored, WorkError, WorkQueue};

/// A bounded queue for the workers of one process. An item that its worker drops comes again at once.
pub struct LocalWorkQueue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    items_max: usize,
}

#[derive(Default)]
struct State {
    items: HashMap<Bytes, Entry>,
    /// The keys of entries in [`Place::Ready`].
    ready: VecDeque<Bytes>,
    /// The keys of entries in [`Place::Later`].
    later: BTreeMap<(Instant, u64), Bytes>,
    offers: u64,
}

struct Entry {
    payload: Bytes,
    deliveries: u32,
    /// Numbers the offer that made this item, so that the worker of a replaced one settles nothing.
    offer: u64,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    Ready,
    Later(Instant),
    Taken,
}

struct LocalReceipt {
    key: Bytes,
    offer: u64,
    /// `None` once settled.
    shared: Option<Arc<Shared>>,
}

impl LocalWorkQueue {
    /// Holds at most `items_max` items; offers of further keys are refused.
    pub fn new(items_max: NonZeroUsize) -> Self {
        let items_max = items_max.get();
        Self(Arc::new(Shared { state: Mutex::default(), changed: Notify::new(), items_max }))
    }
}

#[async_trait]
impl WorkQueue for LocalWorkQueue {
    async fn offer(&self, key: &[u8], payload: Bytes) -> Result<(), WorkError> {
        self.0.state().offer(key, payload, self.0.items_max)?;
        self.0.changed.notify_waiters();
        Ok(())
    }

    async fn restore(&self, key: &[u8], payload: Bytes) -> Result<Restored, WorkError> {
        let mut state = self.0.state();
        if state.items.contains_key(key) {
            return Ok(Restored::Present);
        }
        state.offer(key, payload, self.0.items_max)?;
        drop(state);
        self.0.changed.notify_waiters();
        Ok(Restored::Added)
    }

    async fn take(&self, max: NonZeroUsize) -> Result<Vec<Item>, WorkError> {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            // Before the look, so that what comes after it is heard of.
            changed.as_mut().enable();
            let (items, due) = self.0.take_now(max.get());
            if !items.is_empty() {
                return Ok(items);
            }
            tokio::select! {
                () = changed => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    async fn depth(&self) -> Result<u64, WorkError> {
        Ok(self.0.state().items.len() as u64)
    }
}

#[async_trait]
impl Receipt for LocalReceipt {
    async fn done(mut self: Box<Self>) {
        if let Some(shared) = self.shared.take() {
            shared.settle(&self, |state, key, _| drop(state.items.remove(key)));
        }
    }

    async fn retry_after(mut self: Box<Self>, pause: Duration) {
        if let Some(shared) = self.shared.take() {
            let at = Instant::now() + pause;
            shared.settle(&self, |state, key, offer| {
                state.later.insert((at, offer), key.clone());
                state.place(key, Place::Later(at));
            });
        }
    }
}

impl Drop for LocalReceipt {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.settle(self, |state, key, _| {
                state.ready.push_front(key.clone());
                state.place(key, Place::Ready);
            });
        }
    }
}

impl Shared {
    /// No code that can panic runs under this lock, so a poisoned one holds nothing half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_now(self: &Arc<Self>, max: usize) -> (Vec<Item>, Option<Instant>) {
        let mut state = self.state();
        let mut items = Vec::new();
        while items.len() < max
            && let Some(key) = state.next(Instant::now())
            && let Some(entry) = state.items.get_mut(&key)
        {
            entry.place = Place::Taken;
            entry.deliveries = entry.deliveries.saturating_add(1);
            let shared = Some(Arc::clone(self));
            let receipt = LocalReceipt { key: key.clone(), offer: entry.offer, shared };
            items.push(Item::new(key, entry.payload.clone(), entry.deliveries, Box::new(receipt)));
        }
        (items, state.later.first_key_value().map(|((at, _), _)| *at))
    }

    /// Unless the item was replaced.
    fn settle(&self, receipt: &LocalReceipt, settle: impl FnOnce(&mut State, &Bytes, u64)) {
        let mut state = self.state();
        if state.items.get(&receipt.key).is_some_and(|entry| entry.offer == receipt.offer) {
            settle(&mut state, &receipt.key, receipt.offer);
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

impl State {
    fn offer(&mut self, key: &[u8], payload: Bytes, items_max: usize) -> Result<(), WorkError> {
        self.offers += 1;
        let offer = self.offers;
        let Some(entry) = self.items.get_mut(key) else {
            if self.items.len() >= items_max {
                return Err(WorkError::Full);
            }
            let key = Bytes::copy_from_slice(key);
            self.ready.push_back(key.clone());
            self.items.insert(key, Entry { payload, deliveries: 0, offer, place: Place::Ready });
            return Ok(());
        };
        let replaced = std::mem::replace(entry, Entry { payload, deliveries: 0, offer, place: Place::Ready });
        let key = match replaced.place {
            Place::Ready => None,
            Place::Later(at) => self.later.remove(&(at, replaced.offer)),
            Place::Taken => Some(Bytes::copy_from_slice(key)),
        };
        self.ready.extend(key);
        Ok(())
    }

    /// What pauses came first.
    fn next(&mut self, now: Instant) -> Option<Bytes> {
        match self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            Some(entry) => Some(entry.remove()),
            None => self.ready.pop_front(),
        }
    }

    fn place(&mut self, key: &Bytes, place: Place) {
        if let Some(entry) = self.items.get_mut(key) {
            entry.place = place;
        }
    }
}

impl fmt::Debug for LocalWorkQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.0.state().items.len();
        f.debug_struct("LocalWorkQueue").field("items", &items).finish_non_exhaustive()
    }
}

impl fmt::Debug for LocalReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalReceipt").field("offer", &self.offer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(2);
    const MANY: NonZeroUsize = NonZeroUsize::new(100).unwrap();

    fn queue() -> LocalWorkQueue {
        LocalWorkQueue::new(NonZeroUsize::new(3).unwrap())
    }

    async fn offer(queue: &LocalWorkQueue, key: u8) {
        queue.offer(&[key], Bytes::new()).await.unwrap();
    }

    /// What can be had without waiting.
    fn now(queue: &LocalWorkQueue) -> Vec<Item> {
        queue.0.take_now(100).0
    }

    fn keys(items: &[Item]) -> Vec<u8> {
        items.iter().map(|item| item.key[0]).collect()
    }

    #[tokio::test]
    async fn conforms() {
        crate::conformance::work::all(&LocalWorkQueue::new(NonZeroUsize::new(10_000).unwrap())).await;
    }

    #[tokio::test]
    async fn a_full_queue_refuses_what_is_new_and_replaces_what_is_not() {
        let queue = queue();
        for key in 1..=3 {
            offer(&queue, key).await;
        }
        assert!(matches!(queue.offer(&[4], Bytes::new()).await, Err(WorkError::Full)));
        assert!(matches!(queue.restore(&[4], Bytes::new()).await, Err(WorkError::Full)));
        assert_eq!(queue.restore(&[2], Bytes::new()).await.unwrap(), Restored::Present);
        offer(&queue, 1).await;
        let taken = now(&queue);
        assert_eq!(keys(&taken), [1, 2, 3], "a replaced item keeps its place");
        assert!(matches!(queue.offer(&[4], Bytes::new()).await, Err(WorkError::Full)), "held ones count");
        for item in taken {
            item.done().await;
        }
        assert_eq!(queue.depth().await.unwrap(), 0);
        let state = queue.0.state();
        assert!(state.items.is_empty() && state.ready.is_empty() && state.later.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_one_item_and_no_other() {
        let queue = queue();
        offer(&queue, 1).await;
        now(&queue).remove(0).retry_after(PAUSE).await;
        offer(&queue, 2).await;
        assert_eq!(keys(&now(&queue)), [2]);
        now(&queue).remove(0).done().await;

        let started = Instant::now();
        let again = queue.take(MANY).await.unwrap();
        assert_eq!((keys(&again), again[0].deliveries, started.elapsed()), (vec![1], 2, PAUSE));
        assert!(now(&queue).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_offer_ends_a_pause() {
        let queue = queue();
        offer(&queue, 1).await;
        now(&queue).remove(0).retry_after(PAUSE).await;
        offer(&queue, 1).await;
        let taken = now(&queue);
        assert_eq!((keys(&taken), taken[0].deliveries), (vec![1], 1));
        tokio::time::advance(PAUSE).await;
        assert!(now(&queue).is_empty(), "the pause of the replaced item is gone with it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_worker_hears_of_offers_pauses_and_deaths() {
        let queue = queue();
        let (item, ()) = tokio::join!(biased; queue.take(MANY), offer(&queue, 1));
        let item = item.unwrap().remove(0);
        let (item, ()) = tokio::join!(biased; queue.take(MANY), item.retry_after(PAUSE));
        let item = item.unwrap().remove(0);
        let (item, ()) = tokio::join!(biased; queue.take(MANY), async { drop(item) });
        assert_eq!(item.unwrap()[0].deliveries, 3);
    }
}
