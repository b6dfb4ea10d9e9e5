//! How many newcomers a second this machine can take, service and load together: measured, not guessed.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::people::reasons;
use super::{Run, RunError};
use crate::stats::Stats;
use crate::workload::Newcomer;

/// Newcomers at once, each followed by the next: more than two cores can be busy with, few enough to queue little.
const AT_ONCE: usize = 32;
const WARM_UP: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(4);
/// Whoever is still under way after that is cut off, and an answer to him that was acknowledged counts as lost.
const FINISH_MAX: Duration = Duration::from_secs(20);

/// Whole journeys per second: sign-up, contacts, session, first message and its answer.
pub(super) async fn capacity(run: &mut Run) -> Result<f64, RunError> {
    run.say("probing this machine's capacity");
    let stats = Stats::of_totals(Instant::now(), "probe");
    run.world.stats.store(stats.clone());
    let (mut journeys, mut index) = (JoinSet::new(), run.world.existing);
    let started = Instant::now();
    let mut completed = 0_u32;
    while started.elapsed() < WARM_UP + WINDOW && !run.is_interrupted() {
        while journeys.len() < AT_ONCE {
            let newcomer = Newcomer { index, planned: Instant::now(), linger: Duration::ZERO };
            journeys.spawn(newcomer.travel(Arc::clone(&run.world)));
            index += 1;
        }
        let left = (WARM_UP + WINDOW).saturating_sub(started.elapsed());
        let Ok(ended) = tokio::time::timeout(left, journeys.join_next()).await else { break };
        if matches!(ended, Some(Ok(true))) && started.elapsed() >= WARM_UP {
            completed += 1;
        }
    }
    let per_s = f64::from(completed) / started.elapsed().saturating_sub(WARM_UP).as_secs_f64().max(0.1);
    // Those under way finish, so that the calm before the surge is calm.
    let finish = async { while journeys.join_next().await.is_some() {} };
    tokio::time::timeout(FINISH_MAX, finish).await.ok();
    if completed == 0 && !run.is_interrupted() {
        return Err(RunError::Probe { reasons: reasons(&stats) });
    }
    run.say(&format!("capacity: {per_s:.0} newcomers a second"));
    Ok(per_s.max(1.0))
}

/// Indices that the probe may have used; newcomers of the surge start after them.
pub(super) const INDICES: u32 = 1_000_000;
