//! Finds what memory does not know of: codes queued before a crash, or when there was no room.

use std::sync::Arc;
use std::time::Duration;

use spillway_chassis::Tasks;
use spillway_rpc::Chain;
use spillway_store::StoreError;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{HandOver, Wake};

/// Wakes the dispatcher for every queued session, at once and then at each interval.
pub(super) async fn run(hand_over: Arc<HandOver>, wakes: mpsc::Sender<Wake>, tasks: Tasks) {
    let mut ticks = every(hand_over.config.reap_interval);
    loop {
        tokio::select! {
            () = tasks.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = reap(&hand_over, &wakes).await {
            tracing::warn!(error = %Chain(&error), "queued codes could not be read");
        }
    }
}

async fn reap(hand_over: &HandOver, wakes: &mpsc::Sender<Wake>) -> Result<(), StoreError> {
    let queued = hand_over.sessions.queued(hand_over.config.queue_max.get()).await?;
    let oldest = match queued.first() {
        Some(id) => hand_over.sessions.get_any(*id).await?.and_then(|session| session.queued),
        None => None,
    };
    let age = oldest.map(|queued| hand_over.sessions.now().since(queued.since)).unwrap_or_default();
    hand_over.metrics.queue_oldest_seconds.set(age.as_secs_f64());
    for id in queued {
        if wakes.send(Wake { id, number: None }).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
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
