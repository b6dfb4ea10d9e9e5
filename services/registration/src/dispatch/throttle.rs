use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Until when no provider takes anything from this process.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<Option<Instant>>);

impl Throttle {
    /// A pause that runs already may become longer, not shorter.
    pub(super) fn pause(&self, pause: Duration) {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(Some(Instant::now() + pause));
    }

    /// How long it still takes nothing.
    pub(super) fn left(&self) -> Option<Duration> {
        let until = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Waits until the pause, and what was added to it meanwhile, is over.
    pub(super) async fn passed(&self) {
        while let Some(left) = self.left() {
            sleep_until(Instant::now() + left).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_pause_counts() {
        let throttle = Throttle::default();
        assert_eq!(throttle.left(), None);
        throttle.pause(Duration::from_secs(5));
        throttle.pause(Duration::from_secs(2));
        assert_eq!(throttle.left(), Some(Duration::from_secs(5)));
        let started = Instant::now();
        throttle.passed().await;
        assert_eq!((started.elapsed(), throttle.left()), (Duration::from_secs(5), None));
    }
}
