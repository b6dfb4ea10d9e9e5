//! Refusals that are kept for a while from callers who came back before they were told to.
//!
//! A caller who listens costs nothing while he waits. One who asks again at once costs a refusal each time, and reading and
//! answering his calls is most of what a refusal costs. So his connection is not read for a while
//! ([`Quiet`](crate::server::Quiet)). Where that would keep others from being heard, and when what refused him was a moment's queue and
//! not his place in the order, in which case the connections of all would fall silent together, his answer is kept back
//! instead: who waits for it asks every two seconds ([`HOLD_MAX`](spillway_admission::HOLD_MAX)), and not at every round trip.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use spillway_admission::{Deaf, Pauses, held_for};
use tokio::time::Sleep;

use super::Class;

/// 512 KiB. Whoever is forgotten is answered at once, and remembered again.
const PLACES: usize = 1 << 16;

/// A held call is an HTTP/2 stream and its task, some kB: some 10 MB. Those above are answered at once.
const HELD_MAX: usize = 1 << 14;

#[derive(Debug)]
pub(super) struct Holds {
    deaf: Deaf,
    held: Arc<AtomicUsize>,
}

/// The answer is due when it ends.
pub(super) struct Hold {
    lasts: Duration,
    until: Pin<Box<Sleep>>,
    held: Arc<AtomicUsize>,
}

impl Holds {
    pub(super) fn new() -> Self {
        Self { deaf: Deaf::new(PLACES), held: Arc::default() }
    }

    /// A call is refused. When its caller came before he was told to: how much before.
    pub(super) fn early(&self, class: Class, now: Duration, pauses: Pauses) -> Option<Duration> {
        self.deaf.refused(class.user, class.level.tier(), now, pauses)
    }

    /// Keeps the refusal of who was so `early` back for a while, if there is room. `left`: until his deadline.
    pub(super) fn hold(&self, early: Duration, left: Duration) -> Option<Hold> {
        let lasts = held_for(early, left);
        if self.held.fetch_add(1, Relaxed) >= HELD_MAX {
            self.held.fetch_sub(1, Relaxed);
            return None;
        }
        let (until, held) = (Box::pin(tokio::time::sleep(lasts)), Arc::clone(&self.held));
        Some(Hold { lasts, until, held })
    }
}

impl Hold {
    pub(super) const fn lasts(&self) -> Duration {
        self.lasts
    }
}

impl Future for Hold {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.until.as_mut().poll(cx)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use spillway_admission::{Level, Tier, User};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn who_comes_too_early_waits_and_no_more_than_can_be_held() {
        let holds = Holds::new();
        let class = |user| Class { level: Level::new(Tier::Send, 0), user: User(user) };
        let pauses = Pauses { others: 5 * SECOND, same: 5 * SECOND };
        let early = |user, now| holds.early(class(user), now, pauses);
        assert!(early(1, SECOND / 4).is_none(), "he did not know");
        assert!(early(1, SECOND).is_none(), "he asks whether it is over");
        assert_eq!(early(1, 2 * SECOND), Some(4 * SECOND));
        let began = tokio::time::Instant::now();
        holds.hold(4 * SECOND, 10 * SECOND).expect("there is room").await;
        assert_eq!(began.elapsed(), spillway_admission::HOLD_MAX);
        let held: Vec<_> =
            (0..HELD_MAX).map(|_| holds.hold(SECOND, 10 * SECOND).expect("there is room")).collect();
        assert!(holds.hold(SECOND, 10 * SECOND).is_none(), "no room");
        drop(held);
        assert_eq!(holds.held.load(Relaxed), 0);
        assert!(holds.hold(SECOND, 10 * SECOND).is_some());
    }
}
