//! The end of a load: nobody begins anything, and what is on its way arrives.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::recorder::Recorder;
use super::{QUIET_MAX, Run, SETTLE_MAX};
use crate::workload::Stage;

/// Waits until nothing is under way and everything acknowledged has arrived, or until that takes too long.
pub(super) async fn settle(run: &mut Run, recorder: &mut Recorder, journeys: &mut JoinSet<bool>) {
    for (stage, at_most) in [(Stage::Closing, SETTLE_MAX), (Stage::Quiet, QUIET_MAX)] {
        run.world.stage.send_replace(stage);
        // The coordinator, who sees everybody, says when; without it the end is late and not never.
        let at_most = if run.tie.is_some() { at_most * 2 } else { at_most };
        let ends = Instant::now() + at_most;
        while Instant::now() < ends {
            let nothing_to_come = match stage {
                Stage::Quiet => run.world.sending.load(SeqCst) == 0 && run.world.finishing.load(SeqCst) == 0,
                _ => journeys.is_empty(),
            };
            let settled = nothing_to_come && run.world.ledger.counts().lost == 0;
            let goes_on = match &run.tie {
                Some(tie) => tie.goes_on(stage, settled),
                None => settled,
            };
            if goes_on {
                break;
            }
            tokio::select! {
                () = recorder.tick() => recorder.show(run),
                Some(_) = journeys.join_next(), if !journeys.is_empty() => {}
            }
        }
    }
    run.world.stage.send_replace(Stage::Over);
    // Everybody goes home at once; a second is for those in the middle of a call.
    let leave = async { while journeys.join_next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(1), leave).await.ok();
    journeys.abort_all();
}
