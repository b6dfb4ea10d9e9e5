//! The waiting room of a run: open while people are brought in, then as slow as the run wants it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Plan, Run, RunError};
use crate::admin::AdminError;
use crate::profile::Profile;

/// A service that has just started takes orders once its control role runs.
const TAKES_ORDERS_WITHIN: Duration = Duration::from_secs(10);
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Existing users and the probe are not what is measured, and do not wait.
pub(super) async fn open(run: &Run) -> Result<(), RunError> {
    if !is_ours(run) {
        return Ok(());
    }
    Ok(order(run, "open").await?)
}

/// What the run is about. Where nothing is ordered, the service decides by itself.
pub(super) async fn pace(run: &mut Run, plan: &Plan) -> Result<(), RunError> {
    if !is_ours(run) {
        return Ok(());
    }
    // A search is about the service and not about its room, which stays open.
    if run.options.steady.is_some() {
        return Ok(());
    }
    let Some(per_s) = plan.admit_per_s else { return Ok(order(run, "auto").await?) };
    order(run, &format!("{per_s:.3}")).await?;
    run.say(&format!("the waiting room lets in {per_s:.0} newcomers a second"));
    Ok(())
}

/// Leaves the room of somebody else's service as a service decides by itself.
pub(super) async fn let_go(run: &Run) {
    if is_ours(run)
        && !run.options.target.is_empty()
        && let Err(error) = order(run, "auto").await
    {
        tracing::warn!(%error, "the waiting room keeps the order of this run");
    }
}

/// A service that was started for the run, or a target for which it was said what its room is to do.
fn is_ours(run: &Run) -> bool {
    let asked_for = run.options.target.is_empty() || run.options.admit.is_some();
    asked_for && run.admin.is_known() && run.options.profile != Profile::RoomMillion
}

async fn order(run: &Run, order: &str) -> Result<(), AdminError> {
    let until = Instant::now() + TAKES_ORDERS_WITHIN;
    loop {
        match run.admin.order_room(order).await {
            Err(_) if Instant::now() < until => sleep(AGAIN_AFTER).await,
            taken_or_late => return taken_or_late,
        }
    }
}
