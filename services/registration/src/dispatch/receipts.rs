//! Hears from a provider what has become of messages that it took.

use std::sync::Arc;

use futures::{StreamExt, stream};
use spillway_chassis::Tasks;
use spillway_rpc::Chain;
use spillway_store::StoreError;

use super::HandOver;
use crate::provider::Provider;
use crate::routing::Receipted;
use crate::sessions::Step;
use crate::verification::mark_failed;

/// Receipts that are worked on at the same time: 16 of 2 ms each are 8,000 a second.
const AT_ONCE: usize = 16;

/// `place`: of the provider in the settings.
pub(super) async fn run(place: usize, provider: Arc<dyn Provider>, hand_over: Arc<HandOver>, tasks: Tasks) {
    let next = |provider: Arc<dyn Provider>| async { Some((provider.next_receipt().await, provider)) };
    stream::unfold(provider, next)
        .take_until(tasks.cancelled())
        .for_each_concurrent(AT_ONCE, |receipt| {
            let hand_over = &hand_over;
            async move {
                let Some(receipted) = hand_over.routes.receipt(place, &receipt) else { return };
                hand_over.heard(&receipted);
                if !receipted.arrived
                    && let Err(error) = mark(hand_over, receipted).await
                {
                    tracing::debug!(error = %Chain(&error), "a failed delivery could not be noted in its session");
                }
            }
        })
        .await;
}

/// Whoever asks for another code in this session gets it from another provider.
async fn mark(hand_over: &HandOver, receipted: Receipted) -> Result<(), StoreError> {
    hand_over
        .sessions
        .change(receipted.session, |session, _| {
            if session.verified || session.failed.last() == Some(&receipted.provider) {
                return Ok::<_, StoreError>(Step::Keep(()));
            }
            mark_failed(session, receipted.provider);
            Ok(Step::Write(()))
        })
        .await
        .map(drop)
}
