//! Latency and outcomes of every operation, recorded from many tasks at once.
//!
//! Three histograms for each operation: *response* (planned to end, what a person waits for), *service* (sent to
//! end, what the server took) and *lag* (planned to sent, what this generator added). A client that blames the
//! generator's lag on the server, or hides a stall by asking less, is told apart by the three together.
//!
//! A started operation always ends in a record: a [`Timer`] that is dropped counts as a failure at its elapsed time.
//! So `offered = ok + refused + failed + waiting` once nothing is in flight. Refusals are answers by design and quick, so they
//! are counted but kept out of response and service, which they would flatter.

mod latency;
mod shard;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

pub use latency::{Latency, Sparse};
use shard::Shard;
pub use shard::{Second, Totals};

/// An operation's name, as it appears in the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operation(pub &'static str);

/// Why an operation did not succeed: a short name from a closed set, such as a status code.
pub type Reason = &'static str;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// The service said no, on purpose: overloaded, rate-limited, asked to wait.
    Refused(Reason),
    Failed(Reason),
    /// The run was over while a person waited for a turn, with a place to come back with: neither success nor failure.
    StillWaiting,
}

/// The reason recorded when a [`Timer`] is dropped without an outcome.
pub const CANCELLED: Reason = "cancelled";

/// A part of the run, by planned time, for which figures are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    pub name: &'static str,
    /// Since the start of the run; it lasts until the next phase.
    pub from: Duration,
}

/// The recorder of a run. Recording takes one uncontended lock and never waits for a reader of results.
#[derive(Debug)]
pub struct Stats {
    started: Instant,
    phases: Vec<Phase>,
    /// One for each thread that records, roughly.
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

impl Stats {
    /// `phases` are in order of time; the first one also takes whatever was planned before it. Every second is kept until it is [collected](Self::collect).
    pub fn new(started: Instant, phases: Vec<Phase>) -> Arc<Self> {
        Self::of_shards(started, phases, Shard::default)
    }

    /// For what lasts as long as it lasts and of which nobody wants to see the course, such as signing up everybody: nothing is kept of seconds, which are
    /// a quarter of a megabyte for each operation.
    pub fn of_totals(started: Instant, phase: &'static str) -> Arc<Self> {
        Self::of_shards(started, vec![Phase { name: phase, from: Duration::ZERO }], Shard::of_totals)
    }

    fn of_shards(started: Instant, phases: Vec<Phase>, shard: fn() -> Shard) -> Arc<Self> {
        let shards = thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
        let shards = (0..shards).map(|_| Mutex::new(shard())).collect();
        Arc::new(Self { started, phases, shards, hasher: RandomState::new() })
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// Starts an operation now that was due at `planned`. Call it immediately before sending.
    pub fn start(self: &Arc<Self>, operation: Operation, planned: Instant) -> Timer {
        let sent = Instant::now();
        self.shard().sent(
            operation,
            self.phase_of(planned),
            self.second_of(planned),
            self.second_of(sent),
            sent - planned,
        );
        Timer { stats: Some(Arc::clone(self)), operation, planned, sent }
    }

    /// Records an operation whose times were taken elsewhere, such as a delivery.
    pub fn record(
        &self,
        operation: Operation,
        planned: Instant,
        sent: Instant,
        ended: Instant,
        outcome: Outcome,
    ) {
        let phase = self.phase_of(planned);
        let mut shard = self.shard();
        shard.sent(operation, phase, self.second_of(planned), self.second_of(sent), sent - planned);
        shard.ended(operation, phase, self.second_of(ended), ended - planned, ended - sent, outcome);
    }

    /// Every operation seen so far.
    pub fn operations(&self) -> Vec<Operation> {
        let mut operations: Vec<_> =
            self.locked().flat_map(|shard| shard.operations().collect::<Vec<_>>()).collect();
        operations.sort_unstable();
        operations.dedup();
        operations
    }

    /// An operation's figures over the whole run so far.
    pub fn totals(&self, operation: Operation) -> Totals {
        let mut totals = Totals::default();
        for shard in self.locked() {
            for phase in shard.phases(operation) {
                totals.add(phase);
            }
        }
        totals
    }

    /// An operation's figures in one phase so far.
    pub fn totals_in(&self, operation: Operation, phase: &str) -> Totals {
        let mut totals = Totals::default();
        let Some(index) = self.phases.iter().position(|p| p.name == phase) else {
            return totals;
        };
        for shard in self.locked() {
            if let Some(phase) = shard.phase(operation, index) {
                totals.add(phase);
            }
        }
        totals
    }

    /// The lag of everything sent so far: whether this generator kept up.
    pub fn lag(&self) -> Latency {
        let mut lag = Latency::default();
        for operation in self.operations() {
            lag.add(&self.totals(operation).lag);
        }
        lag
    }

    /// Takes what was recorded in seconds that are over, by operation. Call it every second; memory is bounded by
    /// the time between calls. A second may appear again later with what was recorded late.
    pub fn collect(&self, now: Instant) -> BTreeMap<(u64, Operation), Second> {
        self.collect_before(self.second_of(now))
    }

    /// Takes everything that is left, including the current second.
    pub fn collect_all(&self) -> BTreeMap<(u64, Operation), Second> {
        self.collect_before(u64::MAX)
    }

    fn collect_before(&self, second: u64) -> BTreeMap<(u64, Operation), Second> {
        let mut collected = BTreeMap::new();
        for shard in &self.shards {
            // Only the taking happens under the lock; merging histograms would hold up the recorders.
            let taken = lock(shard).take_before(second);
            for (key, part) in taken {
                collected.entry(key).or_insert_with(Second::default).add(&part);
            }
        }
        collected
    }

    fn phase_of(&self, planned: Instant) -> usize {
        let at = planned.saturating_duration_since(self.started);
        self.phases.partition_point(|phase| phase.from <= at).saturating_sub(1)
    }

    fn second_of(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_secs()
    }

    fn shard(&self) -> MutexGuard<'_, Shard> {
        let hash = usize::try_from(self.hasher.hash_one(thread::current().id()) >> 33).unwrap_or(0);
        lock(&self.shards[hash % self.shards.len()])
    }

    fn locked(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shards.iter().map(lock)
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A panic while counting leaves at worst one count short.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An operation in flight.
#[derive(Debug)]
#[must_use = "dropping it records a cancelled operation"]
pub struct Timer {
    stats: Option<Arc<Stats>>,
    operation: Operation,
    planned: Instant,
    sent: Instant,
}

impl Timer {
    pub fn sent(&self) -> Instant {
        self.sent
    }

    pub fn finish(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(stats) = self.stats.take() else { return };
        let ended = Instant::now();
        let second = stats.second_of(ended);
        let phase = stats.phase_of(self.planned);
        stats.shard().ended(self.operation, phase, second, ended - self.planned, ended - self.sent, outcome);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.end(Outcome::Failed(CANCELLED));
    }
}

#[cfg(test)]
mod tests;
