//! What all workers are together: how far, and what came of their messages.

use std::collections::BTreeMap;

use super::{Staff, Worker};
use crate::cohorts::{Cohort, Crowd};
use crate::ledger::{Conversation, Counts, OwnPart};
use crate::summary::WorkerSummary;
use crate::workers::wire::Step;

impl Staff {
    pub(crate) fn here(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| worker.is_here())
    }

    /// Seconds below are over for everybody.
    pub(crate) fn seconds(&self) -> u64 {
        self.here().map(|worker| worker.progressed.seconds).min().unwrap_or(0)
    }

    /// Whether nothing is under way any more, in anybody's eyes and between them.
    pub(crate) fn is_quiet(&self, step: Step) -> bool {
        self.here().all(|worker| worker.done.is_some() || worker.progressed.quiet >= Some(step))
            && self.on_their_way() == 0
    }

    /// Whether everybody has offered everything.
    pub(crate) fn have_reached(&self, step: Step) -> bool {
        self.here().all(|worker| worker.done.is_some() || worker.progressed.step >= step)
    }

    pub(crate) fn are_done(&self) -> bool {
        self.here().all(|worker| worker.done.is_some())
    }

    pub(crate) fn on_their_way(&self) -> u64 {
        self.crossings.on_their_way(|conversation| self.is_excused(conversation))
    }

    /// Of all ledgers, and of what crosses between them.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = self.crossings.counts(|conversation| self.is_excused(conversation));
        for worker in &self.workers {
            let mut own = worker.done.as_ref().map_or(worker.progressed.counts, |done| done.counts);
            if worker.lost_at_s.is_some() {
                // On their way when it was heard last: nobody is there to take them.
                own.withheld += std::mem::take(&mut own.lost);
            }
            counts.add(&own);
        }
        counts
    }

    /// What cohorts did not take of messages that went from one worker's people to another's.
    pub(crate) fn withheld(&self, crowd: &Crowd) -> BTreeMap<Cohort, u64> {
        let mut withheld = BTreeMap::new();
        for (receiver, messages) in self.crossings.withheld() {
            *withheld.entry(crowd.of(receiver)).or_default() += messages;
        }
        withheld
    }

    /// One of the two lived in a worker that is gone.
    fn is_excused(&self, conversation: &Conversation) -> bool {
        let has = |worker: &Worker, person| {
            let (existing, newcomers_from) = (self.existing, self.newcomers_from);
            OwnPart { part: worker.part, existing, newcomers_from }.has(person)
        };
        self.workers
            .iter()
            .filter(|worker| worker.lost_at_s.is_some())
            .any(|lost| has(lost, conversation.sender) || has(lost, conversation.receiver))
    }

    pub(crate) fn summaries(&self) -> Vec<WorkerSummary> {
        self.workers.iter().map(|worker| worker.summary(self.existing)).collect()
    }
}
