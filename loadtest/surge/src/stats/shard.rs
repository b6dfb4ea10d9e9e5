//! What one thread, roughly, has recorded.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Latency, Operation, Outcome, Reason};

/// An operation's figures over some part of the run.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub offered: u64,
    pub ok: u64,
    pub refused: u64,
    pub failed: u64,
    pub waiting: u64,
    /// Why operations were refused or failed.
    pub reasons: BTreeMap<Reason, u64>,
    pub response: Latency,
    pub service: Latency,
    pub lag: Latency,
}

impl Totals {
    pub fn add(&mut self, other: &Totals) {
        self.offered += other.offered;
        self.ok += other.ok;
        self.refused += other.refused;
        self.failed += other.failed;
        self.waiting += other.waiting;
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        self.response.add(&other.response);
        self.service.add(&other.service);
        self.lag.add(&other.lag);
    }

    /// Successes of those that ended, were not refused and do not still wait; `None` when there were none.
    pub fn success_ratio(&self) -> Option<f64> {
        let judged = self.ok + self.failed;
        (judged > 0).then(|| self.ok as f64 / judged as f64)
    }

    /// Successes of those that ended and do not still wait, refusals among them; `None` when there were none.
    pub fn served_ratio(&self) -> Option<f64> {
        let judged = self.ok + self.failed + self.refused;
        (judged > 0).then(|| self.ok as f64 / judged as f64)
    }
}

/// An operation's figures in one second of the run: offered by planned time, lag by sending, the rest by end.
#[derive(Clone, Debug, Default)]
pub struct Second {
    pub offered: u64,
    pub ok: u64,
    pub refused: u64,
    pub failed: u64,
    pub waiting: u64,
    /// Why operations were refused or failed.
    pub reasons: BTreeMap<Reason, u64>,
    pub response: Latency,
    pub service: Latency,
    pub lag: Latency,
}

impl Second {
    pub fn add(&mut self, other: &Second) {
        self.offered += other.offered;
        self.ok += other.ok;
        self.refused += other.refused;
        self.failed += other.failed;
        self.waiting += other.waiting;
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        self.response.add(&other.response);
        self.service.add(&other.service);
        self.lag.add(&other.lag);
    }
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    /// A handful, so a scan beats a map.
    operations: Vec<(Operation, Recorded)>,
    only_totals: bool,
}

#[derive(Debug, Default)]
struct Recorded {
    /// By phase; boxed and made on first use, because a `Totals` holds three histograms of 80 KB.
    phases: Vec<Option<Box<Totals>>>,
    /// The few that were not collected yet.
    seconds: Vec<(u64, Box<Second>)>,
}

impl Shard {
    /// Keeps nothing of seconds.
    pub(super) fn of_totals() -> Self {
        Self { only_totals: true, ..Self::default() }
    }

    pub(super) fn sent(
        &mut self,
        operation: Operation,
        phase: usize,
        planned_second: u64,
        sent_second: u64,
        lag: Duration,
    ) {
        let only_totals = self.only_totals;
        let recorded = self.recorded(operation);
        let totals = recorded.totals(phase);
        totals.offered += 1;
        totals.lag.record(lag);
        if only_totals {
            return;
        }
        recorded.second(planned_second).offered += 1;
        recorded.second(sent_second).lag.record(lag);
    }

    pub(super) fn ended(
        &mut self,
        operation: Operation,
        phase: usize,
        second: u64,
        response: Duration,
        service: Duration,
        outcome: Outcome,
    ) {
        let only_totals = self.only_totals;
        let recorded = self.recorded(operation);
        let totals = recorded.totals(phase);
        match outcome {
            Outcome::Ok => totals.ok += 1,
            Outcome::Refused(reason) => {
                totals.refused += 1;
                *totals.reasons.entry(reason).or_default() += 1;
            }
            Outcome::Failed(reason) => {
                totals.failed += 1;
                *totals.reasons.entry(reason).or_default() += 1;
            }
            Outcome::StillWaiting => totals.waiting += 1,
        }
        let timed = !matches!(outcome, Outcome::Refused(_) | Outcome::StillWaiting);
        if timed {
            totals.response.record(response);
            totals.service.record(service);
        }

        if only_totals {
            return;
        }
        let second = recorded.second(second);
        match outcome {
            Outcome::Ok => second.ok += 1,
            Outcome::Refused(reason) => {
                second.refused += 1;
                *second.reasons.entry(reason).or_default() += 1;
            }
            Outcome::Failed(reason) => {
                second.failed += 1;
                *second.reasons.entry(reason).or_default() += 1;
            }
            Outcome::StillWaiting => second.waiting += 1,
        }
        if timed {
            second.response.record(response);
            second.service.record(service);
        }
    }

    pub(super) fn operations(&self) -> impl Iterator<Item = Operation> {
        self.operations.iter().map(|(operation, _)| *operation)
    }

    pub(super) fn phases(&self, operation: Operation) -> impl Iterator<Item = &Totals> {
        self.find(operation)
            .into_iter()
            .flat_map(|recorded| recorded.phases.iter().flatten().map(|totals| &**totals))
    }

    pub(super) fn phase(&self, operation: Operation, phase: usize) -> Option<&Totals> {
        self.find(operation)?.phases.get(phase)?.as_deref()
    }

    pub(super) fn take_before(&mut self, second: u64) -> Vec<((u64, Operation), Box<Second>)> {
        let mut taken = Vec::new();
        for (operation, recorded) in &mut self.operations {
            let over = recorded.seconds.extract_if(.., |(at, _)| *at < second);
            taken.extend(over.map(|(at, figures)| ((at, *operation), figures)));
        }
        taken
    }

    fn find(&self, operation: Operation) -> Option<&Recorded> {
        self.operations.iter().find(|(name, _)| *name == operation).map(|(_, recorded)| recorded)
    }

    fn recorded(&mut self, operation: Operation) -> &mut Recorded {
        let index = self.operations.iter().position(|(name, _)| *name == operation).unwrap_or_else(|| {
            self.operations.push((operation, Recorded::default()));
            self.operations.len() - 1
        });
        &mut self.operations[index].1
    }
}

impl Recorded {
    fn totals(&mut self, phase: usize) -> &mut Totals {
        if self.phases.len() <= phase {
            self.phases.resize_with(phase + 1, || None);
        }
        self.phases[phase].get_or_insert_default()
    }

    fn second(&mut self, second: u64) -> &mut Second {
        // The newest is the likeliest.
        let index = self.seconds.iter().rposition(|(at, _)| *at == second).unwrap_or_else(|| {
            self.seconds.push((second, Box::default()));
            self.seconds.len() - 1
        });
        &mut self.seconds[index].1
    }
}
