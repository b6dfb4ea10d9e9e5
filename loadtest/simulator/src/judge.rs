//! Reads the figures of runs against what must hold, and laws against each other.

use serde::{Deserialize, Serialize};

use crate::outcome::{Outcome, Row, RunOutcome, Series, ServiceCapacity};
use crate::policy::Law;
use crate::scenario::{Check, Metric, Scenario};

/// One law against ours, over all runs that both had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub policy: Law,
    pub ours_better: usize,
    pub equal: usize,
    pub ours_worse: usize,
    /// The runs in which ours was worse.
    pub worse_in: Vec<String>,
    /// Not worse in any, better in most.
    pub pass: bool,
}

/// Fills in what a run can only know from the others.
pub(crate) fn relate(runs: &mut [RunOutcome], capacities: &[ServiceCapacity]) {
    let peers: Vec<_> = runs.iter().map(|run| (run.key.clone(), run.figures.goodput_per_s)).collect();
    for run in runs {
        let Some(service) = capacities.iter().find(|known| known.service == run.key.service) else {
            continue;
        };
        let capacity = service.capacity.per_s;
        let own =
            peers.iter().filter(|(key, _)| key.policy == run.key.policy && key.service == run.key.service);
        let peak = own.map(|(_, goodput)| *goodput).fold(capacity, f64::max);
        let figures = &mut run.figures;
        figures.goodput_over_peak = figures.goodput_per_s / peak;
        let possible = capacity * service.ceiling(run.key.factor).min(run.key.factor);
        figures.goodput_over_ceiling = if possible > 0.0 { figures.goodput_per_s / possible } else { 0.0 };
        let attempts: u64 = run.tiers.iter().map(|tier| tier.attempts).sum();
        let offered: u64 = run.tiers.iter().map(|tier| tier.offered).sum();
        let attempts_per_s = figures.offered_per_s * attempts as f64 / offered.max(1) as f64;
        figures.seen_over_capacity = attempts_per_s / capacity;
    }
}

/// A row for each check.
pub(crate) fn rows(scenario: &Scenario, runs: &[RunOutcome]) -> Vec<Row> {
    scenario.checks.iter().filter_map(|check| row(scenario, check, runs)).collect()
}

/// `None` when no run is meant, as in a reduced suite.
fn row(scenario: &Scenario, check: &Check, runs: &[RunOutcome]) -> Option<Row> {
    let meant = |run: &&RunOutcome| {
        run.key.policy == check.policy
            && run.key.factor > 0.0
            && check.factor.is_none_or(|factor| factor == run.key.factor)
            && check.service.as_ref().is_none_or(|name| *name == run.key.service)
            && check.population.as_ref().is_none_or(|name| *name == run.key.population)
            && check.fault.is_none_or(|fault| Some(fault) == run.key.fault)
    };
    let seen: Vec<_> = runs
        .iter()
        .filter(meant)
        .filter_map(|run| Some((figure(scenario, check.metric, check.objective_ms, run, runs)?, run)))
        .collect();
    let badness = |value: f64| if check.at_least.is_some() { -value } else { value };
    let (value, worst) = seen.iter().max_by(|a, b| badness(a.0).total_cmp(&badness(b.0)))?;
    let high_enough = check.at_least.is_none_or(|least| *value >= least);
    let low_enough = check.at_most.is_none_or(|most| *value <= most);
    Some(Row {
        experiment: scenario.experiment.clone(),
        name: check.name.clone(),
        policy: check.policy,
        metric: check.metric,
        at_least: check.at_least,
        at_most: check.at_most,
        observed: value.is_finite().then_some(*value),
        worst: worst.key.label(),
        runs: seen.len(),
        pass: high_enough && low_enough,
    })
}

/// Infinite stands for never.
fn figure(
    scenario: &Scenario,
    metric: Metric,
    objective_ms: Option<f64>,
    run: &RunOutcome,
    runs: &[RunOutcome],
) -> Option<f64> {
    let figures = &run.figures;
    match metric {
        Metric::GoodputOverPeak => Some(figures.goodput_over_peak),
        Metric::GoodputOverCeiling => Some(figures.goodput_over_ceiling),
        Metric::SeenOverCapacity => Some(figures.seen_over_capacity),
        Metric::ExistingSuccess => figures.existing_success,
        Metric::ExistingP99OverQuiet => {
            let quiet = runs.iter().find(|quiet| {
                let mut key = run.key.clone();
                key.factor = 0.0;
                quiet.key == key
            });
            let quiet = quiet?.figures.existing_p99_ms?;
            Some(figures.existing_p99_ms.map_or(f64::INFINITY, |p99| p99 / (1.25 * quiet + 10.0)))
        }
        Metric::ExistingRecoveryMs => {
            let step = scenario.steps.last()?;
            Some(recovery_ms(&run.series, step.at_s, objective_ms.unwrap_or(250.0)).unwrap_or(f64::INFINITY))
        }
        Metric::ReturnSeconds => run.key.fault.map(|_| figures.return_s.unwrap_or(f64::INFINITY)),
        Metric::AttemptsPerCall => Some(figures.attempts_per_call),
        Metric::JainIndex => figures.jain_index,
        Metric::RefusedShare => Some(figures.refused_share),
    }
}

/// Of the buckets after a recovery, so many may still be outside the objective.
const STRAYS: f64 = 0.01;

/// Milliseconds from the step until 99 in 100 of the rest of the run's buckets are inside the objective, the
/// next second's all of them.
fn recovery_ms(series: &Series, step_s: f64, objective_ms: f64) -> Option<f64> {
    let first = (step_s / Series::STEP_S).round() as usize;
    let later = series.existing_p99_ms.get(first..)?;
    let inside: Vec<_> =
        later.iter().map(|p99| p99.is_none_or(|p99| f64::from(p99) <= objective_ms)).collect();
    let settled = |start: &usize| {
        let rest = &inside[*start..];
        let strays = rest.iter().filter(|inside| !**inside).count();
        rest.iter().take(10).all(|inside| *inside) && strays as f64 <= STRAYS * rest.len() as f64
    };
    let start = (0..inside.len()).find(settled)?;
    Some(start as f64 * 1e3 * Series::STEP_S)
}

/// Every law against ours.
pub(crate) fn compare(outcomes: &[(&Scenario, &Outcome)]) -> Vec<Comparison> {
    let others = Law::ALL.into_iter().filter(|law| *law != Law::OURS);
    others.map(|law| against(law, outcomes)).filter(|found| found.runs() > 0).collect()
}

impl Comparison {
    pub fn runs(&self) -> usize {
        self.ours_better + self.equal + self.ours_worse
    }
}

fn against(law: Law, outcomes: &[(&Scenario, &Outcome)]) -> Comparison {
    let mut found = Comparison {
        policy: law,
        ours_better: 0,
        equal: 0,
        ours_worse: 0,
        worse_in: Vec::new(),
        pass: false,
    };
    for (scenario, outcome) in outcomes {
        let metric = scenario.compare;
        let ours = outcome.runs.iter().filter(|run| run.key.policy == Law::OURS && run.key.factor > 0.0);
        for run in ours {
            let theirs = outcome
                .runs
                .iter()
                .find(|other| other.key.policy == law && other.key.same_but_policy(&run.key));
            let value = |run| figure(scenario, metric, None, run, &outcome.runs);
            let Some((ours, theirs)) = value(run).zip(theirs.and_then(value)) else { continue };
            let gain = if metric.more_is_better() { ours - theirs } else { theirs - ours };
            // Never against never is equal.
            if gain.is_nan() || gain.abs() <= metric.tolerance() {
                found.equal += 1;
            } else if gain > 0.0 {
                found.ours_better += 1;
            } else {
                found.ours_worse += 1;
                found.worse_in.push(format!("{}: {}", outcome.scenario, run.key.label()));
            }
        }
    }
    found.pass = found.ours_worse == 0 && 2 * found.ours_better > found.runs();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_is_counted_from_the_step_to_the_last_bad_bucket() {
        let mut series = Series { existing_p99_ms: vec![Some(50.0); 200], ..Series::default() };
        series.existing_p99_ms[100] = Some(400.0);
        series.existing_p99_ms[101] = Some(Series::UNANSWERED);
        assert_eq!(recovery_ms(&series, 10.0, 250.0), Some(200.0));
        assert_eq!(recovery_ms(&series, 10.0, 20.0), None);
    }
}
