//! `summary.json`: the figures of a run for programs, and the source of the report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::events::Event;
use crate::faults::Recovery;
use crate::harm::Harm;
use crate::ledger::Counts;
use crate::slo::{ExitCode, GateResult, Verdict};
use crate::stats::{Latency, Operation, Totals};

/// Raised when a field changes its meaning or goes away; adding one does not count.
pub const SCHEMA_VERSION: u32 = 2;

/// A newcomer's whole way in, from asking for a code to having an account.
pub const SIGN_UP: Operation = Operation("sign_up");
/// An existing user's send, until it is acknowledged.
pub const EXISTING_SEND: Operation = Operation("existing_send");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub schema_version: u32,
    pub verdict: Verdict,
    pub exit_code: ExitCode,
    pub headline: String,
    pub profile: String,
    pub seed: u64,
    pub started_utc: String,
    pub duration_s: f64,
    pub phases: Vec<PhaseSummary>,
    pub peak: Peak,
    pub gates: Vec<GateResult>,
    pub existing: Existing,
    pub ledger: Counts,
    /// Absent when everybody is polite.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cohorts: Vec<CohortSummary>,
    /// Against the same run without the rude, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm: Option<Harm>,
    /// Absent when one process played all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerSummary>,
    /// Absent when nobody had to come through a waiting room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomSummary>,
    #[serde(default)]
    pub codes: Codes,
    pub operations: BTreeMap<String, OperationSummary>,
    pub generator: Generator,
    pub server: Server,
    /// What faults of `--at` did to existing users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Recovery>,
    /// What was done to the service, and when the run was continued or ended by a gate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// What the run was told, in the words of the command line.
    pub configuration: BTreeMap<String, String>,
    pub versions: Versions,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseSummary {
    pub name: String,
    pub from_s: f64,
}

/// How high the load was meant to go and went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// Sign-up capacity of this machine as the probe found it.
    pub probed_sign_ups_per_s: Option<f64>,
    /// The peak's share of the probed capacity.
    pub share_of_probed: Option<f64>,
    /// In the curve's highest second; a compressed hour may be shorter than that and higher.
    pub planned_sign_ups_per_s: f64,
    /// Completed in the best second.
    pub achieved_sign_ups_per_s: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Existing {
    pub users: u64,
    /// During the surge. A refusal is no success: to who is there already, it is a message that did not go.
    pub send_success_ratio: Option<f64>,
    /// During the surge, from planned start.
    pub send_p99_ms: Option<f64>,
    pub send_p99_ms_before_surge: Option<f64>,
}

/// What one cohort did since the surge began, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CohortSummary {
    pub name: String,
    /// The operation whose figures these are.
    pub operation: String,
    pub people: u64,
    /// Things that were wanted.
    pub first_attempts: u64,
    /// How often they were asked for.
    pub attempts: u64,
    /// Attempts over first attempts.
    pub amplification: Option<f64>,
    pub ok: u64,
    pub refused: u64,
    pub failed: u64,
    /// Successes a second of the load.
    pub goodput_per_s: Option<f64>,
    /// From planned start to end.
    pub p99_ms: Option<f64>,
    /// Messages that were acknowledged for its members and that they did not take.
    #[serde(default)]
    pub withheld: u64,
}

/// One of those who played a run together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerSummary {
    /// From 1.
    pub number: u32,
    pub host: String,
    pub cores: u32,
    /// Of the arrivals and the people, such as `1/4`.
    pub share: String,
    /// Existing users who live in it, from the first to the one before the last number.
    pub users: (u32, u32),
    /// What was added to its clock, and the round trip in which that was found.
    pub clock_offset_ms: f64,
    pub round_trip_ms: f64,
    /// Arrivals of every kind.
    pub offered: u64,
    /// From planned to sent.
    pub lag_p99_ms: Option<f64>,
    /// It was not heard of any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at_s: Option<u64>,
    /// On its machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub folder: String,
}

/// What became of those who came through the waiting room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoomSummary {
    /// Let in a second, as ordered for the run; `None` when the room was left as it was.
    pub ordered_per_s: Option<f64>,
    pub entered: u64,
    pub admitted: u64,
    /// Of those admitted, whose turn came within a second.
    pub at_once: u64,
    /// Had their turn and got their account.
    pub finished: u64,
    /// Still had a place when the run ended, and lost nothing: they would have come in later.
    pub still_waiting: u64,
    pub failed: u64,
    /// Places that were over before they could be used.
    pub places_lost: u64,
    pub most_waiting: u64,
    /// From asking for a place to the turn.
    pub wait_ms: Percentiles,
    /// From the turn to the device knowing of it.
    pub noticed_ms: Percentiles,
    /// First estimates that could be compared with the truth.
    pub estimates_judged: u64,
    pub estimate_mape_ratio: Option<f64>,
    pub estimate_mean_error_ms: Option<f64>,
    pub estimate_inside_ratio: Option<f64>,
    pub estimates_below: u64,
    pub estimates_above: u64,
    pub overtaking_ms: f64,
    pub over_admission_ratio: Option<f64>,
    pub seats_used_ratio: Option<f64>,
}

/// Codes that left the service, and what they would have cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Codes {
    pub sent: u64,
    /// Of one code, as the run was told.
    pub cost: f64,
    pub spent: f64,
    pub accounts: u64,
    pub per_account: Option<f64>,
}

impl Codes {
    pub(crate) fn of(sent: u64, cost: f64, accounts: u64) -> Self {
        let per_account = (accounts > 0).then(|| sent as f64 / accounts as f64);
        Self { sent, cost, spent: sent as f64 * cost, accounts, per_account }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OperationSummary {
    pub offered: u64,
    pub ok: u64,
    pub refused: u64,
    pub failed: u64,
    /// The run was over before the turn came.
    #[serde(default)]
    pub waiting: u64,
    pub reasons: BTreeMap<String, u64>,
    /// From planned start to end.
    pub response_ms: Percentiles,
    /// From sending to end.
    pub service_ms: Percentiles,
    /// From planned start to sending.
    pub lag_ms: Percentiles,
}

/// `None` without records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub max: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// Whether every gate on the generator passed.
    pub valid: bool,
    pub lag_p99_ms: Option<f64>,
    pub cpu_us: Option<u64>,
    /// Share of processor time that the hypervisor gave to somebody else.
    pub steal_ratio: Option<f64>,
    /// Arrivals that it left out, as it was told to when too many are under way.
    #[serde(default)]
    pub dropped: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// User and system time over the measured phases for each operation that succeeded in them.
    pub cpu_us_per_op: Option<f64>,
    pub rss_peak_bytes: Option<u64>,
    /// Highest proportional set size: memory that is shared with others counts in part.
    #[serde(default)]
    pub pss_peak_bytes: Option<u64>,
    #[serde(default)]
    pub descriptors_peak: Option<u64>,
    /// Memory of TCP sockets of the whole machine, at most.
    #[serde(default)]
    pub tcp_peak_bytes: Option<u64>,
    /// What an existing user's session took, his account included: the growth of resident memory since nobody was there.
    #[serde(default)]
    pub bytes_per_session: Option<f64>,
    #[serde(default)]
    pub sessions_peak: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    pub surge: String,
    pub server: Option<String>,
    pub git_commit: Option<String>,
    pub target: String,
}

impl From<&Totals> for OperationSummary {
    fn from(totals: &Totals) -> Self {
        Self {
            offered: totals.offered,
            ok: totals.ok,
            refused: totals.refused,
            failed: totals.failed,
            waiting: totals.waiting,
            reasons: totals.reasons.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            response_ms: (&totals.response).into(),
            service_ms: (&totals.service).into(),
            lag_ms: (&totals.lag).into(),
        }
    }
}

impl From<&Latency> for Percentiles {
    fn from(latency: &Latency) -> Self {
        Self {
            p50: latency.quantile_ms(0.5),
            p90: latency.quantile_ms(0.9),
            p99: latency.quantile_ms(0.99),
            p999: latency.quantile_ms(0.999),
            max: latency.max_ms(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    /// Other programs read these names.
    #[test]
    fn the_promised_fields_are_where_they_were_promised() {
        let (summary, _) = example::run();
        let json = serde_json::to_value(&summary).unwrap();
        let promised = "/schema_version /verdict /exit_code /seed /profile /generator/valid /generator/lag_p99_ms \
            /ledger/acked /ledger/delivered /ledger/lost /ledger/duplicated /ledger/reordered \
            /operations/sign_up/offered /operations/sign_up/ok /operations/sign_up/refused \
            /operations/sign_up/failed /operations/sign_up/response_ms/p50 /operations/sign_up/response_ms/p99 \
            /operations/sign_up/response_ms/p999 /operations/sign_up/service_ms/p50 \
            /existing/send_success_ratio /existing/send_p99_ms /existing/send_p99_ms_before_surge \
            /server/cpu_us_per_op /server/rss_peak_bytes /peak/planned_sign_ups_per_s /room/entered /room/finished \
            /room/still_waiting /room/estimate_mape_ratio /room/estimate_inside_ratio /room/overtaking_ms \
            /room/over_admission_ratio /codes/sent /codes/spent /codes/per_account /operations/sign_up/waiting";
        for pointer in promised.split_whitespace() {
            assert!(json.pointer(pointer).is_some_and(|value| !value.is_null()), "{pointer}");
        }
        assert_eq!((&json["verdict"], &json["exit_code"]), (&"PASS".into(), &0.into()));
        assert_eq!(serde_json::from_value::<Summary>(json).unwrap(), summary);
    }
}
