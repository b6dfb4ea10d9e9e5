//! Looks up whether codes that this process sent were typed at another one.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use spillway_chassis::Tasks;
use spillway_rpc::Chain;
use spillway_store::StoreError;
use spillway_store::verifications::VerificationId;

use super::HandOver;

/// Looks at a time, and under way at once: 16 of 2 ms each are 8,000 a second.
const LOOKS_MAX: usize = 4_096;
const LOOKS_AT_ONCE: usize = 16;
/// When the store did not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Rounds in a grace. Each also shows how the providers do.
const ROUNDS: u32 = 60;

pub(super) async fn run(hand_over: Arc<HandOver>, grace: Duration, tasks: Tasks) {
    let period = (grace / ROUNDS).clamp(Duration::from_millis(5), Duration::from_secs(1));
    let mut cancelled = std::pin::pin!(tasks.cancelled());
    loop {
        let round = async {
            tokio::time::sleep(period).await;
            look(&hand_over).await;
            hand_over.routes.show();
        };
        tokio::select! {
            () = &mut cancelled => return,
            () = round => {}
        }
    }
}

async fn look(hand_over: &HandOver) {
    futures::stream::iter(hand_over.routes.due(LOOKS_MAX))
        .for_each_concurrent(LOOKS_AT_ONCE, |id| async move {
            match is_proved(hand_over, id).await {
                Ok(proved) => hand_over.routes.seen(id, proved),
                Err(error) => {
                    tracing::debug!(error = %Chain(&error), "the outcome of a code could not be read");
                    hand_over.routes.unseen(id, AGAIN_AFTER);
                }
            }
        })
        .await;
}

/// A session that is gone was never proved: those that were live longer than anybody looks.
async fn is_proved(hand_over: &HandOver, id: VerificationId) -> Result<bool, StoreError> {
    Ok(hand_over.sessions.get_any(id).await?.is_some_and(|session| session.verified))
}
