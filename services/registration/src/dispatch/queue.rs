//! Which code is handed over next. In memory, bounded, and no truth of its own.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use spillway_store::verifications::VerificationId;
use tokio::time::Instant;

use super::Wake;

/// A code whose turn it is.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) wake: Wake,
    /// Hand-overs that failed before.
    pub(super) attempts: u8,
}

/// How a hand-over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing is left to do for this session.
    Done,
    /// Another code is queued already.
    Again,
    /// It failed.
    Retry { pause: Duration },
    /// The provider takes nothing for a while, from anybody.
    Throttled { pause: Duration },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In `ready` or `later`.
    Waiting,
    Running {
        /// Woken meanwhile, so there may be more to do.
        woken: bool,
    },
}

#[derive(Debug)]
pub(super) struct Queue {
    known: HashMap<VerificationId, State>,
    ready: VecDeque<Wake>,
    later: BTreeMap<(Instant, VerificationId), u8>,
    paused_until: Option<Instant>,
    known_max: usize,
    pause_max: Duration,
}

impl Queue {
    pub(super) fn new(known_max: usize, pause_max: Duration) -> Self {
        Self {
            known: HashMap::new(),
            ready: VecDeque::new(),
            later: BTreeMap::new(),
            paused_until: None,
            known_max,
            pause_max,
        }
    }

    /// Adds a session that is not known yet. When there is no room, it stays in the store alone.
    pub(super) fn push(&mut self, wake: Wake) {
        let has_room = self.known.len() < self.known_max;
        match self.known.get_mut(&wake.id) {
            Some(State::Waiting) => {}
            Some(State::Running { woken }) => *woken = true,
            None if has_room => {
                self.known.insert(wake.id, State::Waiting);
                self.ready.push_back(wake);
            }
            None => {}
        }
    }

    pub(super) fn next(&mut self, now: Instant) -> Option<Next> {
        if self.paused_until.is_some_and(|until| until > now) {
            return None;
        }
        self.paused_until = None;
        let next = match self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            Some(entry) => {
                let ((_, id), attempts) = entry.remove_entry();
                Next { wake: Wake { id, number: None }, attempts }
            }
            None => Next { wake: self.ready.pop_front()?, attempts: 0 },
        };
        self.known.insert(next.wake.id, State::Running { woken: false });
        Some(next)
    }

    /// When `next`, which had nothing, has something again without a push. `None`: not before a push.
    pub(super) fn due(&self) -> Option<Instant> {
        let retry = self.later.first_key_value().map(|((at, _), _)| *at);
        match self.paused_until {
            Some(until) if !self.ready.is_empty() => Some(until),
            Some(until) => retry.map(|at| at.max(until)),
            None => retry,
        }
    }

    pub(super) fn settle(&mut self, id: VerificationId, attempts: u8, outcome: Outcome, now: Instant) {
        let woken = self.known.get(&id) == Some(&State::Running { woken: true });
        match outcome {
            Outcome::Done if !woken => {
                self.known.remove(&id);
            }
            Outcome::Done | Outcome::Again => {
                self.known.insert(id, State::Waiting);
                self.ready.push_back(Wake { id, number: None });
            }
            Outcome::Retry { pause } => self.postpone(id, now + pause, attempts.saturating_add(1)),
            Outcome::Throttled { pause } => {
                let until = now + pause.min(self.pause_max);
                self.paused_until = self.paused_until.max(Some(until));
                self.postpone(id, until, attempts);
            }
        }
    }

    fn postpone(&mut self, id: VerificationId, until: Instant, attempts: u8) {
        self.known.insert(id, State::Waiting);
        self.later.insert((until, id), attempts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(2);

    fn id(n: u8) -> VerificationId {
        VerificationId([n; 32])
    }

    fn wake(n: u8) -> Wake {
        Wake { id: id(n), number: None }
    }

    fn queue() -> Queue {
        Queue::new(3, Duration::from_secs(30))
    }

    fn next(queue: &mut Queue, now: Instant) -> Option<u8> {
        queue.next(now).map(|next| next.wake.id.0[0])
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_handed_over_once_at_a_time() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.push(wake(1));
        queue.push(wake(1));
        assert_eq!(next(&mut queue, now), Some(1));
        assert_eq!(next(&mut queue, now), None);
        queue.push(wake(1));
        assert_eq!(next(&mut queue, now), None, "it is running");
        queue.settle(id(1), 0, Outcome::Done, now);
        assert_eq!(next(&mut queue, now), Some(1), "it was woken meanwhile");
        queue.settle(id(1), 0, Outcome::Done, now);
        assert_eq!(next(&mut queue, now), None);
        assert!(queue.known.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_stays_in_the_store() {
        let (mut queue, now) = (queue(), Instant::now());
        (1..=5).for_each(|n| queue.push(wake(n)));
        let order: Vec<_> = std::iter::from_fn(|| next(&mut queue, now)).collect();
        assert_eq!(order, [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_waits_and_others_do_not() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.push(wake(1));
        assert_eq!(next(&mut queue, now), Some(1));
        queue.settle(id(1), 0, Outcome::Retry { pause: PAUSE }, now);
        queue.push(wake(1));
        queue.push(wake(2));
        assert_eq!(next(&mut queue, now), Some(2));
        assert_eq!(next(&mut queue, now), None, "its pause runs, although it was woken");
        assert_eq!(queue.due(), Some(now + PAUSE));
        let again = queue.next(now + PAUSE).unwrap();
        assert_eq!((again.wake.id, again.attempts), (id(1), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_provider_pauses_all_and_costs_no_attempt() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.push(wake(1));
        queue.push(wake(2));
        assert_eq!(next(&mut queue, now), Some(1));
        queue.settle(id(1), 4, Outcome::Throttled { pause: PAUSE }, now);
        assert_eq!(next(&mut queue, now), None);
        assert_eq!(queue.due(), Some(now + PAUSE));
        let again = queue.next(now + PAUSE).unwrap();
        assert_eq!((again.wake.id, again.attempts), (id(1), 4));
        assert_eq!(next(&mut queue, now + PAUSE), Some(2));
    }
}
