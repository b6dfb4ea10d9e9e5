//! Reads the figures of runs against what must hold, and laws against each other.

use serde::{Deserialize, Serialize};

use crate::outcome::{Outcome, Row, RunOutcome, Series, ServiceCapacity};
use crate::policy::Law;
use crate::scenario::{Check, Metric, Scenario};

/// One law against ours, over all runs that both had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub policy: Law,
    /// Scenarios in which ours was better in some runs and worse in none; no better and no worse; worse in some run.
    pub scenarios: Tally,
    /// The same of single runs.
    pub runs: Tally,
    /// The runs in which ours was worse.
    pub worse_in: Vec<String>,
    /// Not worse in any run, better in most scenarios.
    pub pass: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub better: usize,
    pub equal: usize,
    pub worse: usize,
}

impl Tally {
    pub fn all(self) -> usize {
        self.better + self.equal + self.worse
    }

    fn add(&mut self, better: bool, worse: bool) {
        match (better, worse) {
            (_, true) => self.worse += 1,
            (true, false) => self.better += 1,
            (false, false) => self.equal += 1,
        }
    }
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
            && check.elephants.is_none_or(|elephants| elephants == run.key.elephants)
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
    others.map(|law| against(law, outcomes)).filter(|found| found.runs.all() > 0).collect()
}

fn against(law: Law, outcomes: &[(&Scenario, &Outcome)]) -> Comparison {
    let (mut scenarios, mut runs) = (Tally::default(), Tally::default());
    let mut worse_in = Vec::new();
    for (scenario, outcome) in outcomes {
        let gains = gains(law, scenario, outcome);
        let tolerance = scenario.compare.tolerance();
        for (gain, label) in &gains {
            // Never against never is no number, and equal.
            runs.add(*gain > tolerance, *gain < -tolerance);
            if *gain < -tolerance {
                worse_in.push(format!("{}: {label}", outcome.scenario));
            }
        }
        if !gains.is_empty() {
            let better = gains.iter().any(|(gain, _)| *gain > tolerance);
            scenarios.add(better, gains.iter().any(|(gain, _)| *gain < -tolerance));
        }
    }
    let pass = runs.worse == 0 && 2 * scenarios.better > scenarios.all();
    Comparison { policy: law, scenarios, runs, worse_in, pass }
}

/// By how much ours is better in each run that both had.
fn gains(law: Law, scenario: &Scenario, outcome: &Outcome) -> Vec<(f64, String)> {
    let metric = scenario.compare;
    let value = |run: &RunOutcome| figure(scenario, metric, None, run, &outcome.runs);
    let of = |law: Law| outcome.runs.iter().filter(move |run| run.key.policy == law && run.key.factor > 0.0);
    of(Law::OURS)
        .filter_map(|run| {
            let other = of(law).find(|other| other.key.same_but_policy(&run.key))?;
            let (ours, theirs) = (value(run)?, value(other)?);
            let gain = if metric.more_is_better() { ours - theirs } else { theirs - ours };
            Some((gain, run.key.label()))
        })
        .collect()
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
