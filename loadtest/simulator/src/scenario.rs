//! An experiment as data: what is simulated, what is varied, and what must come out.
//!
//! A file is TOML; [`Scenario`] documents its keys. Everything that may be varied is a list, and every combination is a
//! run: laws of admission, service models, kinds of clients, faults, failure rates, numbers of elephants, overload
//! factors.

mod check;
mod error;
mod files;
mod resolve;

pub use check::{Check, Metric};
pub use error::ScenarioError;
pub(crate) use error::likest;
pub use files::shipped;
pub use resolve::Key;
pub(crate) use resolve::{base, plans};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::client::Cohort;
use crate::fault::Fault;
use crate::policy::Law;

/// One experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    /// The number that `reference/overload.md` c.2 gives it, such as `E1`.
    pub experiment: String,
    /// What it shows, for readers of the report.
    pub about: String,
    /// By what laws are compared with each other here.
    pub compare: Metric,
    /// All of them when the key is absent.
    #[serde(default = "all_laws")]
    pub policies: Vec<Law>,
    /// Offered load over capacity. 0: only the classes that do not scale.
    pub factors: Vec<f64>,
    /// Seconds that are counted.
    pub seconds: f64,
    /// Seconds before them.
    pub warmup_seconds: f64,
    /// Seconds after them in which calls may still end.
    #[serde(default = "settle_seconds")]
    pub settle_seconds: f64,
    /// Later factors: `{ at_s = 20, factor = 10 }`; the run's own factor is replaced at that time of the run.
    #[serde(default)]
    pub steps: Vec<Step>,
    pub gateways: Gateways,
    /// Without them the gateways do the work.
    pub workers: Option<Workers>,
    pub services: Vec<Service>,
    #[serde(default)]
    pub network: Network,
    pub clients: Clients,
    pub populations: Vec<Cohorts>,
    pub classes: Vec<Traffic>,
    #[serde(default)]
    pub faults: Vec<Fault>,
    #[serde(default = "fault_seconds")]
    pub fault_seconds: f64,
    /// Shares of served calls that end in an error.
    #[serde(default)]
    pub failures: Vec<f64>,
    /// Numbers of clients that call `clients.elephant_weight` times as often as the others.
    #[serde(default)]
    pub elephants: Vec<u32>,
    pub bursts: Option<Bursts>,
    pub autoscaler: Option<Autoscaler>,
    pub cache: Option<Cache>,
    #[serde(default)]
    pub checks: Vec<Check>,
    /// What is different in a reduced suite.
    #[serde(default)]
    pub reduced: Reduced,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Seconds of the run.
    pub at_s: f64,
    pub factor: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateways {
    pub count: u32,
    pub cores: f64,
    /// Microseconds of a core for reading headers and deciding.
    pub refusal_us: f64,
    /// Microseconds of a core for passing a call on; used when there are workers.
    #[serde(default)]
    pub pass_us: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workers {
    pub count: u32,
    pub cores: f64,
    pub refusal_us: f64,
}

/// What a call takes where the work is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub name: String,
    /// Milliseconds of a core, on the average; exponentially distributed.
    pub cpu_ms: f64,
    /// Nine in ten calls are short and one takes ten times as long, instead.
    #[serde(default)]
    pub bimodal: bool,
    /// Milliseconds at a place without using a processor: under a lock, or waiting for a store.
    #[serde(default)]
    pub stay_ms: f64,
    /// Places: 1 is a lock.
    #[serde(default = "one")]
    pub places: u32,
    /// By how much of itself a stay gets longer for each who waits.
    #[serde(default)]
    pub contention: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Milliseconds one way between a client and a gateway.
    pub client_ms: f64,
    /// Microseconds one way between a gateway and a worker.
    pub hop_us: f64,
}

impl Default for Network {
    fn default() -> Self {
        Self { client_ms: 20.0, hop_us: 200.0 }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    pub count: u32,
    /// How many times as often elephants call.
    #[serde(default = "one_f64")]
    pub elephant_weight: f64,
    /// Milliseconds of a core for a handshake. Absent: connections are never lost.
    pub handshake_ms: Option<f64>,
    /// Seconds over which clients that cooperate spread their return.
    #[serde(default = "reconnect_spread_s")]
    pub reconnect_spread_s: f64,
}

/// A named mixture of cohorts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohorts {
    pub name: String,
    /// Cohort and its share.
    pub cohorts: BTreeMap<Cohort, f64>,
}

/// Calls of one tier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    pub tier: u8,
    /// Of capacity for a class that does not scale; of the rest of the offered load for one that does.
    pub share: f64,
    /// Whether the overload is made of it.
    #[serde(default = "yes")]
    pub scales: bool,
    #[serde(default = "deadline_ms")]
    pub deadline_ms: u64,
}

/// Arrivals come in bursts (a Markov-modulated Poisson process) instead of evenly; the mean stays.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bursts {
    /// Rate in a burst over the mean.
    pub factor: f64,
    pub mean_ms: f64,
    /// Share of the time in bursts.
    pub share: f64,
}

/// Seconds of each delay; see Kubernetes' `HorizontalPodAutoscaler`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Autoscaler {
    pub metric_interval_s: f64,
    pub decision_s: f64,
    pub start_s: f64,
    pub ready_s: f64,
    /// Share of busy processors that it aims for.
    pub target: f64,
    pub most: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Work of a miss over that of a hit.
    pub miss: f64,
    /// Served calls that fill two thirds of it.
    pub fill: f64,
}

/// Replacements for a suite that must be quick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reduced {
    pub policies: Option<Vec<Law>>,
    pub factors: Option<Vec<f64>>,
    pub seconds: Option<f64>,
    pub warmup_seconds: Option<f64>,
    pub services: Option<Vec<String>>,
    pub populations: Option<Vec<String>>,
    pub faults: Option<Vec<Fault>>,
    pub failures: Option<Vec<f64>>,
    pub elephants: Option<Vec<u32>>,
    pub clients: Option<u32>,
    /// Left out altogether.
    #[serde(default)]
    pub skip: bool,
}

fn all_laws() -> Vec<Law> {
    Law::ALL.to_vec()
}

fn settle_seconds() -> f64 {
    5.0
}

fn fault_seconds() -> f64 {
    10.0
}

fn reconnect_spread_s() -> f64 {
    10.0
}

fn deadline_ms() -> u64 {
    1_000
}

fn one() -> u32 {
    1
}

fn one_f64() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

impl Scenario {
    /// Reads a file's text; `origin` names it in errors.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ScenarioError> {
        let scenario: Self =
            toml::from_str(text).map_err(|error| ScenarioError::from_toml(&error, text, origin))?;
        scenario.validate(origin)?;
        Ok(scenario)
    }

    fn validate(&self, origin: &str) -> Result<(), ScenarioError> {
        let wrong = |key: &str, message: &str| {
            Err(ScenarioError::Value {
                origin: origin.to_owned(),
                key: key.to_owned(),
                message: message.to_owned(),
            })
        };
        let lists = [
            ("policies", self.policies.is_empty()),
            ("factors", self.factors.is_empty()),
            ("services", self.services.is_empty()),
            ("populations", self.populations.is_empty()),
            ("classes", self.classes.is_empty()),
        ];
        if let Some((key, _)) = lists.into_iter().find(|(_, empty)| *empty) {
            return wrong(key, "must not be empty");
        }
        let positive = [
            ("seconds", self.seconds),
            ("warmup_seconds", self.warmup_seconds),
            ("gateways.cores", self.gateways.cores),
            ("gateways.count", f64::from(self.gateways.count)),
            ("clients.count", f64::from(self.clients.count)),
            ("workers.cores", self.workers.as_ref().map_or(1.0, |workers| workers.cores)),
            ("workers.count", self.workers.as_ref().map_or(1.0, |workers| f64::from(workers.count))),
        ];
        if let Some((key, _)) = positive
            .into_iter()
            .find(|(_, value)| value.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater))
        {
            return wrong(key, "must be above 0");
        }
        if self.factors.iter().any(|factor| !(0.0..=1_000.0).contains(factor)) {
            return wrong("factors", "must be between 0 and 1000");
        }
        if self.services.iter().any(|service| service.cpu_ms <= 0.0) {
            return wrong("services.cpu_ms", "must be above 0");
        }
        if self.classes.iter().any(|class| !(1..=7).contains(&class.tier)) {
            return wrong("classes.tier", "must be between 1 and 7");
        }
        if self.bursts.is_some_and(|bursts| !(bursts.share > 0.0 && bursts.factor * bursts.share <= 1.0)) {
            return wrong(
                "bursts.factor",
                "times bursts.share must not be above 1, or nothing is left between",
            );
        }
        let scaling = self.classes.iter().any(|class| class.scales && class.share > 0.0);
        if !scaling && self.factors.iter().any(|factor| *factor > 0.0) {
            return wrong(
                "classes.scales",
                "must be true for one class with a share, for the factors to mean something",
            );
        }
        Ok(())
    }

    /// The same experiment, small enough for every run of the tests. `None`: not part of it.
    pub fn reduced(&self) -> Option<Self> {
        let reduced = self.reduced.clone();
        if reduced.skip {
            return None;
        }
        let mut small = self.clone();
        small.policies = reduced.policies.unwrap_or(small.policies);
        small.factors = reduced.factors.unwrap_or(small.factors);
        small.seconds = reduced.seconds.unwrap_or(small.seconds);
        small.warmup_seconds = reduced.warmup_seconds.unwrap_or(small.warmup_seconds);
        small.faults = reduced.faults.unwrap_or(small.faults);
        small.failures = reduced.failures.unwrap_or(small.failures);
        small.elephants = reduced.elephants.unwrap_or(small.elephants);
        small.clients.count = reduced.clients.unwrap_or(small.clients.count);
        if let Some(names) = reduced.services {
            small.services.retain(|service| names.contains(&service.name));
        }
        if let Some(names) = reduced.populations {
            small.populations.retain(|population| names.contains(&population.name));
        }
        Some(small)
    }
}
