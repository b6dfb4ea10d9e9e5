use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Fuse, FusedFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use spillway_bus::work::{Item, WorkQueue};
use spillway_chassis::Tasks;
use spillway_rpc::Chain;
use spillway_store::verifications::VerificationId;
use tokio::sync::Semaphore;

use super::HandOver;
use super::hand_over::Outcome;
use super::throttle::Throttle;
use crate::metrics::WorkEvent;

/// Pause after the queue could not be reached; doubled for each further time.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(3);

/// Takes from one queue as much as can be begun at once. One task drives all its hand-overs.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) queue: Arc<dyn WorkQueue>,
    pub(super) hand_over: Arc<HandOver>,
    /// One for each call to the provider; shared with the worker of the other queue.
    pub(super) calls: Arc<Semaphore>,
    pub(super) throttle: Arc<Throttle>,
}

impl Worker {
    pub(super) async fn run(self, tasks: Tasks) {
        let slots = self.hand_over.config.concurrency.get();
        let mut running = FuturesUnordered::new();
        // Kept over turns of the loop, because giving up a `take` may delay items.
        let mut taking = pin!(Fuse::terminated());
        let mut cancelled = pin!(tasks.cancelled());
        loop {
            let free = NonZeroUsize::new(slots - running.len()).filter(|_| taking.is_terminated());
            if let Some(free) = free {
                taking.set(self.take(free).fuse());
            }
            tokio::select! {
                () = &mut cancelled => break,
                Some(()) = running.next(), if !running.is_empty() => {}
                items = &mut taking, if !taking.is_terminated() => {
                    running.extend(items.into_iter().map(|item| self.work_on(item)));
                }
            }
        }
        // What has been given to the provider is recorded; the provider's time-out bounds the wait.
        while running.next().await.is_some() {}
    }

    async fn take(&self, max: NonZeroUsize) -> Vec<Item> {
        let mut pause = RETRY_MIN;
        loop {
            self.throttle.passed().await;
            match self.queue.take(max).await {
                Ok(items) => return items,
                Err(error) if pause == RETRY_MIN => {
                    tracing::warn!(error = %Chain(&error), "queued codes cannot be taken; looking in the store");
                }
                Err(error) => tracing::debug!(error = %Chain(&error), "queued codes cannot be taken yet"),
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn work_on(&self, item: Item) {
        let Ok(id) = <[u8; 32]>::try_from(&item.key[..]).map(VerificationId) else {
            return item.done().await;
        };
        if item.deliveries > 1 {
            self.hand_over.metrics.work(WorkEvent::Redelivered);
        }
        let call = self.calls.acquire().await.expect("it is never closed");
        if let Some(left) = self.throttle.left() {
            return item.retry_after(left).await;
        }
        let outcome = self.hand_over.run(id).await;
        drop(call);
        match outcome {
            Outcome::Done => item.done().await,
            Outcome::Again => item.retry_after(Duration::ZERO).await,
            Outcome::Retry { pause } => item.retry_after(pause).await,
            Outcome::Throttled { pause } => {
                self.throttle.pause(pause);
                item.retry_after(pause).await;
            }
        }
    }
}
