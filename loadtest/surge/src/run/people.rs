//! The people who are there before the surge.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Run, RunError};
use crate::cohorts;
use crate::stats::Stats;
use crate::summary::SIGN_UP;
use crate::workload::{ExistingUser, sign_up_existing};

/// Sign-ups at once: enough to be quick, too few to be a surge.
const AT_ONCE: usize = 16;
/// A tenth may fail, as in life; more than that and the run would not be what it says.
const MISSING_MAX: f64 = 0.1;

/// Signs everybody up and brings them online.
///
/// Of those whom the load has offline at first, the last ones are.
pub(super) async fn sign_up(run: &mut Run) -> Result<Arc<[ExistingUser]>, RunError> {
    let wanted = run.options.existing;
    run.say(&format!("signing up {wanted} existing users"));
    let mut people = Vec::new();
    let mut sign_ups = JoinSet::new();
    for index in 0..wanted {
        if sign_ups.len() >= AT_ONCE {
            people.extend(sign_ups.join_next().await.and_then(Result::ok).flatten());
        }
        if run.is_interrupted() {
            break;
        }
        let world = run.world.clone();
        sign_ups.spawn(async move { sign_up_existing(&world, index).await });
    }
    while let Some(ended) = sign_ups.join_next().await {
        people.extend(ended.ok().flatten());
    }
    if (people.len() as f64) < f64::from(wanted) * (1.0 - MISSING_MAX) {
        let reasons = reasons(&run.world.stats());
        return Err(RunError::People { signed_up: people.len(), wanted, reasons });
    }
    people.sort_by_key(|life| life.user().index);
    let online = people.len() - (people.len() as f64 * run.world.behaviour.offline_share).floor() as usize;
    let users = people.iter().map(|life| life.user().clone()).collect();
    for (n, life) in people.into_iter().enumerate() {
        let world = run.world.clone();
        if world.crowd.is_polite(life.user().index) {
            run.tasks.spawn(life.live(world, n < online));
        } else {
            run.tasks.spawn(cohorts::live(life, world));
        }
    }
    Ok(users)
}

/// Why sign-ups failed, most frequent first.
pub(super) fn reasons(stats: &Stats) -> String {
    let totals = stats.totals(SIGN_UP);
    let mut reasons: Vec<_> = totals.reasons.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    if reasons.is_empty() {
        return "none was answered in time".to_owned();
    }
    reasons.iter().map(|(reason, count)| format!("{reason} ({count})")).collect::<Vec<_>>().join(", ")
}
