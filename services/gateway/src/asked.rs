//! Which numbers an account has asked about, so that asking again costs nothing.
//!
//! An address book of 500 that is compared each day would else empty a bucket that refills with 144 a day. What is
//! remembered are bits of Bloom filters, set by a hash of account and number under a key of this process: nobody can read
//! out of it who asked about whom. A filter that says yes too often gives one new number in a hundred away for nothing,
//! which is of no use to a scraper.
//!
//! There are two: the present one, and the one before. A pair is remembered for as long as one of them is in use
//! ([`DiscoverConfig::remembered_for`](crate::DiscoverConfig)) and for up to as long again, unless so many come that they
//! are full before; then it is forgotten sooner, and costs a permit again. So a crowd can make others pay, and nobody can
//! make room for himself.

mod filter;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use spillway_types::AccountId;
use tokio::time::Instant;

use crate::config::DiscoverConfig;
use filter::Filter;

/// The first one has room for so many; 98 kB.
const ROOM_MIN: usize = 1 << 16;
/// By which one is larger than the one that was full too early.
const GROWTH: usize = 4;

#[derive(Debug)]
pub(crate) struct Asked {
    config: DiscoverConfig,
    hasher: RandomState,
    generations: ArcSwap<Generations>,
    /// Who changes them.
    changing: Mutex<()>,
}

#[derive(Debug)]
struct Generations {
    present: Arc<Generation>,
    before: Option<Arc<Generation>>,
}

#[derive(Debug)]
struct Generation {
    keys: Filter,
    room: usize,
    held: AtomicUsize,
    began: Instant,
}

/// The numbers of one call, hashed.
#[derive(Debug)]
pub(crate) struct Question(Vec<u64>);

impl Asked {
    pub(crate) fn new(config: &DiscoverConfig) -> Self {
        let present = Arc::new(Generation::new(ROOM_MIN.min(config.remembered_max)));
        Self {
            config: config.clone(),
            hasher: RandomState::new(),
            generations: ArcSwap::from_pointee(Generations { present, before: None }),
            changing: Mutex::default(),
        }
    }

    /// The question, and how many of its numbers this account has not asked about before. One that is in it twice counts
    /// once.
    pub(crate) fn question(&self, account: AccountId, numbers: &[String]) -> (Question, usize) {
        let question: Vec<_> = numbers.iter().map(|number| self.hasher.hash_one((account, number))).collect();
        let generations = self.generations.load();
        let mut new: Vec<_> = question.iter().copied().filter(|hash| !generations.have(*hash)).collect();
        new.sort_unstable();
        new.dedup();
        (Question(question), new.len())
    }

    /// To be called when the new ones have been paid for.
    pub(crate) fn remember(&self, question: &Question) {
        let mut generations = self.generations.load_full();
        if generations.present.is_over(&self.config) {
            generations = self.next();
        }
        for hash in &question.0 {
            if generations.present.is_full() {
                generations = self.next();
            }
            // Also what only the one before has: who goes on asking goes on being remembered.
            let present = &generations.present;
            if present.keys.insert(*hash) {
                present.held.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn next(&self) -> Arc<Generations> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let generations = self.generations.load_full();
        let present = &generations.present;
        if !present.is_over(&self.config) {
            // Somebody else was first.
            return generations;
        }
        let held = present.held.load(Ordering::Relaxed);
        let room = if present.is_full() { present.room.saturating_mul(GROWTH) } else { 2 * held };
        let next = Generation::new(room.max(ROOM_MIN).min(self.config.remembered_max));
        let next = Arc::new(Generations { present: Arc::new(next), before: Some(Arc::clone(present)) });
        self.generations.store(Arc::clone(&next));
        next
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        let generations = self.generations.load();
        let before = generations.before.as_ref().map_or(0, |before| before.keys.bytes());
        generations.present.keys.bytes() + before
    }
}

impl Generations {
    fn have(&self, hash: u64) -> bool {
        self.present.keys.has(hash) || self.before.as_ref().is_some_and(|before| before.keys.has(hash))
    }
}

impl Generation {
    fn new(room: usize) -> Self {
        Self { keys: Filter::with_room_for(room), room, held: AtomicUsize::new(0), began: Instant::now() }
    }

    fn is_full(&self) -> bool {
        self.held.load(Ordering::Relaxed) >= self.room
    }

    fn is_over(&self, config: &DiscoverConfig) -> bool {
        self.is_full() || self.began.elapsed() >= config.remembered_for
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn book(from: u64, count: u64) -> Vec<String> {
        (from..from + count).map(|n| format!("+49{n:010}")).collect()
    }

    impl Asked {
        /// How many cost something.
        fn ask(&self, account: AccountId, numbers: &[String]) -> usize {
            let (question, new) = self.question(account, numbers);
            self.remember(&question);
            new
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_costs_once_and_each_account_for_itself() {
        let asked = Asked::new(&DiscoverConfig::default());
        let [alice, bob] = [(); 2].map(|()| AccountId::random());
        let numbers = book(0, 100);
        assert_eq!(asked.ask(alice, &numbers), 100);
        assert_eq!(asked.ask(alice, &numbers), 0);
        assert_eq!(asked.ask(alice, &book(90, 20)), 10);
        assert_eq!(asked.ask(bob, &numbers), 100);
        assert_eq!(asked.ask(bob, &vec!["+49".to_owned(); 50]), 1, "twice in a call is once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_paid_for_is_not_remembered() {
        let asked = Asked::new(&DiscoverConfig::default());
        let alice = AccountId::random();
        for _ in 0..3 {
            assert_eq!(asked.question(alice, &book(0, 10)).1, 10);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_remembered_for_a_day_and_forgotten_after_two() {
        let asked = Asked::new(&DiscoverConfig::default());
        let [alice, bob, other] = [(); 3].map(|()| AccountId::random());
        tokio::time::advance(DAY / 2).await;
        asked.ask(alice, &book(0, 10));
        asked.ask(bob, &book(0, 10));
        for _ in 0..4 {
            tokio::time::advance(DAY - Duration::from_secs(1)).await;
            asked.ask(other, &book(0, 1));
            assert_eq!(asked.ask(alice, &book(0, 10)), 0, "she asks each day");
        }
        assert_eq!(asked.ask(bob, &book(0, 10)), 10, "he did not");
    }

    #[tokio::test(start_paused = true)]
    async fn it_grows_and_forgets_early_and_stays_within_its_memory() {
        const MAX: usize = 1 << 18;
        let asked = Asked::new(&DiscoverConfig { remembered_max: MAX, remembered_for: DAY });
        let scrapers: Vec<_> = (0..40).map(|_| AccountId::random()).collect();
        let honest = AccountId::random();
        assert_eq!(asked.ask(honest, &book(0, 500)), 500);
        assert!(asked.bytes() < 100_000, "{} bytes at rest", asked.bytes());
        // Two million numbers, 50,000 by each account.
        let mut given_away = 0;
        for (index, scraper) in scrapers.iter().enumerate() {
            for part in 0..50 {
                let numbers = book(1_000_000 + 50_000 * index as u64 + 1_000 * part, 1_000);
                given_away += 1_000 - asked.ask(*scraper, &numbers);
            }
            assert!(asked.bytes() <= 3 * MAX, "{} bytes", asked.bytes());
        }
        assert!(given_away < 20_000, "{given_away} of two million cost nothing");
        let again = asked.ask(honest, &book(0, 500));
        assert!(again > 450, "forgotten, so it is paid for again: {again}");
    }
}
