//! The people who are there before the surge.

use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};

use super::{Run, RunError};
use crate::cohorts;
use crate::peer::{Peer, PeerLife, PeerUser, join};
use crate::stats::Stats;
use crate::summary::SIGN_UP;
use crate::workload::{ExistingUser, Somebody, World, sign_up_existing};

/// Sign-ups at once: enough to be quick, too few to be a surge.
const AT_ONCE: usize = 16;
/// A tenth may fail, as in life; more than that and the run would not be what it says.
const MISSING_MAX: f64 = 0.1;

/// They have accounts with one of the two.
pub(super) enum People {
    OfSpillway(Arc<[ExistingUser]>),
    OfPeer(Arc<[PeerUser]>),
}

/// Signs everybody up and brings them online.
///
/// Of those whom the load has offline at first, the last ones are.
pub(super) async fn sign_up(run: &mut Run) -> Result<People, RunError> {
    let wanted = run.options.existing;
    run.say(&format!("signing up {wanted} existing users"));
    match run.peer.clone() {
        Some(peer) => of_peer(run, &peer).await.map(People::OfPeer),
        None => of_spillway(run).await.map(People::OfSpillway),
    }
}

async fn of_peer(run: &mut Run, peer: &Arc<dyn Peer>) -> Result<Arc<[PeerUser]>, RunError> {
    let mut people = each(run, |world, index| {
        let peer = peer.clone();
        async move { join(peer, &world, index).await }
    })
    .await?;
    people.sort_by_key(|life| life.user().index());
    let online = online(run, people.len());
    let users = people.iter().map(|life| life.user().clone()).collect();
    let mut sessions = JoinSet::new();
    for (n, mut life) in people.into_iter().enumerate() {
        if sessions.len() >= AT_ONCE {
            let begun = sessions.join_next().await;
            run.tasks.spawn(from_here_on(run.world.clone(), begun));
        }
        let world = run.world.clone();
        sessions.spawn(async move {
            if n < online {
                life.begin(&world).await;
            }
            life
        });
    }
    while let Some(begun) = sessions.join_next().await {
        run.tasks.spawn(from_here_on(run.world.clone(), Some(begun)));
    }
    Ok(users)
}

/// Somebody's life after its beginning. `None` where there is nobody.
async fn from_here_on(world: Arc<World>, begun: Option<Result<PeerLife, JoinError>>) {
    if let Some(Ok(life)) = begun {
        life.live(world).await;
    }
}

/// Signs up everybody, a few at once.
async fn each<L, F>(run: &Run, sign_up: impl Fn(Arc<World>, u32) -> F) -> Result<Vec<L>, RunError>
where
    L: Send + 'static,
    F: Future<Output = Option<L>> + Send + 'static,
{
    let wanted = run.options.existing;
    let mut people = Vec::new();
    let mut sign_ups = JoinSet::new();
    for index in 0..wanted {
        if sign_ups.len() >= AT_ONCE {
            people.extend(sign_ups.join_next().await.and_then(Result::ok).flatten());
        }
        if run.is_interrupted() {
            break;
        }
        sign_ups.spawn(sign_up(run.world.clone(), index));
    }
    while let Some(ended) = sign_ups.join_next().await {
        people.extend(ended.ok().flatten());
    }
    if (people.len() as f64) < f64::from(wanted) * (1.0 - MISSING_MAX) {
        let reasons = reasons(&run.world.stats());
        return Err(RunError::People { signed_up: people.len(), wanted, reasons });
    }
    Ok(people)
}

fn online(run: &Run, people: usize) -> usize {
    people - (people as f64 * run.world.behaviour.offline_share).floor() as usize
}

async fn of_spillway(run: &mut Run) -> Result<Arc<[ExistingUser]>, RunError> {
    let mut people = each(run, |world, index| async move { sign_up_existing(&world, index).await }).await?;
    people.sort_by_key(|life| life.user().index);
    let online = online(run, people.len());
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
