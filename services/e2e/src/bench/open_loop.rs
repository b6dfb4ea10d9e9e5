//! Operations at planned times, whether or not earlier ones were answered: the way to measure a latency at a low rate.

use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Times from the start of `operation(n)` to its end, in microseconds.
///
/// Not from the planned start: timers are late by up to a millisecond, which is as much as what is measured. At rates
/// that queue, that would hide how long operations wait for their start.
pub(crate) async fn times<F, Fut>(
    per_second: f64,
    duration: Duration,
    operation: F,
    times: &mut Histogram<u64>,
) -> Result<()>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let started = Instant::now();
    let mut operations = JoinSet::new();
    let mut record = |ended: Duration| times.saturating_record(ended.as_micros() as u64);
    for n in 0.. {
        let planned = Duration::from_secs_f64(f64::from(n) / per_second);
        if planned >= duration {
            break;
        }
        sleep_until(started + planned).await;
        let operation = operation(n as usize);
        operations.spawn(async move {
            let from = Instant::now();
            operation.await.map(|()| from.elapsed())
        });
        while let Some(ended) = operations.try_join_next() {
            record(ended??);
        }
    }
    while let Some(ended) = operations.join_next().await {
        record(ended??);
    }
    Ok(())
}
