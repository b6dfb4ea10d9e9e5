//! Who is who in a run, and since when they are themselves.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::ceiling::Ceiling;
use super::no_deadline::WAITING_MAX;
use super::{Cohort, Members, Tally};
use crate::ledger::Exceptions;

/// The cohorts of a run.
#[derive(Debug)]
pub struct Crowd {
    members: Members,
    /// The rude neither write nor do anything else; they take their mail, as polite people do.
    silent: bool,
    /// When the surge begins, from when this is known.
    surge: OnceLock<Instant>,
    /// It has begun.
    begun: watch::Sender<bool>,
    tallies: BTreeMap<Cohort, Tally>,
    ceilings: BTreeMap<Cohort, Ceiling>,
    /// For those who wait for ever.
    waiting: Semaphore,
}

impl Crowd {
    /// With `silent`, those who are not polite do nothing: for the run that the other one is compared with. `here` are those who live in this
    /// worker, which has their share of what the whole cohort may ask.
    pub fn new(members: Members, here: &Range<u32>, silent: bool) -> Self {
        let share = |cohort: Cohort| {
            let (own, all) = (members.count_in(here.clone(), cohort), members.count(cohort));
            if own == 0 { 1.0 } else { own as f64 / all as f64 }
        };
        let tallies = Cohort::ALL.map(|cohort| (cohort, Tally::default())).into();
        let ceilings = Cohort::ALL.map(|cohort| (cohort, Ceiling::of(cohort, share(cohort)))).into();
        let waiting = Semaphore::new((WAITING_MAX as f64 * share(Cohort::NoDeadline)).ceil() as usize);
        let (surge, begun) = (OnceLock::new(), watch::Sender::new(false));
        Self { members, silent, surge, begun, tallies, ceilings, waiting }
    }

    /// Everybody, polite.
    pub fn polite(people: u32) -> Self {
        Self::new(Members::polite(people), &(0..people), false)
    }

    pub fn members(&self) -> &Members {
        &self.members
    }

    pub fn of(&self, index: u32) -> Cohort {
        self.members.of(index)
    }

    pub fn is_polite(&self, index: u32) -> bool {
        self.of(index).is_polite()
    }

    /// Whether anybody is not polite.
    pub fn has_rude(&self) -> bool {
        self.members.iter().any(|(_, cohort)| !cohort.is_polite())
    }

    /// Whether somebody does what the reference client does, so far.
    pub(crate) fn behaves(&self, index: u32) -> bool {
        self.is_polite(index) || self.silent || !self.has_begun()
    }

    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Before the load begins: when the surge will.
    pub fn expect(&self, surge: Instant) {
        // One run has one.
        self.surge.set(surge).ok();
    }

    /// From now on everybody is what he is.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Whether what was planned for then belongs to the surge, however late it is.
    pub(crate) fn is_surge(&self, planned: Instant) -> bool {
        self.surge.get().is_some_and(|surge| planned >= *surge)
    }

    pub fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Resolves when somebody may be rude, which is never where they are silent.
    pub(crate) async fn begins(&self) {
        if self.silent {
            std::future::pending::<()>().await;
        }
        // The sender lives as long as this.
        self.begun.subscribe().wait_for(|begun| *begun).await.ok();
    }

    /// Whether what this person was planned to write then is written: the rude are silent before the surge.
    pub fn writes(&self, index: u32, planned: Instant) -> bool {
        let cohort = self.of(index);
        cohort.is_polite() || (cohort.writes() && !self.silent && self.is_surge(planned))
    }

    /// # Panics
    ///
    /// Never: each cohort has one.
    pub fn tally(&self, cohort: Cohort) -> &Tally {
        &self.tallies[&cohort]
    }

    /// Waits for a turn, so that the cohort stays below its ceiling.
    pub(crate) async fn turn(&self, cohort: Cohort) {
        self.ceiling(cohort).turn().await;
    }

    fn ceiling(&self, cohort: Cohort) -> &Ceiling {
        &self.ceilings[&cohort]
    }

    pub(super) fn waiting(&self) -> &Semaphore {
        &self.waiting
    }

    /// What the ledger must know.
    pub fn exceptions(&self) -> Exceptions {
        if self.silent {
            return Exceptions::default();
        }
        let which = |is: fn(Cohort) -> bool| {
            self.members.iter().filter(|(_, cohort)| is(*cohort)).map(|(index, _)| index).collect()
        };
        Exceptions { withholding: which(Cohort::may_withhold), repeating: which(Cohort::repeats) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(silent: bool) -> Crowd {
        let shares: super::super::Shares =
            "never-acks=25%,impatient=25%,contact-scraper=25%".parse().unwrap();
        Crowd::new(shares.members(40, 7).unwrap(), &(0..40), silent)
    }

    #[test]
    fn the_rude_are_silent_until_the_surge_and_always_in_the_run_to_compare_with() {
        let (loud, silent) = (crowd(false), crowd(true));
        let surge = Instant::now();
        let count = |crowd: &Crowd, planned| (0..40).filter(|index| crowd.writes(*index, planned)).count();
        assert_eq!(count(&loud, surge), 10, "it is not known yet when it begins");
        loud.expect(surge);
        silent.expect(surge);
        let calm = surge - std::time::Duration::from_millis(1);
        assert_eq!((count(&loud, calm), count(&silent, calm)), (10, 10));
        assert_eq!((count(&loud, surge), count(&silent, surge)), (30, 10), "and who scrapes does not write");
    }

    /// Two workers ask no more of the service than one does.
    #[tokio::test(start_paused = true)]
    async fn what_a_cohort_may_ask_is_shared_by_where_its_members_live() {
        let shares: super::super::Shares = "rst-stream-flood=20%".parse().unwrap();
        let members = shares.members(40, 7).unwrap();
        let mut per_s = 0.0;
        for here in [0..13, 13..40] {
            let own = members.count_in(here.clone(), Cohort::RstStreamFlood);
            assert!(own > 0, "this seed has some in each");
            let crowd = Crowd::new(members.clone(), &here, false);
            let began = Instant::now();
            for _ in 0..=100 {
                crowd.turn(Cohort::RstStreamFlood).await;
            }
            per_s += 100.0 / began.elapsed().as_secs_f64();
        }
        // A paused clock goes in milliseconds.
        assert!((per_s - 1_000.0).abs() < 30.0, "{per_s}");
    }

    #[test]
    fn the_ledger_is_told_who_withholds_and_who_repeats() {
        let exceptions = crowd(false).exceptions();
        assert_eq!((exceptions.withholding.len(), exceptions.repeating.len()), (10, 10));
        assert!(exceptions.withholding.is_disjoint(&exceptions.repeating));
        let none = crowd(true).exceptions();
        assert!(none.withholding.is_empty() && none.repeating.is_empty());
    }
}
