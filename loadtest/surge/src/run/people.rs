//! The people who are there before the surge.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Run, RunError};
use crate::cohorts;
use crate::stats::Stats;
use crate::summary::SIGN_UP;
use crate::workload::{Contact, ExistingUser, Life, sign_up_existing};

/// Sign-ups at once: enough to be quick, too few to be a surge.
const AT_ONCE: usize = 16;
/// A tenth may fail, as in life; more than that and the run would not be what it says.
const MISSING_MAX: f64 = 0.1;

/// Everybody with an account, in order of their numbers. Who lives in another worker can be written to.
#[derive(Debug)]
pub(crate) struct People {
    all: Vec<Contact>,
    /// By place in `all`.
    here: BTreeMap<usize, ExistingUser>,
}

impl People {
    fn new(mut all: Vec<Contact>, lives: &[Life]) -> Self {
        all.sort_by_key(|contact| contact.index);
        let place = |user: &ExistingUser| all.binary_search_by_key(&user.index, |contact| contact.index).ok();
        let here = lives.iter().filter_map(|life| Some((place(life.user())?, life.user().clone()))).collect();
        Self { all, here }
    }

    #[cfg(test)]
    pub(super) fn of_contacts(all: Vec<Contact>) -> Self {
        Self::new(all, &[])
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// # Panics
    ///
    /// When nobody has this place.
    pub(crate) fn contact(&self, place: usize) -> &Contact {
        &self.all[place]
    }

    /// Who does what the person of this place was to do, with the own place: that person, or one of those here in the stead of somebody whose worker is
    /// gone. `None` when nobody lives here.
    pub(crate) fn acting(&self, place: usize) -> Option<(usize, &ExistingUser)> {
        let in_stead = || self.here.iter().nth(place % self.here.len().max(1));
        self.here.get_key_value(&place).or_else(in_stead).map(|(place, user)| (*place, user))
    }

    /// Those who live here, each once, from this place on.
    pub(crate) fn here_from(&self, place: usize) -> impl Iterator<Item = (usize, &ExistingUser)> {
        self.here.range(place..).chain(self.here.range(..place)).map(|(place, user)| (*place, user))
    }
}

/// Signs up everybody who is to live here.
pub(super) async fn sign_up(run: &mut Run) -> Result<Vec<Life>, RunError> {
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
        let world = run.world.clone();
        sign_ups.spawn(async move { sign_up_existing(&world, index).await });
    }
    while let Some(ended) = sign_ups.join_next().await {
        lives.extend(ended.ok().flatten());
    }
    if (lives.len() as f64) < f64::from(wanted) * (1.0 - MISSING_MAX) {
        let reasons = reasons(&run.world.stats());
        return Err(RunError::People { signed_up: lives.len(), wanted, reasons });
    }
    lives.sort_by_key(|life| life.user().index);
    Ok(lives)
}

/// Brings those who live here online. `all` are those who have an account, wherever they live.
///
/// Of those whom the load has offline at first, the last ones are.
pub(super) fn begin(run: &mut Run, lives: Vec<Life>, all: Vec<Contact>) -> Arc<People> {
    let people = Arc::new(People::new(all, &lives));
    let offline = (people.len() as f64 * run.world.behaviour.offline_share).floor() as usize;
    let last_online = people.all.get(people.len() - offline).map(|contact| contact.index);
    for life in lives {
        let world = run.world.clone();
        let index = life.user().index;
        if world.crowd.is_polite(index) {
            run.tasks.spawn(life.live(world, last_online.is_none_or(|last| index < last)));
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
