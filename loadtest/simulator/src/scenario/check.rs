//! What must come out of an experiment.

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::policy::Law;

/// A figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Calls answered in time per second, over the most that this law or the best static limit reached.
    GoodputOverPeak,
    /// The same over what is possible when every refusal has its cost (`overload.md` c.3).
    GoodputOverCeiling,
    /// Attempts that clients made per second, over capacity.
    SeenOverCapacity,
    /// Share of calls of tiers 1 to 3 that were answered in time.
    ExistingSuccess,
    /// Their 99th percentile, over 1.25 times that of a quiet run plus 10 ms. Needs factor 0 among the factors.
    ExistingP99OverQuiet,
    /// Milliseconds from the last step until their 99th percentile is back in its objective for good.
    ExistingRecoveryMs,
    /// Seconds from the end of a fault until goodput is 99 % of what is offered, for good.
    ReturnSeconds,
    /// Attempts per call.
    AttemptsPerCall,
    /// Jain's index over satisfied demand of clients.
    JainIndex,
    /// Share of attempts that were refused.
    RefusedShare,
}

impl Metric {
    /// Whether more of it is better.
    pub fn more_is_better(self) -> bool {
        match self {
            Self::GoodputOverPeak | Self::GoodputOverCeiling | Self::ExistingSuccess | Self::JainIndex => {
                true
            }
            Self::SeenOverCapacity
            | Self::ExistingP99OverQuiet
            | Self::ExistingRecoveryMs
            | Self::ReturnSeconds
            | Self::AttemptsPerCall
            | Self::RefusedShare => false,
        }
    }

    /// Differences below it are chance, when two laws are compared.
    pub fn tolerance(self) -> f64 {
        match self {
            Self::GoodputOverPeak | Self::GoodputOverCeiling | Self::JainIndex => 0.01,
            Self::ExistingSuccess => 0.0005,
            Self::SeenOverCapacity | Self::AttemptsPerCall => 0.05,
            Self::ExistingP99OverQuiet => 0.1,
            Self::ExistingRecoveryMs => 100.0,
            Self::ReturnSeconds => 1.0,
            Self::RefusedShare => 1e-5,
        }
    }
}

/// A row of the table that a suite prints. It holds for every run that it names, so the worst one is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    pub name: String,
    pub metric: Metric,
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
    /// Ours when the key is absent.
    #[serde(default = "ours")]
    pub policy: Law,
    /// Milliseconds, for [`Metric::ExistingRecoveryMs`].
    pub objective_ms: Option<f64>,
    pub factor: Option<f64>,
    pub service: Option<String>,
    pub population: Option<String>,
    pub fault: Option<Fault>,
    pub elephants: Option<u32>,
}

fn ours() -> Law {
    Law::OURS
}
