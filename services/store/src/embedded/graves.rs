//! Which messages were deleted lately.
//!
//! A repeated insert may arrive after the message was stored, delivered and deleted; without this it would come back
//! to life. Memory is enough, though it forgets at a restart: one process holds the store and every gateway that
//! could repeat an insert, so all repeats end with it.
//!
//! The number of entries is bounded. Past the bound the oldest are forgotten early, which can cost a second delivery
//! of a message, never a loss; the receiver drops it by its guid.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use spillway_types::{Clock, MailboxId, MessageId, Timestamp};

use crate::mailboxes::GRAVE;

/// 17,000 deletes a second for [`GRAVE`]; some 50 MB at worst.
const GRAVES_MAX: usize = 1 << 20;
/// Entries are forgotten together, this many generations to a [`GRAVE`].
const GENERATIONS: u32 = 6;

#[derive(Debug)]
pub(super) struct Graves {
    clock: Arc<dyn Clock>,
    /// Oldest first.
    generations: VecDeque<Generation>,
    per_generation_max: usize,
}

#[derive(Debug)]
struct Generation {
    since: Timestamp,
    dead: HashSet<(MailboxId, MessageId)>,
}

impl Graves {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self::bounded(clock, GRAVES_MAX)
    }

    fn bounded(clock: Arc<dyn Clock>, graves_max: usize) -> Self {
        let per_generation_max = (graves_max / GENERATIONS as usize).max(1);
        Self { clock, generations: VecDeque::new(), per_generation_max }
    }

    pub(super) fn dig(&mut self, mailbox: MailboxId, message: MessageId) {
        let now = self.clock.now();
        self.forget(now);
        let newest = self.generations.back();
        let is_open = newest.is_some_and(|newest| {
            now.since(newest.since) < GRAVE / GENERATIONS && newest.dead.len() < self.per_generation_max
        });
        if !is_open {
            self.generations.push_back(Generation { since: now, dead: HashSet::new() });
            // One more than fit in a GRAVE, because the newest is only begun.
            if self.generations.len() > GENERATIONS as usize + 1 {
                self.generations.pop_front();
            }
        }
        if let Some(newest) = self.generations.back_mut() {
            newest.dead.insert((mailbox, message));
        }
    }

    pub(super) fn is_dead(&mut self, mailbox: MailboxId, message: MessageId) -> bool {
        if self.generations.is_empty() {
            return false;
        }
        self.forget(self.clock.now());
        self.generations.iter().any(|generation| generation.dead.contains(&(mailbox, message)))
    }

    /// A generation takes in graves for a sixth of [`GRAVE`] and is kept for a whole one after that.
    fn forget(&mut self, now: Timestamp) {
        const KEPT: Duration =
            GRAVE.saturating_add(Duration::from_secs(GRAVE.as_secs() / GENERATIONS as u64));
        while self.generations.front().is_some_and(|oldest| now.since(oldest.since) > KEPT) {
            self.generations.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use spillway_types::{MessageIdGenerator, TestClock};

    use super::*;

    fn message(clock: &TestClock) -> MessageId {
        MessageIdGenerator::new(Arc::new(clock.clone())).mint()
    }

    #[test]
    fn the_dead_stay_dead_for_the_whole_time_and_are_then_forgotten() {
        let clock = TestClock::default();
        let mut graves = Graves::new(Arc::new(clock.clone()));
        let mailbox = MailboxId::random();
        let mut dead = Vec::new();
        for _ in 0..40 {
            let id = message(&clock);
            graves.dig(mailbox, id);
            dead.push((clock.now(), id));
            clock.advance(Duration::from_secs(3));
            for (since, id) in &dead {
                let age = clock.now().since(*since);
                if age <= GRAVE {
                    assert!(graves.is_dead(mailbox, *id), "forgotten after {age:?}");
                } else if age > GRAVE * 2 {
                    assert!(!graves.is_dead(mailbox, *id), "kept for {age:?}");
                }
            }
        }
    }

    #[test]
    fn a_grave_is_of_one_mailbox() {
        let clock = TestClock::default();
        let mut graves = Graves::new(Arc::new(clock.clone()));
        let id = message(&clock);
        graves.dig(MailboxId::random(), id);
        assert!(!graves.is_dead(MailboxId::random(), id));
    }

    #[test]
    fn the_oldest_are_forgotten_when_there_are_too_many() {
        let clock = TestClock::default();
        let ids = MessageIdGenerator::new(Arc::new(clock.clone()));
        let mut graves = Graves::bounded(Arc::new(clock), 600);
        let mailbox = MailboxId::random();
        let dead: Vec<_> = (0..10_000).map(|_| ids.mint()).collect();
        for id in &dead {
            graves.dig(mailbox, *id);
        }
        assert!(!graves.is_dead(mailbox, dead[0]));
        assert!(graves.is_dead(mailbox, dead[9_999]));
        let kept: usize = graves.generations.iter().map(|generation| generation.dead.len()).sum();
        assert!(kept <= 700, "{kept} graves are kept");
    }
}
