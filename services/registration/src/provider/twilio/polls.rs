//! Which messages are to be asked about, and when.
//!
//! Twilio would call a public address of ours for each change (`StatusCallback`), which a registration process does not have. So some
//! messages are asked about, one after the other: as many as there is time for, which is plenty to see how a country does. A message is asked about after a while,
//! and after twice as long each time, so a delay is known to within a factor of two.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Messages that are followed at the same time. While there are as many, others are not.
const FOLLOWED_MAX: usize = 1_024;
/// With the usual two seconds the last time is after four minutes.
const TIMES_MAX: u32 = 7;

#[derive(Debug)]
pub(super) struct Polls {
    due: Mutex<BinaryHeap<Reverse<Poll>>>,
    added: Notify,
    first_after: Duration,
}

/// The next time to ask about a message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Poll {
    at: Instant,
    times: u32,
    pub(super) sid: String,
}

impl Polls {
    pub(super) fn new(first_after: Duration) -> Self {
        Self { due: Mutex::default(), added: Notify::new(), first_after }
    }

    /// Whether the message is followed.
    pub(super) fn follow(&self, sid: &str) -> bool {
        let mut due = self.due();
        if due.len() >= FOLLOWED_MAX {
            return false;
        }
        due.push(Reverse(Poll { at: Instant::now() + self.first_after, times: 1, sid: sid.to_owned() }));
        drop(due);
        self.added.notify_one();
        true
    }

    /// Nothing final was heard: again later, or never.
    pub(super) fn again(&self, poll: Poll) {
        if poll.times < TIMES_MAX {
            let at = Instant::now() + self.first_after * (1 << poll.times);
            self.due().push(Reverse(Poll { at, times: poll.times + 1, ..poll }));
        }
    }

    /// The next message, when it is time.
    pub(super) async fn next(&self) -> Poll {
        loop {
            let at = self.due().peek().map(|Reverse(poll)| poll.at);
            match at {
                Some(at) if at <= Instant::now() => {
                    if let Some(Reverse(poll)) = self.due().pop() {
                        return poll;
                    }
                }
                Some(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.added.notified() => {}
                },
                None => self.added.notified().await,
            }
        }
    }

    fn due(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Poll>>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_message_is_asked_about_at_longer_and_longer_intervals_and_then_given_up() {
        let polls = Polls::new(Duration::from_secs(2));
        let start = Instant::now();
        assert!(polls.follow("a"));
        let mut at = Vec::new();
        while let Ok(poll) = tokio::time::timeout(Duration::from_secs(600), polls.next()).await {
            at.push(start.elapsed().as_secs());
            polls.again(poll);
        }
        assert_eq!(at, [2, 6, 14, 30, 62, 126, 254]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_nothing_is_due_is_seen_and_there_is_a_bound() {
        let polls = Polls::new(Duration::from_secs(2));
        let (next, ()) = tokio::join!(polls.next(), async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(polls.follow("a"));
        });
        assert_eq!(next.sid, "a");
        let followed = (0..2_000).filter(|n| polls.follow(&n.to_string())).count();
        assert_eq!(followed, FOLLOWED_MAX);
    }
}
