//! What providers say became of messages that they took.
//!
//! A receipt is a hint: it may come twice, hours late, before the answer that it belongs to, or never. The first that says something
//! final counts, and everything else changes nothing. Memory is bounded: the oldest message is forgotten, and its receipt is then one of nobody.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use spillway_store::verifications::VerificationId;
use tokio::time::Instant;

use super::record::Cell;

/// About 100 bytes each, so 13 MB: the messages of two minutes at 1,000 a second.
const PENDING_MAX: usize = 131_072;
/// Receipts that came before the answer. They wait for it as long as a call may take.
const EARLY_MAX: usize = 4_096;
const EARLY: Duration = Duration::from_secs(30);
/// In which most messages should have arrived.
const YOUNG: Duration = Duration::from_secs(60);
/// Young messages without which their share says nothing.
const YOUNG_MIN: usize = 50;

/// What a provider says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It has reached the phone.
    Arrived,
    /// It never will.
    Failed,
    /// It is still on its way, or nobody knows.
    Unknown,
}

/// A message that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) cell: Cell,
    pub(super) session: VerificationId,
    pub(super) taken_at: Instant,
    /// From the request until it was taken.
    pub(super) waited: Duration,
}

#[derive(Debug)]
pub(super) struct Receipts {
    hasher: RandomState,
    pending: HashMap<Key, Pending>,
    order: VecDeque<Key>,
    early: HashMap<Key, (Instant, Delivery)>,
    early_order: VecDeque<(Instant, Key)>,
    /// By provider.
    lines: Vec<Young>,
}

/// Of provider and message. 64 bits: among as many messages as are remembered two agree once in a billion of such sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(u64);

#[derive(Clone, Copy, Debug)]
struct Pending {
    message: Message,
    is_young: bool,
}

/// Messages of the last minute.
#[derive(Debug, Default)]
struct Young {
    taken: VecDeque<(Instant, Key)>,
    /// Those without a receipt.
    missing: usize,
}

impl Receipts {
    pub(super) fn new(providers: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            pending: HashMap::new(),
            order: VecDeque::new(),
            early: HashMap::new(),
            early_order: VecDeque::new(),
            lines: (0..providers).map(|_| Young::default()).collect(),
        }
    }

    /// The provider took a message, and will call it `name`. Answers with what it has said of it already.
    pub(super) fn taken(&mut self, name: &str, message: Message, now: Instant) -> Option<Delivery> {
        let provider = message.cell.0;
        let key = self.key(provider, name);
        self.age(provider, now);
        if let Some((_, delivery)) = self.early.remove(&key) {
            return Some(delivery);
        }
        if self.order.len() >= PENDING_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(oldest);
        }
        // A name that a provider gives twice is that of the second message.
        self.forget(key);
        self.pending.insert(key, Pending { message, is_young: true });
        self.order.push_back(key);
        let young = &mut self.lines[provider];
        young.taken.push_back((now, key));
        young.missing += 1;
        None
    }

    /// A receipt. Answers with its message, the first time that something final is said of it.
    pub(super) fn came(
        &mut self,
        provider: usize,
        name: &str,
        delivery: Delivery,
        now: Instant,
    ) -> Option<Message> {
        if delivery == Delivery::Unknown {
            return None;
        }
        let key = self.key(provider, name);
        self.age(provider, now);
        if let Some(pending) = self.forget(key) {
            return Some(pending.message);
        }
        while let Some((at, oldest)) = self.early_order.front().copied()
            && (now.saturating_duration_since(at) >= EARLY || self.early_order.len() >= EARLY_MAX)
        {
            self.early_order.pop_front();
            if self.early.get(&oldest).is_some_and(|(since, _)| *since == at) {
                self.early.remove(&oldest);
            }
        }
        self.early.insert(key, (now, delivery));
        self.early_order.push_back((now, key));
        None
    }

    /// The share of the messages of the last minute whose receipt is missing; `None` when there are too few of them, or receipts at all.
    pub(super) fn missing(&mut self, provider: usize, now: Instant) -> Option<f64> {
        self.age(provider, now);
        let young = &self.lines[provider];
        let taken = young.taken.len();
        (taken >= YOUNG_MIN).then(|| young.missing as f64 / taken as f64)
    }

    fn key(&self, provider: usize, name: &str) -> Key {
        Key(self.hasher.hash_one((provider, name)))
    }

    /// Its place in `order` stays, and is passed over when its turn comes.
    fn forget(&mut self, key: Key) -> Option<Pending> {
        let pending = self.pending.remove(&key)?;
        if pending.is_young {
            self.lines[pending.message.cell.0].missing -= 1;
        }
        Some(pending)
    }

    fn age(&mut self, provider: usize, now: Instant) {
        let young = &mut self.lines[provider];
        while let Some((at, key)) = young.taken.front().copied()
            && now.saturating_duration_since(at) >= YOUNG
        {
            young.taken.pop_front();
            if let Some(pending) = self.pending.get_mut(&key).filter(|pending| pending.message.taken_at == at)
            {
                let was_young = std::mem::replace(&mut pending.is_young, false);
                young.missing -= usize::from(was_young);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use spillway_store::verifications::Transport;

    use super::*;

    fn message(n: u8, taken_at: Instant) -> Message {
        Message {
            cell: (0, 49, Transport::Sms),
            session: VerificationId([n; 32]),
            taken_at,
            waited: Duration::ZERO,
        }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_receipt_counts_once_however_late() {
        let start = Instant::now();
        let mut receipts = Receipts::new(2);
        assert_eq!(receipts.taken("a", message(1, start), start), None);
        assert_eq!(receipts.came(0, "a", Delivery::Unknown, after(start, 1)), None, "on its way");
        assert_eq!(receipts.came(1, "a", Delivery::Arrived, after(start, 1)), None, "another provider's");
        let late = after(start, 7_200);
        assert_eq!(receipts.came(0, "a", Delivery::Arrived, late), Some(message(1, start)));
        assert_eq!(receipts.came(0, "a", Delivery::Failed, late), None, "twice");
    }

    #[test]
    fn a_receipt_may_come_before_the_answer() {
        let start = Instant::now();
        let mut receipts = Receipts::new(1);
        assert_eq!(receipts.came(0, "a", Delivery::Arrived, start), None);
        assert_eq!(receipts.taken("a", message(1, start), after(start, 1)), Some(Delivery::Arrived));
        // One of nobody is forgotten, and so it does not belong to a message of an hour later.
        assert_eq!(receipts.came(0, "b", Delivery::Failed, start), None);
        receipts.came(0, "c", Delivery::Failed, after(start, 40));
        assert_eq!(receipts.taken("b", message(2, start), after(start, 41)), None);
    }

    #[test]
    fn what_is_missing_of_the_last_minute_is_known() {
        let start = Instant::now();
        let mut receipts = Receipts::new(1);
        assert_eq!(receipts.missing(0, start), None);
        for n in 0..100 {
            let now = after(start, u64::from(n) / 2);
            receipts.taken(&n.to_string(), message(n, now), now);
        }
        for n in 0..40 {
            receipts.came(0, &n.to_string(), Delivery::Arrived, after(start, 50));
        }
        assert_eq!(receipts.missing(0, after(start, 50)), Some(0.6));
        assert_eq!(
            receipts.missing(0, after(start, 80)),
            Some(1.0),
            "those who came are older than a minute"
        );
        assert_eq!(receipts.missing(0, after(start, 200)), None);
    }

    proptest! {
        /// Whatever comes in whatever order, each message is answered for once at most, and the counts hold.
        #[test]
        fn no_order_of_receipts_counts_anything_twice(
            events in prop::collection::vec((any::<bool>(), 0u8..20, 0u8..3, 0u64..40), 1..200)
        ) {
            let start = Instant::now();
            let mut receipts = Receipts::new(1);
            let (mut now, mut open) = (start, std::collections::HashSet::new());
            for (is_taken, name, delivery, wait) in events {
                now += Duration::from_secs(wait);
                let delivery = [Delivery::Arrived, Delivery::Failed, Delivery::Unknown][usize::from(delivery)];
                if is_taken {
                    if receipts.taken(&name.to_string(), message(name, now), now).is_none() {
                        open.insert(name);
                    }
                } else if let Some(message) = receipts.came(0, &name.to_string(), delivery, now) {
                    prop_assert_eq!(message.session, VerificationId([name; 32]));
                    prop_assert!(open.remove(&name), "{} was answered for already", name);
                }
                let young = &receipts.lines[0];
                prop_assert!(young.missing <= young.taken.len());
                let missing = receipts.pending.values().filter(|pending| pending.is_young).count();
                prop_assert_eq!(young.missing, missing);
            }
        }
    }
}
