//! Gates that a user writes: `send.response.p99 < 250ms`, on the command line or in a file.
//!
//! A check is a figure, a comparison, a value, and words for when it counts:
//!
//! ```text
//! send.response.p99 < 250ms any 10s after warmup abort
//! ```
//!
//! * `any 10s`: it must hold in any ten seconds of the run, one after another, instead of over the whole run.
//! * `after warmup` or `after 30s`: what ended before does not count.
//! * `abort`: the run ends as soon as it is missed.
//!
//! An answer counts in the second in which it came. Where nothing was observed a check does not pass.

mod file;
mod parse;
mod watch;

use std::fmt;

pub use file::{GateFile, GateFileError};
pub use parse::ParseError;
use serde::{Deserialize, Serialize};
pub use watch::{Seen, Watch};

use crate::cohorts::Cohort;
use crate::slo::{Comparison, Unit};
use crate::{summary, workload};

/// Names of operations that are short, or that other tools use.
const ALIASES: [(&str, &str); 5] = [
    ("send", summary::EXISTING_SEND.0),
    ("signup", summary::SIGN_UP.0),
    ("verify", "check_code"),
    ("discover", "discover_contacts"),
    ("e2e", "deliver"),
];

/// Figures that are known only when a run is over.
const FINAL: [(&str, Unit, &str); 15] = [
    ("e2e.lost", Unit::Count, crate::slo::figure::LEDGER_LOST),
    ("e2e.duplicated", Unit::Count, crate::slo::figure::LEDGER_DUPLICATED),
    ("e2e.corrupted", Unit::Count, crate::slo::figure::LEDGER_CORRUPTED),
    ("e2e.reordered", Unit::Count, crate::slo::figure::LEDGER_REORDERED),
    ("e2e.acked", Unit::Count, crate::slo::figure::LEDGER_ACKED),
    ("e2e.delivered", Unit::Count, crate::slo::figure::LEDGER_DELIVERED),
    ("e2e.withheld", Unit::Count, crate::slo::figure::LEDGER_WITHHELD),
    ("e2e.repeated", Unit::Count, crate::slo::figure::LEDGER_REPEATED),
    ("harm.p99", Unit::Ms, crate::slo::figure::HARM_P99_MS),
    ("generator.lag.p99", Unit::Ms, crate::slo::figure::GENERATOR_LAG_P99_MS),
    ("generator.steal", Unit::Ratio, crate::slo::figure::GENERATOR_STEAL_RATIO),
    ("generator.dropped", Unit::Count, crate::slo::figure::GENERATOR_DROPPED),
    ("server.cpu_per_op", Unit::Us, crate::slo::figure::SERVER_CPU_US_PER_OP),
    ("server.memory_per_session", Unit::Bytes, crate::slo::figure::SERVER_BYTES_PER_SESSION),
    ("fault.recovery", Unit::Ms, crate::slo::figure::FAULT_RECOVERY_MS),
];

/// The operations that a run may record.
pub fn operations() -> Vec<&'static str> {
    let steps = [
        workload::ENTER_ROOM,
        workload::POLL_ROOM,
        workload::FINISH_SIGN_UP,
        workload::START_VERIFICATION,
        workload::RECEIVE_CODE,
        workload::RESEND_CODE,
        workload::CHECK_CODE,
        workload::CREATE_ACCOUNT,
        workload::DISCOVER,
        workload::OPEN_SESSION,
        workload::FETCH_KEYS,
        workload::FIRST_SEND,
        workload::PUMP,
        workload::REPLY,
        workload::DELIVER,
        summary::SIGN_UP,
        summary::EXISTING_SEND,
    ];
    let cohorts = Cohort::ALL.into_iter().filter(|cohort| !cohort.is_polite()).map(Cohort::operation);
    steps.into_iter().chain(cohorts).map(|operation| operation.0).collect()
}

/// A check as it was written: how it is kept with a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check(pub String);

/// A check that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// As it was written.
    pub text: String,
    pub metric: Metric,
    pub comparison: Comparison,
    /// In the unit of the metric.
    pub threshold: f64,
    /// Seconds of which any must hold, one after another.
    pub window_s: Option<u64>,
    pub after: After,
    pub abort: bool,
}

/// What a rule looks at.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    Latency {
        operation: String,
        kind: Kind,
        statistic: Statistic,
    },
    Count {
        operation: String,
        count: Count,
    },
    /// A figure of the whole run.
    Final {
        figure: &'static str,
        unit: Unit,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Response,
    Service,
    Lag,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    Quantile(f64),
    Mean,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Failures of what succeeded or failed.
    ErrorRate,
    SuccessRate,
    /// Refusals of what was answered.
    RefusedRate,
    /// Successes a second.
    Rate,
    Offered,
    Ok,
    Refused,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Start,
    /// The calm before the surge.
    Warmup,
    Seconds(u64),
}

impl Kind {
    /// As tags of histograms have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Service => "service",
            Self::Lag => "lag",
        }
    }
}

impl Rule {
    /// # Errors
    ///
    /// With the position of what was not understood, and what may have been meant.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::rule(text)
    }

    pub fn check(&self) -> Check {
        Check(self.text.clone())
    }
}

impl Metric {
    /// A figure alone, such as `send.response.p99`.
    ///
    /// # Errors
    ///
    /// With the position of what was not understood.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::figure(text)
    }

    pub fn unit(&self) -> Unit {
        match self {
            Self::Latency { .. } => Unit::Ms,
            Self::Count { count, .. } => match count {
                Count::ErrorRate | Count::SuccessRate | Count::RefusedRate => Unit::Ratio,
                Count::Rate => Unit::PerSecond,
                _ => Unit::Count,
            },
            Self::Final { unit, .. } => *unit,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
