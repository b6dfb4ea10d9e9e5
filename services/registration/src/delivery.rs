//! How long codes take at present, measured.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Enough for a 90th percentile, few enough that a change shows within a minute at 4 codes a second.
const SAMPLES: usize = 256;
/// An older delay says nothing about the present.
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(600);
/// Sorting the samples for every answer would cost more than the answer.
const REFRESH_EVERY: usize = 32;
/// An estimate is no older than this, however few codes there are.
const REFRESH_AFTER: Duration = Duration::from_secs(1);

/// The delay that nine of ten codes stay within, from request to phone as far as the provider tells: the time in the
/// queue, the call to the provider, and the delivery delay it reports.
#[derive(Debug, Default)]
pub(crate) struct DeliveryDelay(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    samples: VecDeque<(Instant, Duration)>,
    estimate: Option<Duration>,
    refreshed_at: Option<Instant>,
    since_refresh: usize,
}

impl DeliveryDelay {
    pub(crate) fn record(&self, delay: Duration) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.samples.len() == SAMPLES {
            window.samples.pop_front();
        }
        window.samples.push_back((Instant::now(), delay));
        window.since_refresh += 1;
    }

    /// `None` while nothing is known.
    pub(crate) fn estimate(&self) -> Option<Duration> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let stale = window.refreshed_at.is_none_or(|at| now.duration_since(at) >= REFRESH_AFTER);
        if stale || window.since_refresh >= REFRESH_EVERY || window.estimate.is_none() {
            window.refresh(now);
        }
        window.estimate
    }
}

impl Window {
    fn refresh(&mut self, now: Instant) {
        while self.samples.front().is_some_and(|(at, _)| now.duration_since(*at) > SAMPLE_AGE_MAX) {
            self.samples.pop_front();
        }
        let mut delays: Vec<Duration> = self.samples.iter().map(|(_, delay)| *delay).collect();
        delays.sort_unstable();
        // Nearest rank: the smallest delay that at least nine of ten samples do not exceed.
        let rank = (delays.len() * 9).div_ceil(10);
        self.estimate = rank.checked_sub(1).and_then(|index| delays.get(index).copied());
        self.refreshed_at = Some(now);
        self.since_refresh = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nine_of_ten_are_within_the_estimate() {
        let delay = DeliveryDelay::default();
        assert_eq!(delay.estimate(), None);
        (1..=100).for_each(|second| delay.record(Duration::from_secs(second)));
        assert_eq!(delay.estimate(), Some(Duration::from_secs(90)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_past_is_forgotten() {
        let delay = DeliveryDelay::default();
        delay.record(Duration::from_secs(60));
        assert_eq!(delay.estimate(), Some(Duration::from_secs(60)));
        tokio::time::advance(SAMPLE_AGE_MAX + Duration::from_secs(1)).await;
        assert_eq!(delay.estimate(), None);
        delay.record(Duration::from_secs(1));
        assert_eq!(delay.estimate(), Some(Duration::from_secs(1)));
    }
}
