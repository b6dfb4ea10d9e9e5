//! Who listens to what, over one connection.
//!
//! Several subscriptions of a subject share one SUB. A message finds its queues by its subject; the sid only tells
//! whether it belongs to the interest that there is now, or to one that has ended. So one table is enough.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use bytes::Bytes;

use crate::Subject;
use crate::queue::{Queue, lock};

/// Subscribers rarely meet on a lock, and resubscribing works through one shard at a time.
pub(super) const SHARDS: usize = 32;

#[derive(Default)]
pub(super) struct Interest {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    sids: AtomicU64,
}

type Shard = HashMap<Subject, Listeners>;

struct Listeners {
    sid: u64,
    queues: Vec<Arc<Queue>>,
}

impl Interest {
    /// `on_first` gets the sid when nobody listened to the subject before. It runs under the shard's lock, as
    /// `on_last` of [`Interest::remove`] does, so that what they put on the wire is in the order of the changes.
    pub(super) fn add(&self, subject: Subject, queue: &Arc<Queue>, on_first: impl FnOnce(u64)) {
        match self.shard(&subject).entry(subject) {
            Entry::Occupied(mut listeners) => listeners.get_mut().queues.push(Arc::clone(queue)),
            Entry::Vacant(vacant) => {
                let sid = self.sids.fetch_add(1, Ordering::Relaxed);
                vacant.insert(Listeners { sid, queues: vec![Arc::clone(queue)] });
                on_first(sid);
            }
        }
    }

    pub(super) fn remove(&self, subject: &Subject, queue: &Arc<Queue>, on_last: impl FnOnce(u64)) {
        let mut shard = self.shard(subject);
        let Some(listeners) = shard.get_mut(subject) else {
            return;
        };
        listeners.queues.retain(|other| !Arc::ptr_eq(other, queue));
        if listeners.queues.is_empty() {
            on_last(listeners.sid);
            shard.remove(subject);
        }
    }

    /// Whether anybody listens.
    pub(super) fn deliver(&self, subject: &Subject, sid: u64, payload: &[u8]) -> bool {
        let mut wake = Vec::new();
        {
            let shard = self.shard(subject);
            let Some(listeners) = shard.get(subject).filter(|listeners| listeners.sid == sid) else {
                return false;
            };
            // A copy: a part of the connection's buffer would keep all of it alive while it waits in a queue.
            let hint = Bytes::copy_from_slice(payload);
            wake.extend(listeners.queues.iter().filter_map(|queue| queue.push(&hint)));
        }
        // With no lock held: dropping a waker may drop a task, and with it a subscription.
        wake.into_iter().for_each(Waker::wake);
        true
    }

    /// Ends the subscriptions of a subject. Whether there were any.
    pub(super) fn refuse(&self, subject: &Subject) -> bool {
        let Some(listeners) = self.shard(subject).remove(subject) else {
            return false;
        };
        listeners.queues.iter().filter_map(|queue| queue.close()).for_each(Waker::wake);
        true
    }

    /// Shows the subjects of one shard, 0 to [`SHARDS`].
    pub(super) fn each(&self, shard: usize, mut visit: impl FnMut(&Subject, u64)) {
        for (subject, listeners) in &*lock(&self.shards[shard]) {
            visit(subject, listeners.sid);
        }
    }

    /// Tells all subscriptions of one shard that hints may have been lost.
    pub(super) fn lag(&self, shard: usize) {
        let wake: Vec<_> =
            lock(&self.shards[shard]).values().flat_map(|l| &l.queues).filter_map(|q| q.lag()).collect();
        wake.into_iter().for_each(Waker::wake);
    }

    pub(super) fn close(&self) {
        for shard in &self.shards {
            let listeners = std::mem::take(&mut *lock(shard));
            listeners
                .values()
                .flat_map(|l| &l.queues)
                .filter_map(|queue| queue.close())
                .for_each(Waker::wake);
        }
    }

    pub(super) fn subjects(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, subject: &Subject) -> MutexGuard<'_, Shard> {
        lock(&self.shards[(self.hasher.hash_one(subject) >> 32) as usize % SHARDS])
    }
}

#[cfg(test)]
mod tests {
    use spillway_types::MailboxId;

    use super::*;
    use crate::Event;

    fn event(queue: &Queue) -> Option<Option<Event>> {
        futures::FutureExt::now_or_never(queue.next())
    }

    fn subject() -> Subject {
        Subject::Mailbox(MailboxId::random())
    }

    fn add(interest: &Interest, subject: Subject) -> (Arc<Queue>, Option<u64>) {
        let (queue, mut sid) = (Arc::default(), None);
        interest.add(subject, &queue, |new| sid = Some(new));
        (queue, sid)
    }

    #[test]
    fn subscriptions_of_a_subject_share_a_sid_until_the_last_has_gone() {
        let (interest, subject) = (Interest::default(), subject());
        let (first, sid) = add(&interest, subject);
        let sid = sid.unwrap();
        let (second, none) = add(&interest, subject);
        assert_eq!(none, None);
        interest.remove(&subject, &first, |_| panic!("there is another"));
        assert!(interest.deliver(&subject, sid, b"x"));
        assert_eq!(event(&first), None);
        assert_eq!(event(&second), Some(Some(Event::Hint(Bytes::from_static(b"x")))));

        let mut gone = None;
        interest.remove(&subject, &second, |sid| gone = Some(sid));
        assert_eq!((gone, interest.subjects()), (Some(sid), 0));
    }

    #[test]
    fn a_message_for_interest_that_has_ended_reaches_nobody() {
        let (interest, subject) = (Interest::default(), subject());
        let (first, old) = add(&interest, subject);
        interest.remove(&subject, &first, |_| {});
        let (second, _) = add(&interest, subject);
        assert!(!interest.deliver(&subject, old.unwrap(), b"x"));
        assert_eq!(event(&second), None);
    }

    #[test]
    fn every_subject_is_in_exactly_one_shard_and_lags_with_it() {
        let interest = Interest::default();
        let queues: Vec<_> = (0..200).map(|_| add(&interest, subject()).0).collect();
        let mut sids: Vec<u64> = Vec::new();
        for shard in 0..SHARDS {
            interest.each(shard, |_, sid| sids.push(sid));
            interest.lag(shard);
        }
        sids.sort_unstable();
        assert_eq!(sids, (0..200).collect::<Vec<_>>());
        assert!(queues.iter().all(|queue| event(queue) == Some(Some(Event::Lagged))));
    }

    #[test]
    fn a_refused_subject_ends_its_subscriptions_only() {
        let (interest, refused, kept) = (Interest::default(), subject(), subject());
        let (first, second) = (add(&interest, refused).0, add(&interest, kept).0);
        assert!(interest.refuse(&refused));
        assert_eq!((event(&first), event(&second)), (Some(None), None));
        interest.remove(&refused, &first, |_| panic!("it is gone already"));
    }
}
