//! Callers that each wait for their answer before they ask again: the way to measure a rate, not a latency.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use surge::observe::Proc;

use super::CALLERS;

const WARM_UP: Duration = Duration::from_secs(1);
/// Windows of a figure; the median of them counts.
const WINDOWS: usize = 3;

/// What one server did in one window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    /// CPU time of the server (user and system) for each operation, in microseconds.
    pub(crate) cpu_us: f64,
}

/// Two rates for each second, of the same callers on the same machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compared {
    pub(crate) value: f64,
    pub(crate) floor: f64,
}

impl Compared {
    fn ratio(self) -> f64 {
        self.value / self.floor
    }
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
    let mut callers = Callers::start(callers, Arc::new(operation));
    sleep(WARM_UP).await;
    let mut rates = Vec::new();
    for _ in 0..WINDOWS {
        let cpu_before = Proc::default().process(server)?.cpu_us;
        let (done, elapsed) = callers.watch(window).await?;
        let cpu_us = Proc::default().process(server)?.cpu_us - cpu_before;
        let done = done.max(1) as f64;
        rates.push(Rate { per_second: done / elapsed.as_secs_f64(), cpu_us: cpu_us as f64 / done });
    }
    callers.stop().await?;
    rates.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    Ok(rates[WINDOWS / 2])
}

/// Runs what is measured and its floor in turns, [`CALLERS`] each, so that whatever else the machine does meets both.
/// The first turn of each warms up; of the others the one with the median ratio counts, because what a turn shares with its floor is
/// what it is compared for: the rates of different turns differ by a third.
pub(crate) async fn compare<V, VFut, L, LFut>(
    what: &str,
    window: Duration,
    value: V,
    floor: L,
) -> Result<Compared>
where
    V: Fn(usize, u64) -> VFut + Send + Sync + 'static,
    VFut: Future<Output = Result<()>> + Send + 'static,
    L: Fn(usize, u64) -> LFut + Send + Sync + 'static,
    LFut: Future<Output = Result<()>> + Send + 'static,
{
    let (value, floor) = (Arc::new(value), Arc::new(floor));
    let mut turns = Vec::new();
    for turn in 0..=WINDOWS {
        let reached = Compared {
            floor: turn_of(window, Arc::clone(&floor)).await?,
            value: turn_of(window, Arc::clone(&value)).await?,
        };
        if turn > 0 {
            let Compared { value, floor } = reached;
            eprintln!("{what}: {value:.0}/s, floor {floor:.0}/s, ratio {:.2}", reached.ratio());
            turns.push(reached);
        }
    }
    turns.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
    Ok(turns[WINDOWS / 2])
}

async fn turn_of<F, Fut>(window: Duration, operation: Arc<F>) -> Result<f64>
where
    F: Fn(usize, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let mut callers = Callers::start(CALLERS, operation);
    sleep(WARM_UP).await;
    let (done, elapsed) = callers.watch(window).await?;
    callers.stop().await?;
    Ok(done as f64 / elapsed.as_secs_f64())
}

struct Callers {
    loops: JoinSet<Result<()>>,
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Callers {
    fn start<F, Fut>(callers: usize, operation: Arc<F>) -> Self
    where
        F: Fn(usize, u64) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let done = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
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
                Ok(())
            });
        }
        Self { loops, done, stop }
    }

    /// How much is done in a window, and how long that was.
    async fn watch(&mut self, window: Duration) -> Result<(u64, Duration)> {
        let (before, from) = (self.done.load(Ordering::Relaxed), Instant::now());
        sleep(window).await;
        let (after, elapsed) = (self.done.load(Ordering::Relaxed), from.elapsed());
        if let Some(ended) = self.loops.try_join_next() {
            ended??;
            return Err(anyhow!("a caller ended before the measurement did"));
        }
        Ok((after - before, elapsed))
    }

    async fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.loops.join_next().await {
            ended??;
        }
        Ok(())
    }
}
