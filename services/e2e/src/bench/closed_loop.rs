//! Callers that each wait for their answer before they ask again: the way to measure a rate, not a latency.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::task::JoinSet;
use tokio::time::Instant;

use surge::observe::Proc;

/// What one server did in one window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    /// CPU time of the server (user and system) for each operation, in microseconds.
    pub(crate) cpu_us: f64,
}

/// Runs `callers` loops of `operation(caller, n)` for a warm-up and then three windows; the median by rate counts.
pub(crate) async fn measure<F, Fut>(
    server: u32,
    callers: usize,
    window: Duration,
    operation: F,
) -> Result<Rate>
where
    F: Fn(usize, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let done = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let operation = Arc::new(operation);
    let mut loops = JoinSet::new();
    for caller in 0..callers {
        let (done, stop, operation) = (done.clone(), stop.clone(), operation.clone());
        loops.spawn(async move {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                operation(caller, n).await?;
                n += 1;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    let mut rates = Vec::new();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..3 {
        rates.push(one_window(server, window, &done).await?);
        if let Some(ended) = loops.try_join_next() {
            ended??;
            return Err(anyhow!("a caller ended before the measurement did"));
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = loops.join_next().await {
        ended??;
    }
    rates.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    Ok(rates[1])
}

async fn one_window(server: u32, window: Duration, done: &AtomicU64) -> Result<Rate> {
    let (before, cpu_before, from) =
        (done.load(Ordering::Relaxed), Proc::default().process(server)?, Instant::now());
    tokio::time::sleep(window).await;
    let (after, cpu_after, elapsed) =
        (done.load(Ordering::Relaxed), Proc::default().process(server)?, from.elapsed());
    let operations = (after - before).max(1) as f64;
    Ok(Rate {
        per_second: operations / elapsed.as_secs_f64(),
        cpu_us: (cpu_after.cpu_us - cpu_before.cpu_us) as f64 / operations,
    })
}
