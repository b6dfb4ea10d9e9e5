//! `run.json`: what a run was told, written before its load begins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cohorts::{Members, Shares};
use crate::faults::Fault;
use crate::gates::{Check, ParseError, Rule};
use crate::run::SURGE;
use crate::summary::{Peak, PhaseSummary, Versions, WorkerSummary};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema_version: u32,
    pub profile: String,
    pub seed: u64,
    pub started_ms: u64,
    pub started_utc: String,
    /// Of the part with load.
    pub planned_s: f64,
    pub phases: Vec<PhaseSummary>,
    /// What was found and planned; what was achieved is 0 here.
    pub peak: Peak,
    /// With this `--peak-rate` the same load is planned again; `None` when the profile needs none.
    pub peak_rate: Option<f64>,
    pub existing_users: u64,
    pub code_cost: f64,
    /// Whether the gates that every run has are judged.
    pub default_gates: bool,
    pub gates: Vec<Check>,
    pub faults: Vec<Fault>,
    /// The command line, without the name of the program.
    pub arguments: Vec<String>,
    pub configuration: BTreeMap<String, String>,
    pub versions: Versions,
    /// The service that was started for the run. It outlives a load tool that is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_server_pid: Option<u32>,
    /// It is the part of a comparison in which the rude do nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
    /// Who does not behave, where somebody does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohorts: Option<CohortsAsked>,
    /// Who played it, where several did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerSummary>,
    /// This is only what one worker played of it: this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerSummary>,
    /// Runs that this one was merged from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged_from: Vec<String>,
}

/// Who of the existing users does not behave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CohortsAsked {
    /// As `--cohorts` has them.
    pub shares: String,
    /// Of how many users these are shares, in all workers together. With the seed, who is who follows.
    pub existing: u32,
    /// Of those who live here, by cohort; the polite among them.
    pub people: BTreeMap<String, u64>,
}

impl CohortsAsked {
    /// Who is who. `None`: a later version wrote what this one does not know.
    pub fn members(&self, seed: u64) -> Option<Members> {
        self.shares.parse::<Shares>().ok()?.members(self.existing, seed).ok()
    }

    /// With those of another load tool.
    pub fn add(&mut self, other: &Self) {
        for (cohort, people) in &other.people {
            *self.people.entry(cohort.clone()).or_default() += people;
        }
    }
}

impl Manifest {
    /// Of the load, without the calm.
    pub fn load_s(&self) -> f64 {
        let calm = self.phases.iter().find(|phase| phase.name == SURGE).map_or(0.0, |phase| phase.from_s);
        self.planned_s - calm
    }

    /// # Errors
    ///
    /// When a later version wrote one that this one does not know.
    pub fn rules(&self) -> Result<Vec<Rule>, ParseError> {
        self.gates.iter().map(|check| Rule::parse(&check.0)).collect()
    }
}
