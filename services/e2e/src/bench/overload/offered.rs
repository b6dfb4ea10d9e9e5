//! Calls at planned times, whatever becomes of earlier ones, and what became of each.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use tokio::time::{Instant, interval};
use tokio_util::task::TaskTracker;

/// Arrivals are started in ticks of one millisecond.
const TICK: Duration = Duration::from_millis(1);
/// Calls that are open at once at most: more would be a fault of the generator.
const OPEN_MAX: usize = 200_000;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Served,
    /// The service said that it does not want it now, or had said so before.
    Refused,
    Failed,
}

/// A call: when it was due since the start, how long after that it had ended, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) due: Duration,
    pub(crate) response: Duration,
    pub(crate) ended: Ended,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Offered {
    pub(crate) calls: Vec<Call>,
    /// How late calls were started, at the 99th percentile.
    pub(crate) lag_p99: Duration,
}

/// Offers `per_second` calls of `operation(n)` for so long, and waits for all of them.
pub(crate) async fn offer<F, Fut>(per_second: f64, duration: Duration, operation: F) -> Result<Offered>
where
    F: Fn(u64) -> Fut,
    Fut: Future<Output = Ended> + Send + 'static,
{
    let calls = Arc::new(Mutex::new(Vec::with_capacity((per_second * duration.as_secs_f64()) as usize + 1)));
    let mut lags = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
    let open = TaskTracker::new();
    let started = Instant::now();
    let mut ticks = interval(TICK);
    let mut n = 0_u64;
    loop {
        ticks.tick().await;
        let elapsed = started.elapsed();
        let due_by_now = (elapsed.min(duration).as_secs_f64() * per_second) as u64;
        while n < due_by_now {
            let due = Duration::from_secs_f64(n as f64 / per_second);
            lags.saturating_record((started.elapsed().saturating_sub(due).as_micros() as u64).max(1));
            let (work, calls) = (operation(n), Arc::clone(&calls));
            open.spawn(async move {
                let ended = work.await;
                let response = started.elapsed().saturating_sub(due);
                lock(&calls).push(Call { due, response, ended });
            });
            n += 1;
        }
        ensure!(open.len() < OPEN_MAX, "more than {OPEN_MAX} calls are open: nothing ends any more");
        if elapsed >= duration {
            break;
        }
    }
    open.close();
    open.wait().await;
    let calls = std::mem::take(&mut *lock(&calls));
    Ok(Offered { calls, lag_p99: Duration::from_micros(lags.value_at_quantile(0.99)) })
}

impl Offered {
    /// Calls a second that were served within `objective` of when they were due, of those due from `from` on.
    pub(crate) fn goodput(&self, from: Duration, until: Duration, objective: Duration) -> f64 {
        let good = |call: &&Call| call.ended == Ended::Served && call.response <= objective;
        let due = self.calls.iter().filter(|call| call.due >= from && call.due < until);
        due.filter(good).count() as f64 / until.saturating_sub(from).as_secs_f64()
    }

    pub(crate) fn count(&self, ended: Ended) -> usize {
        self.calls.iter().filter(|call| call.ended == ended).count()
    }

    /// The share of calls that were served, of those due between.
    pub(crate) fn success(&self, from: Duration, until: Duration) -> f64 {
        let due: Vec<_> = self.calls.iter().filter(|call| call.due >= from && call.due < until).collect();
        let served = due.iter().filter(|call| call.ended == Ended::Served).count();
        served as f64 / due.len().max(1) as f64
    }

    /// Of those served, of those due between.
    pub(crate) fn p99(&self, from: Duration, until: Duration) -> Duration {
        let mut responses: Vec<_> = self
            .calls
            .iter()
            .filter(|call| call.due >= from && call.due < until && call.ended == Ended::Served)
            .map(|call| call.response)
            .collect();
        responses.sort_unstable();
        responses.get((responses.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
