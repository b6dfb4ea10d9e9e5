//! What came of a scenario: figures of each run, a row for each check.

use serde::{Deserialize, Serialize};

use crate::capacity::Capacity;
use crate::measure::{Bucket, EXISTING, Measure};
use crate::policy::Law;
use crate::scenario::{Key, Metric};
use crate::time::Nanos;
use crate::world::{CallEnd, SAMPLE};

/// A scenario that was played.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub scenario: String,
    pub experiment: String,
    pub about: String,
    pub compare: Metric,
    pub seed: u64,
    /// What each service could do, found by sweep.
    pub capacities: Vec<ServiceCapacity>,
    pub runs: Vec<RunOutcome>,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceCapacity {
    pub service: String,
    #[serde(flatten)]
    pub capacity: Capacity,
    /// Cost of a refusal over that of a served call; none when processors are not the bottleneck.
    pub refusal_cost: Option<f64>,
}

impl ServiceCapacity {
    /// Most of capacity that can be served at an overload of `factor` (`overload.md` c.3).
    pub fn ceiling(&self, factor: f64) -> f64 {
        let cost = self.refusal_cost.unwrap_or(0.0);
        ((1.0 - cost * factor.max(1.0)) / (1.0 - cost)).max(0.0)
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunOutcome {
    #[serde(flatten)]
    pub key: Key,
    pub figures: Figures,
    pub tiers: Vec<TierOutcome>,
    pub series: Series,
}

/// Of the counted time of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub offered_per_s: f64,
    /// Calls answered in time.
    pub goodput_per_s: f64,
    /// Over the peak of the same law, or of the best static limit if that is higher.
    pub goodput_over_peak: f64,
    pub goodput_over_ceiling: f64,
    pub seen_over_capacity: f64,
    /// Of tiers 1 to 3; none without them.
    pub existing_success: Option<f64>,
    pub existing_p99_ms: Option<f64>,
    pub attempts_per_call: f64,
    /// Only where clients are told apart.
    pub jain_index: Option<f64>,
    pub refused_share: f64,
    /// Seconds until goodput was back after a fault; none: never, or no fault.
    pub return_s: Option<f64>,
    /// Calls that ended more or less than once; anything but 0 is a fault of the simulator.
    pub unaccounted: i64,
    /// Events of the engine.
    pub events: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TierOutcome {
    pub tier: u8,
    pub offered: u64,
    pub attempts: u64,
    pub refused_attempts: u64,
    pub ok: u64,
    pub refused: u64,
    pub timed_out: u64,
    pub failed: u64,
    pub held_back: u64,
    pub hung_up: u64,
    pub unfinished: u64,
    pub goodput_per_s: f64,
    /// Milliseconds from birth to answer of those answered in time.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// One value for each 100 ms of the whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub offered: Vec<u32>,
    pub attempts: Vec<u32>,
    pub ok: Vec<u32>,
    pub refused: Vec<u32>,
    /// Milliseconds, of tiers 1 to 3; [`Series::UNANSWERED`] when more than one in a hundred got no answer.
    pub existing_p99_ms: Vec<Option<f32>>,
}

impl Series {
    /// Seconds between two values.
    pub const STEP_S: f64 = 0.1;

    /// Stands for a time without end, which JSON cannot say.
    pub const UNANSWERED: f32 = 60_000.0;
}

/// Something that must hold, and what was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub experiment: String,
    pub name: String,
    pub policy: Law,
    pub metric: Metric,
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
    /// Of the worst run; none: never.
    pub observed: Option<f64>,
    /// Which run that was.
    pub worst: String,
    pub runs: usize,
    pub pass: bool,
}

impl RunOutcome {
    pub(crate) fn new(key: Key, measure: &Measure, fault: Option<(Nanos, Nanos)>) -> Self {
        let tiers = tiers(measure);
        let offered: u64 = tiers.iter().map(|tier| tier.offered).sum();
        let attempts: u64 = tiers.iter().map(|tier| tier.attempts).sum();
        let refused: u64 = tiers.iter().map(|tier| tier.refused_attempts).sum();
        let existing: Vec<_> = tiers.iter().filter(|tier| EXISTING.contains(&tier.tier)).collect();
        let wanted: u64 = existing.iter().map(|tier| tier.offered - tier.hung_up).sum();
        let served: u64 = existing.iter().map(|tier| tier.ok).sum();
        let ended: u64 = measure.tiers.iter().map(|tier| tier.ended_ever).sum();
        let born: u64 = measure.tiers.iter().map(|tier| tier.born_ever).sum();
        let made: u64 = measure.tiers.iter().map(|tier| tier.attempts_ever).sum();
        let attempts_gone = measure.attempts_over + measure.attempts_left;
        let figures = Figures {
            offered_per_s: offered as f64 / measure.span(),
            goodput_per_s: measure.goodput(),
            existing_success: (wanted > 0).then(|| served as f64 / wanted as f64),
            existing_p99_ms: existing_p99(measure),
            attempts_per_call: attempts as f64 / offered.max(1) as f64,
            jain_index: jain(&measure.clients),
            refused_share: refused as f64 / attempts.max(1) as f64,
            return_s: fault.and_then(|(from, until)| returned(measure, from, until)),
            unaccounted: (born as i64 - ended as i64).abs() + (made as i64 - attempts_gone as i64).abs(),
            events: measure.events,
            ..Figures::default()
        };
        Self { key, figures, tiers, series: series(measure) }
    }
}

fn tiers(measure: &Measure) -> Vec<TierOutcome> {
    let tiers = measure.tiers.iter().zip(0u8..).filter(|(count, _)| count.born > 0 || count.attempts > 0);
    let outcome = |(count, tier): (&crate::measure::TierCount, u8)| {
        let ended = |end: CallEnd| count.ends[end as usize];
        let ok = ended(CallEnd::Ok);
        let millis = |share| (ok > 0).then(|| count.latency.value_at_quantile(share) as f64 / 1e3);
        TierOutcome {
            tier,
            offered: count.born,
            attempts: count.attempts,
            refused_attempts: count.refused_attempts,
            ok,
            refused: ended(CallEnd::Refused),
            timed_out: ended(CallEnd::TimedOut),
            failed: ended(CallEnd::Failed),
            held_back: ended(CallEnd::HeldBack),
            hung_up: ended(CallEnd::HungUp),
            unfinished: ended(CallEnd::Unfinished),
            goodput_per_s: ok as f64 / measure.span(),
            p50_ms: millis(0.5),
            p99_ms: millis(0.99),
        }
    };
    tiers.map(outcome).collect()
}

fn existing_p99(measure: &Measure) -> Option<f64> {
    let mut all = measure.tiers.first()?.latency.clone();
    all.reset();
    for (count, tier) in measure.tiers.iter().zip(0u8..) {
        if EXISTING.contains(&tier) {
            all.add(&count.latency).ok()?;
        }
    }
    (!all.is_empty()).then(|| all.value_at_quantile(0.99) as f64 / 1e3)
}

fn series(measure: &Measure) -> Series {
    let buckets = &measure.buckets;
    Series {
        offered: buckets.iter().map(|bucket| bucket.born).collect(),
        attempts: buckets.iter().map(|bucket| bucket.attempts).collect(),
        ok: buckets.iter().map(|bucket| bucket.ok).collect(),
        refused: buckets.iter().map(|bucket| bucket.refused).collect(),
        existing_p99_ms: buckets
            .iter()
            .map(|bucket| bucket.existing_p99.map(|p99| p99.min(Series::UNANSWERED)))
            .collect(),
    }
}

/// Jain's index over what each client got of its max-min fair share: 1 is fair, 1/n is all for one.
fn jain(clients: &[(u32, u32)]) -> Option<f64> {
    let mut wanting: Vec<_> = clients.iter().filter(|(wanted, _)| *wanted > 0).collect();
    wanting.sort_unstable_by_key(|(wanted, _)| *wanted);
    let mut left: f64 = wanting.iter().map(|(_, got)| f64::from(*got)).sum();
    let (mut sum, mut squares) = (0.0, 0.0);
    for (index, (wanted, got)) in wanting.iter().enumerate() {
        // Those who want less than an equal share get all of it and leave the rest to the others.
        let share = (left / (wanting.len() - index) as f64).min(f64::from(*wanted));
        left -= share;
        let satisfied = if share > 0.0 { f64::from(*got) / share } else { 0.0 };
        sum += satisfied;
        squares += satisfied * satisfied;
    }
    (squares > 0.0).then(|| sum * sum / (wanting.len() as f64 * squares))
}

/// Windows in which goodput is compared with what it was before, in buckets.
const WINDOW: usize = 20;
const BACK: f64 = 0.99;
/// What all the rest of the run must reach, too: a run that comes back to fall again has not come back.
const BACK_FOR_GOOD: f64 = 0.985;
/// A law that served less than this of what was offered before the fault has nothing to come back to.
const WELL_BEFORE: f64 = 0.9;

/// Seconds from the end of a fault until goodput is what it was before.
///
/// Goodput is taken over what was offered at the same time, because arrivals vary by more than the hundredth that is
/// looked for. What was before is measured in the second half of the time before the fault.
fn returned(measure: &Measure, fault: Nanos, fault_end: Nanos) -> Option<f64> {
    let bucket = |at: Nanos| (at.0 / SAMPLE.0) as usize;
    let ratio = |buckets: &[Bucket]| {
        let born: u32 = buckets.iter().map(|bucket| bucket.born).sum();
        let ok: u32 = buckets.iter().map(|bucket| bucket.ok).sum();
        f64::from(ok) / f64::from(born.max(1))
    };
    let before = ratio(measure.buckets.get(bucket(fault) / 2..bucket(fault))?).min(1.0);
    if before < WELL_BEFORE {
        return None;
    }
    let after = measure.buckets.get(bucket(fault_end)..)?;
    let starts = 0..after.len().checked_sub(WINDOW)?;
    let back = starts.into_iter().find(|start| {
        ratio(&after[*start..start + WINDOW]) >= BACK * before
            && ratio(&after[*start..]) >= BACK_FOR_GOOD * before
    });
    back.map(|start| start as f64 * Series::STEP_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_satisfaction_is_fair_and_one_for_all_is_not() {
        assert!((jain(&[(10, 10), (10, 10), (1_000, 50)]).unwrap() - 1.0).abs() < 1e-9);
        // Both mice get nothing: one of three is satisfied.
        assert!((jain(&[(10, 0), (10, 0), (1_000, 70)]).unwrap() - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(jain(&[(0, 0)]), None);
    }

    #[test]
    fn the_ceiling_is_that_of_the_reference() {
        let capacity = Capacity { per_s: 1.0, limits: [1, 1] };
        let service = ServiceCapacity { service: String::new(), capacity, refusal_cost: Some(0.01) };
        for (factor, ceiling) in [(0.5, 1.0), (2.0, 0.990), (4.0, 0.970), (10.0, 0.909)] {
            assert!((service.ceiling(factor) - ceiling).abs() < 0.0005, "{factor}");
        }
    }
}
