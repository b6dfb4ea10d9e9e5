//! Finds what the work queue does not know of: codes queued before a crash, when there was no room, or when the queue
//! lost them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use spillway_bus::work::{Restored, WorkError, WorkQueue};
use spillway_chassis::Tasks;
use spillway_rpc::Chain;
use spillway_store::StoreError;
use spillway_store::verifications::VerificationId;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::HandOver;
use crate::metrics::WorkEvent;

/// Items restored at the same time.
const RESTORES_AT_ONCE: usize = 16;

/// Looks at once, and then at each interval, more or less: many processes do this, and should not all look together.
pub(super) async fn run(
    hand_over: Arc<HandOver>,
    work: Arc<dyn WorkQueue>,
    found: Arc<dyn WorkQueue>,
    tasks: Tasks,
) {
    let mut cancelled = std::pin::pin!(tasks.cancelled());
    loop {
        let reaping = async {
            if let Err(error) = reap(&hand_over, &*work, &*found).await {
                tracing::warn!(error = %Chain(&error), "queued codes could not be read");
            }
            tokio::time::sleep(jittered(hand_over.config.reap_interval)).await;
        };
        tokio::select! {
            () = &mut cancelled => return,
            () = reaping => {}
        }
    }
}

/// Restores items, which does nothing for those that the queue has. While the queue is out of reach, they go to `found`,
/// from which this process works them off; so may others, and the claims keep them apart.
async fn reap(hand_over: &HandOver, work: &dyn WorkQueue, found: &dyn WorkQueue) -> Result<(), StoreError> {
    let config = &hand_over.config;
    let queued = hand_over.sessions.queued(config.queue_max.get()).await?;
    hand_over.routes.queued(queued.len());
    measure_oldest(hand_over, &queued).await?;
    let depth = work.depth().await;
    if let Ok(depth) = depth {
        hand_over.metrics.queue_depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
    }
    let is_reachable = &AtomicBool::new(depth.is_ok());
    futures::stream::iter(some_of(queued, config.reap_max.get()))
        .for_each_concurrent(RESTORES_AT_ONCE, |id| async move {
            let restored = if is_reachable.load(Ordering::Relaxed) {
                work.restore(&id.0, Bytes::new()).await
            } else {
                found.restore(&id.0, Bytes::new()).await
            };
            match restored {
                Ok(Restored::Added) => hand_over.metrics.work(WorkEvent::Restored),
                Ok(Restored::Present) | Err(WorkError::Full) => {}
                // The rest of them, and this one in the next round, take the other way.
                Err(WorkError::Unavailable(_)) => is_reachable.store(false, Ordering::Relaxed),
            }
        })
        .await;
    Ok(())
}

async fn measure_oldest(hand_over: &HandOver, queued: &[VerificationId]) -> Result<(), StoreError> {
    let oldest = match queued.first() {
        Some(id) => hand_over.sessions.get_any(*id).await?.and_then(|session| session.queued),
        None => None,
    };
    let age = oldest.map(|queued| hand_over.sessions.now().since(queued.since)).unwrap_or_default();
    hand_over.metrics.queue_oldest_seconds.set(age.as_secs_f64());
    Ok(())
}

/// At most `max` of them in their order, chosen at random: the oldest may all be known to the queue, and other workers
/// choose others.
fn some_of(queued: Vec<VerificationId>, max: usize) -> Vec<VerificationId> {
    if queued.len() <= max {
        return queued;
    }
    let mut chosen = rand::seq::index::sample(&mut rand::rng(), queued.len(), max).into_vec();
    chosen.sort_unstable();
    chosen.into_iter().map(|index| queued[index]).collect()
}

/// Half to one and a half times the period.
fn jittered(period: Duration) -> Duration {
    period.max(Duration::from_millis(1)).mul_f64(rand::random_range(0.5..1.5))
}

/// Forgets expired sessions at each interval.
pub(super) async fn expire(hand_over: Arc<HandOver>, tasks: Tasks) {
    let mut ticks = every(hand_over.config.expiry_interval);
    loop {
        tokio::select! {
            () = tasks.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match hand_over.sessions.expire().await {
            Ok(expired) => hand_over.metrics.sessions_expired.inc_by(expired as u64),
            Err(error) => tracing::warn!(error = %Chain(&error), "expired sessions could not be forgotten"),
        }
    }
}

/// At once, then at each interval; one of zero, which tokio refuses, is taken as one millisecond.
fn every(period: Duration) -> Interval {
    let mut ticks = interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_chosen_in_order_or_some_of_them() {
        let ids: Vec<_> = (0..100).map(|n| VerificationId([n; 32])).collect();
        assert_eq!(some_of(ids.clone(), 100), ids);
        let some = some_of(ids.clone(), 10);
        assert!(some.len() == 10 && some.is_sorted());
        let seen: std::collections::HashSet<_> = (0..200).flat_map(|_| some_of(ids.clone(), 10)).collect();
        assert_eq!(seen.len(), 100, "each is chosen sooner or later");
    }
}
