//! What keeps rude clients from being more than the load tool can be.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{
    Cohort, connect_and_idle, contact_scraper, hot_loop, multi_login, oversize, rst_stream_flood, wrong_otp,
};

/// No cohort asks more often than this a second, all its members together, unless it says less.
///
/// A loop in one process must leave room for those whose answers are measured.
const PER_S_MAX: f64 = 2_000.0;

/// Most a second of a whole cohort.
pub(crate) fn rate_max(cohort: Cohort) -> f64 {
    match cohort {
        Cohort::HotLoop => hot_loop::PER_S_MAX,
        Cohort::Oversize => oversize::PER_S_MAX,
        Cohort::ConnectAndIdle => connect_and_idle::PER_S_MAX,
        Cohort::RstStreamFlood => rst_stream_flood::PER_S_MAX,
        Cohort::MultiLogin => multi_login::PER_S_MAX,
        Cohort::WrongOtp => wrong_otp::PER_S_MAX,
        Cohort::ContactScraper => contact_scraper::PER_S_MAX,
        _ => PER_S_MAX,
    }
}

/// A rate that a whole cohort keeps to. Who comes when it is used up waits for a turn; turns are not saved up.
#[derive(Debug)]
pub(crate) struct Ceiling {
    every: Duration,
    next: Mutex<Option<Instant>>,
}

impl Ceiling {
    /// Of those members who live here: `share` of the whole cohort.
    pub(super) fn of(cohort: Cohort, share: f64) -> Self {
        Self::per_s(rate_max(cohort) * share)
    }

    pub(super) fn per_s(rate: f64) -> Self {
        Self { every: Duration::from_secs_f64(1.0 / rate), next: Mutex::new(None) }
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self) {
        sleep_until(self.take(Instant::now())).await;
    }

    /// When the turn of somebody who comes now is.
    fn take(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.unwrap_or(now).max(now);
        *next = Some(turn + self.every);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_never_closer_than_the_rate_and_not_saved_up() {
        let ceiling = Ceiling::per_s(10.0);
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(5)).await;
        for _ in 0..20 {
            ceiling.turn().await;
        }
        let took = began.elapsed() - Duration::from_secs(5);
        assert!((1.85..2.0).contains(&took.as_secs_f64()), "{took:?}");
    }
}
