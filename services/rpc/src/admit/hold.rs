//! Refusals that are kept for a while from callers who came back before they were told to.
//!
//! A caller who listens costs nothing while he waits. One who asks again at once costs a refusal each time, and reading and
//! answering his calls is most of what a refusal costs. Kept back, a caller who waits for his answer asks every two seconds
//! ([`HOLD_MAX`](spillway_admission::HOLD_MAX)) and not at every round trip. His connection is read all the same: one that is
//! not would keep back what is admitted as well, and a service whose callers are all deaf would have nothing to do.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use spillway_admission::Deaf;
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

    /// A call is refused and its caller told to come back in `pause`. `left`: until its deadline.
    pub(super) fn refused(
        &self,
        class: Class,
        now: Duration,
        pause: Duration,
        left: Duration,
    ) -> Option<Hold> {
        let lasts = self.deaf.refused(class.user, class.level.tier(), now, pause, left)?;
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
        let refused_at = |user, now| holds.refused(class(user), now, 5 * SECOND, 10 * SECOND);
        assert!(refused_at(1, SECOND).is_none(), "he did not know");
        let refused = |user| refused_at(user, 2 * SECOND);
        let began = tokio::time::Instant::now();
        refused(1).expect("he was told").await;
        assert_eq!(began.elapsed(), spillway_admission::HOLD_MAX);
        let held: Vec<_> = (0..HELD_MAX).map(|_| refused(1).expect("there is room")).collect();
        assert!(refused(1).is_none(), "no room");
        drop(held);
        assert_eq!(holds.held.load(Relaxed), 0);
        assert!(refused(1).is_some());
    }
}
