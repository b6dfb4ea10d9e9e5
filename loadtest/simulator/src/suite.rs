//! Playing scenarios, alone and together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use serde::{Deserialize, Serialize};

use crate::capacity;
use crate::fault::{Fault, PAUSE};
use crate::judge::{self, Comparison};
use crate::outcome::{Outcome, RunOutcome, ServiceCapacity};
use crate::plan::Plan;
use crate::scenario::{Key, Scenario, ScenarioError, likest, plans, shipped};
use crate::time::Nanos;
use crate::world::World;

/// Names of suites: everything, and what every run of the tests can afford.
pub const SUITES: [&str; 2] = ["acceptance", "reduced"];

/// A set of scenarios that were played.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuiteOutcome {
    pub name: String,
    pub seed: u64,
    pub outcomes: Vec<Outcome>,
    pub comparisons: Vec<Comparison>,
}

impl SuiteOutcome {
    /// Rows and comparisons that do not hold.
    pub fn missed(&self) -> usize {
        let rows = self.outcomes.iter().flat_map(|outcome| &outcome.rows).filter(|row| !row.pass).count();
        rows + self.comparisons.iter().filter(|found| !found.pass).count()
    }
}

/// What is going on, for whoever waits.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    pub scenario: &'a str,
    /// Runs that are done, of how many.
    pub done: usize,
    pub of: usize,
}

/// Plays every run of a scenario. The same seed gives the same outcome.
pub fn run(scenario: &Scenario, seed: u64) -> Outcome {
    run_with(scenario, seed, &mut |_| {})
}

/// The same, telling how far it is.
pub fn run_with(scenario: &Scenario, seed: u64, progress: &mut dyn FnMut(Progress<'_>)) -> Outcome {
    let found = capacity::find(scenario, seed);
    let mut runs = play_all(scenario, plans(scenario, &found, seed), progress);
    let capacities = capacities(scenario, &found);
    judge::relate(&mut runs, &capacities);
    Outcome {
        scenario: scenario.name.clone(),
        experiment: scenario.experiment.clone(),
        about: scenario.about.clone(),
        compare: scenario.compare,
        seed,
        capacities,
        rows: judge::rows(scenario, &runs),
        runs,
    }
}

/// Plays all scenarios of a suite.
pub fn suite(name: &str, seed: u64) -> Result<SuiteOutcome, ScenarioError> {
    suite_with(name, seed, &mut |_| {})
}

/// The same, telling how far it is.
pub fn suite_with(
    name: &str,
    seed: u64,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<SuiteOutcome, ScenarioError> {
    let all = shipped(None)?;
    let scenarios: Vec<_> = match name {
        "acceptance" => all,
        "reduced" => all.iter().filter_map(Scenario::reduced).collect(),
        _ => {
            let valid: Vec<_> = SUITES.map(str::to_owned).to_vec();
            let suggestion = likest(name, &valid);
            return Err(ScenarioError::NoSuchSuite { name: name.to_owned(), suggestion, valid });
        }
    };
    Ok(play(name, &scenarios, seed, progress))
}

/// Plays scenarios that belong together.
pub fn play(
    name: &str,
    scenarios: &[Scenario],
    seed: u64,
    progress: &mut dyn FnMut(Progress<'_>),
) -> SuiteOutcome {
    let outcomes: Vec<_> = scenarios.iter().map(|scenario| run_with(scenario, seed, progress)).collect();
    let comparisons = judge::compare(&scenarios.iter().zip(&outcomes).collect::<Vec<_>>());
    SuiteOutcome { name: name.to_owned(), seed, outcomes, comparisons }
}

fn capacities(scenario: &Scenario, found: &[capacity::Capacity]) -> Vec<ServiceCapacity> {
    let services = scenario.services.iter().zip(found);
    services
        .map(|(service, capacity)| {
            let bound_by_processors = service.stay_ms == 0.0 && scenario.workers.is_none();
            let cost = scenario.gateways.refusal_us / 1e3 / service.cpu_ms;
            ServiceCapacity {
                service: service.name.clone(),
                capacity: *capacity,
                refusal_cost: bound_by_processors.then_some(cost),
            }
        })
        .collect()
}

/// Runs have nothing in common but what they are given, so every processor takes one after the other.
fn play_all(
    scenario: &Scenario,
    plans: Vec<(Key, Plan)>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Vec<RunOutcome> {
    let of = plans.len();
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::sync_channel(of.max(1));
    let threads = thread::available_parallelism().map_or(1, usize::from).min(of);
    let mut runs: Vec<_> = thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, plans) = (sender.clone(), &next, &plans);
            scope.spawn(move || {
                while let Some((key, plan)) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let measure = World::new(plan).run();
                    // The receiver lives until all are done, and has room for all.
                    sender.send(RunOutcome::new(key.clone(), &measure, fault_time(plan))).ok();
                }
            });
        }
        drop(sender);
        let mut runs = Vec::with_capacity(of);
        progress(Progress { scenario: &scenario.name, done: 0, of });
        for run in receiver {
            runs.push(run);
            progress(Progress { scenario: &scenario.name, done: runs.len(), of });
        }
        runs
    });
    let place = |run: &RunOutcome| plans.iter().position(|(key, _)| *key == run.key);
    runs.sort_by_key(place);
    runs
}

/// From when until when the fault does something.
fn fault_time(plan: &Plan) -> Option<(Nanos, Nanos)> {
    plan.fault.map(|(fault, from, until)| match fault {
        Fault::GcPause => (from, from + PAUSE),
        _ => (from, until),
    })
}
