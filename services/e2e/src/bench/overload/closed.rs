//! What the service can do: the rate of callers who each wait for their answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::offered::Ended;
use crate::bench::{CALLERS, Options};

/// Until what was begun has ended, and the controllers have forgotten it.
const CALM: Duration = Duration::from_secs(3);

/// Calls of `operation(n)` that are served a second.
pub(crate) async fn capacity<F, Fut>(options: &Options, what: &str, operation: F) -> Result<f64>
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Ended> + Send + 'static,
{
    let (operation, next) = (Arc::new(operation), Arc::new(AtomicU64::new(0)));
    let until = Instant::now() + options.window();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (operation, next) = (Arc::clone(&operation), Arc::clone(&next));
        callers.spawn(async move {
            let mut served = 0_u64;
            while Instant::now() < until {
                let n = next.fetch_add(1, Ordering::Relaxed);
                served += u64::from(operation(n).await == Ended::Served);
            }
            served
        });
    }
    let mut served = 0;
    while let Some(of_caller) = callers.join_next().await {
        served += of_caller?;
    }
    let capacity = served as f64 / options.window().as_secs_f64();
    eprintln!("capacity: {capacity:.0} {what} a second of {CALLERS} callers who wait for their answers");
    sleep(CALM).await;
    Ok(capacity)
}
