//! The people who are there before the surge.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};

use super::{Run, RunError};
use crate::cohorts;
use crate::friends::Graph;
use crate::peer::{Peer, PeerLife, PeerUser, join};
use crate::stats::Stats;
use crate::summary::SIGN_UP;
use crate::workload::{Contact, ExistingUser, Life, Somebody, World, sign_up_existing};

/// Sign-ups at once: enough to be quick, too few to be a surge.
const AT_ONCE: usize = 16;
/// A tenth may fail, as in life; more than that and the run would not be what it says.
const MISSING_MAX: f64 = 0.1;

/// They have accounts with one of the two.
#[derive(Debug)]
pub(super) enum Everybody {
    OfSpillway(Arc<People<ExistingUser>>),
    OfPeer(Arc<People<PeerUser>>),
}

/// Everybody with an account, in order of their numbers. Who lives in another worker can be written to.
#[derive(Debug)]
pub(crate) struct People<S: Somebody> {
    all: Vec<Contact<S::Account>>,
    /// By place in `all`.
    here: BTreeMap<usize, S>,
    /// `None`: anybody writes to anybody.
    friends: Option<Arc<Graph>>,
}

impl<S: Somebody> People<S> {
    fn new<'a>(mut all: Vec<Contact<S::Account>>, users: impl Iterator<Item = &'a S>) -> Self {
        all.sort_by_key(|contact| contact.index);
        let place = |user: &S| all.binary_search_by_key(&user.index(), |contact| contact.index).ok();
        let here = users.filter_map(|user| Some((place(user)?, user.clone()))).collect();
        Self { all, here, friends: None }
    }

    /// With the friends that a run wants them to have.
    fn befriended(self, run: &Run) -> Self {
        let friends = run.options.load.friends.graph(run.seed, self.len());
        Self { friends: friends.map(Arc::new), ..self }
    }

    pub(super) fn friends(&self) -> Option<&Arc<Graph>> {
        self.friends.as_ref()
    }

    #[cfg(test)]
    pub(super) fn of_contacts(all: Vec<Contact<S::Account>>) -> Self {
        Self::new(all, std::iter::empty())
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// # Panics
    ///
    /// When nobody has this place.
    pub(crate) fn contact(&self, place: usize) -> &Contact<S::Account> {
        &self.all[place]
    }

    /// Who does what the person of this place was to do, with the own place: that person, or one of those here in the stead of somebody whose worker is
    /// gone. `None` when nobody lives here.
    pub(crate) fn acting(&self, place: usize) -> Option<(usize, &S)> {
        let in_stead = || self.here.iter().nth(place % self.here.len().max(1));
        self.here.get_key_value(&place).or_else(in_stead).map(|(place, user)| (*place, user))
    }

    /// Those who live here, each once, from this place on.
    pub(crate) fn here_from(&self, place: usize) -> impl Iterator<Item = (usize, &S)> {
        self.here.range(place..).chain(self.here.range(..place)).map(|(place, user)| (*place, user))
    }

    /// Whether the load has somebody online from the beginning. Of those whom it has not, the last ones are offline.
    fn begins_online(&self, run: &Run, index: u32) -> bool {
        let offline = (self.len() as f64 * run.world.behaviour.offline_share).floor() as usize;
        self.all.get(self.len() - offline).is_none_or(|last| index < last.index)
    }
}

/// Signs everybody up and brings them online, where nobody else plays.
pub(super) async fn bring(run: &mut Run) -> Result<Everybody, RunError> {
    if let Some(peer) = run.peer.clone() {
        return of_peer(run, &peer).await.map(Everybody::OfPeer);
    }
    let lives = sign_up(run).await?;
    let all = lives.iter().map(|life| life.user().contact()).collect();
    Ok(Everybody::OfSpillway(begin(run, lives, all)))
}

async fn of_peer(run: &mut Run, peer: &Arc<dyn Peer>) -> Result<Arc<People<PeerUser>>, RunError> {
    let mut lives = each(run, |world, index| {
        let peer = peer.clone();
        async move { join(peer, &world, index).await }
    })
    .await?;
    lives.sort_by_key(|life| life.user().index());
    let all = lives.iter().map(|life| life.user().contact()).collect();
    let people = Arc::new(People::new(all, lives.iter().map(PeerLife::user)).befriended(run));
    let mut sessions = JoinSet::new();
    for mut life in lives {
        if sessions.len() >= AT_ONCE {
            let begun = sessions.join_next().await;
            run.tasks.spawn(from_here_on(run.world.clone(), begun));
        }
        let world = run.world.clone();
        let online = people.begins_online(run, life.user().index());
        sessions.spawn(async move {
            if online {
                life.begin(&world).await;
            }
            life
        });
    }
    while let Some(begun) = sessions.join_next().await {
        run.tasks.spawn(from_here_on(run.world.clone(), Some(begun)));
    }
    Ok(people)
}

/// Somebody's life after its beginning. `None` where there is nobody.
async fn from_here_on(world: Arc<World>, begun: Option<Result<PeerLife, JoinError>>) {
    if let Some(Ok(life)) = begun {
        life.live(world).await;
    }
}

/// Signs up everybody who is to live here, a few at once.
async fn each<L, F>(run: &mut Run, sign_up: impl Fn(Arc<World>, u32) -> F) -> Result<Vec<L>, RunError>
where
    L: Send + 'static,
    F: Future<Output = Option<L>> + Send + 'static,
{
    let own = run.own_users();
    let wanted = own.len() as u32;
    run.say(&format!("signing up {wanted} existing users"));
    let mut lives = Vec::new();
    let mut sign_ups = JoinSet::new();
    for index in own {
        if sign_ups.len() >= AT_ONCE {
            lives.extend(sign_ups.join_next().await.and_then(Result::ok).flatten());
        }
        if run.is_interrupted() {
            break;
        }
        sign_ups.spawn(sign_up(run.world.clone(), index));
    }
    while let Some(ended) = sign_ups.join_next().await {
        lives.extend(ended.ok().flatten());
    }
    if run.is_interrupted() {
        return Err(RunError::Interrupted);
    }
    if (lives.len() as f64) < f64::from(wanted) * (1.0 - MISSING_MAX) {
        let reasons = reasons(&run.world.stats());
        return Err(RunError::People { signed_up: lives.len(), wanted, reasons });
    }
    Ok(lives)
}

/// Signs up everybody who is to live here.
pub(super) async fn sign_up(run: &mut Run) -> Result<Vec<Life>, RunError> {
    let mut lives = each(run, |world, index| async move { sign_up_existing(&world, index).await }).await?;
    lives.sort_by_key(|life| life.user().index);
    Ok(lives)
}

/// Brings those who live here online. `all` are those who have an account, wherever they live.
pub(super) fn begin(run: &mut Run, lives: Vec<Life>, all: Vec<Contact>) -> Arc<People<ExistingUser>> {
    let people = Arc::new(People::new(all, lives.iter().map(Life::user)).befriended(run));
    for life in lives {
        let world = run.world.clone();
        let index = life.user().index;
        if world.crowd.is_polite(index) {
            let online = people.begins_online(run, index);
            run.tasks.spawn(life.live(world, online));
        } else {
            run.tasks.spawn(cohorts::live(life, world));
        }
    }
    people
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
