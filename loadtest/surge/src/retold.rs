//! The summary of a run from its folder alone: of one that was killed, and of several that were merged.
//!
//! Two things are known less well than at the end of a run. Phases go by the second of the answer and not of the plan. And messages of the last
//! second may have been on their way, so without an end nothing is said about losses.

use std::collections::BTreeMap;

use crate::cohorts::Cohort;
use crate::faults::recoveries;
use crate::gates::{Kind, ParseError, Seen, Watch};
use crate::harm::{self, Harm};
use crate::ledger::Counts;
use crate::manifest::Manifest;
use crate::outcome::{self, Acting, Outcome};
use crate::recording::Recording;
use crate::run::{AFTER, Alone, BEFORE, SURGE, observe_sessions, of_sessions};
use crate::slo::{
    Ending, ExitCode, Gate, GateResult, Observations, Verdict, default_gates, figure, headline, judge,
    least_gates,
};
use crate::stats::Latency;
use crate::summary::{
    Codes, CohortSummary, EXISTING_SEND, Existing, OperationSummary, SCHEMA_VERSION, SIGN_UP, Summary,
};
use crate::timeline::Row;
use crate::workload::{BACK, RECONNECT};

/// How the run ended, as far as its folder says.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// It did not: there is no summary.
    Killed,
    /// Each of those that were merged did.
    Whole(Box<Whole>),
}

/// How runs ended that took place beside each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Whole {
    /// Of all of them together.
    pub counts: Counts,
    /// By the user.
    pub interrupted: bool,
    /// By a gate.
    pub aborted: bool,
    /// What cohorts did not take of messages between people of several workers.
    pub withheld: BTreeMap<Cohort, u64>,
    /// The run that it is compared with.
    pub alone: Option<Alone>,
}

/// # Errors
///
/// When the manifest has a gate that is not understood.
pub fn summary(manifest: &Manifest, recording: &Recording, ended: &Ended) -> Result<Summary, ParseError> {
    let rows: Vec<Row> = recording.rows().cloned().collect();
    let length_s = recording.last_second().map_or(0.0, |second| second as f64 + 1.0);
    let existing = existing(manifest, recording);
    let operations = operations(recording, &rows);
    let lag_p99_ms = lag_p99(recording);
    let (ledger, sent) = match ended {
        Ended::Whole(whole) => (whole.counts, Some(whole.counts)),
        Ended::Killed => (counted(&rows), None),
    };
    let killed = *ended == Ended::Killed;
    let (interrupted, aborted) = match ended {
        Ended::Whole(whole) => (whole.interrupted, whole.aborted),
        Ended::Killed => (true, false),
    };
    let harm = harm(ended, &existing, &operations);
    let codes_sent = rows.iter().map(|row| row.codes).max().unwrap_or(0);
    let accounts = operations.get(SIGN_UP.0).map_or(0, |operation| operation.ok);
    let codes = Codes::of(codes_sent, manifest.code_cost, accounts);
    let server = outcome::server(&operations, &rows);
    let recoveries = recoveries(recording.events(), &rows, EXISTING_SEND.0);
    let mut observed = Outcome {
        sent,
        existing: &existing,
        sign_up_success_ratio: recording.figures(SIGN_UP.0, |row| row.phase == SURGE).success_ratio(),
        codes: &codes,
        lag_p99_ms,
        rows: &rows,
        server: &server,
        recoveries: &recoveries,
    }
    .observations();
    observed.set(figure::HARM_P99_MS, harm.as_ref().and_then(|harm| harm.p99_ms));
    let mut gates = gates(manifest, recording, &mut observed);
    // Who was killed has not proved anything yet; a gate is not missed because of that.
    gates.retain(|gate| !killed || observed.get(gate.figure).is_some());
    let watches = watch(manifest, recording, &rows)?;
    let asked: Vec<GateResult> = watches.iter().map(|watch| watch.result(&observed)).collect();
    let mut judgement = judge(&gates, &observed, Ending { interrupted, aborted, asked });
    if !manifest.merged_from.is_empty() && killed {
        judgement.exit_code = ExitCode::Partial;
    }
    let headline = match judgement.verdict {
        Verdict::Interrupted if killed => {
            format!(
                "The run was killed after {length_s:.0} s; what follows covers the part that is complete."
            )
        }
        _ => headline(&judgement, 0),
    };
    let completed = |row: &Row| row.operations.get(SIGN_UP.0).map_or(0, |operation| operation.ok);
    let mut peak = manifest.peak.clone();
    peak.achieved_sign_ups_per_s = rows.iter().map(completed).max().unwrap_or(0) as f64;
    let generator = outcome::generator(judgement.is_generator_well(), lag_p99_ms, &rows);
    Ok(Summary {
        schema_version: SCHEMA_VERSION,
        verdict: judgement.verdict,
        exit_code: judgement.exit_code,
        headline,
        profile: manifest.profile.clone(),
        seed: manifest.seed,
        started_utc: manifest.started_utc.clone(),
        duration_s: length_s,
        phases: manifest.phases.clone(),
        peak,
        gates: judgement.gates,
        existing,
        ledger,
        cohorts: cohorts(manifest, recording, ended),
        harm,
        workers: manifest.workers.clone(),
        room: None,
        codes,
        operations,
        generator,
        server,
        faults: recoveries,
        events: recording.events().to_vec(),
        configuration: manifest.configuration.clone(),
        versions: manifest.versions.clone(),
    })
}

fn cohorts(manifest: &Manifest, recording: &Recording, ended: &Ended) -> Vec<CohortSummary> {
    let Some(asked) = &manifest.cohorts else { return Vec::new() };
    let nothing = BTreeMap::new();
    let withheld = if let Ended::Whole(whole) = ended { &whole.withheld } else { &nothing };
    let acting = Acting { people: &asked.people, load_s: manifest.load_s() };
    let figures = |cohort: Cohort| recording.figures(cohort.operation().0, |row| row.phase != BEFORE);
    outcome::cohorts(&acting, recording.rows(), withheld, figures)
}

/// `None` when this run is not compared.
fn harm(ended: &Ended, existing: &Existing, operations: &BTreeMap<String, OperationSummary>) -> Option<Harm> {
    let Ended::Whole(whole) = ended else { return None };
    let alone = whole.alone.as_ref()?;
    let together = harm::Seen::of(existing, operations);
    Some(Harm::between(alone.folder.clone(), alone.seen.clone(), together))
}

fn existing(manifest: &Manifest, recording: &Recording) -> Existing {
    let of_phase = |name: &str| recording.figures(EXISTING_SEND.0, |row| row.phase == name);
    // As at the end of a run: after answers were late on purpose, what follows is judged.
    let judged = if manifest.phases.iter().any(|phase| phase.name == AFTER) { AFTER } else { SURGE };
    let (before, surge) = (of_phase(BEFORE), of_phase(judged));
    Existing {
        users: manifest.existing_users,
        send_success_ratio: surge.served_ratio(),
        send_p99_ms: surge.response.quantile_ms(0.99),
        send_p99_ms_before_surge: before.response.quantile_ms(0.99),
    }
}

fn operations(recording: &Recording, rows: &[Row]) -> BTreeMap<String, OperationSummary> {
    let of = |operation: String| {
        let figures = recording.figures(&operation, |_| true);
        let mut summary = OperationSummary::from(&figures);
        if figures.response.is_empty() {
            fill_from_rows(&mut summary, rows, &operation);
        }
        (operation, summary)
    };
    recording.operations().into_iter().map(of).collect()
}

/// What the last second knew.
fn counted(rows: &[Row]) -> Counts {
    let last = rows.last();
    Counts {
        acked: last.map_or(0, |row| row.acked),
        delivered: last.map_or(0, |row| row.delivered),
        ..Counts::default()
    }
}

/// Those that the run had, as far as its folder tells.
fn gates(manifest: &Manifest, recording: &Recording, observed: &mut Observations) -> Vec<Gate> {
    let mut gates = if manifest.default_gates { default_gates() } else { least_gates() };
    if manifest.peak.planned_sign_ups_per_s == 0.0 {
        gates.retain(|gate| gate.figure != figure::SIGN_UP_SUCCESS_RATIO);
    }
    let reconnect = recording.figures(RECONNECT.0, |_| true);
    if manifest.default_gates && reconnect.offered > 0 {
        observe_sessions(observed, &recording.figures(BACK.0, |_| true), &reconnect);
        gates.extend(of_sessions());
    }
    gates
}

/// A folder without histograms has at least the worst second.
fn fill_from_rows(summary: &mut OperationSummary, rows: &[Row], operation: &str) {
    let seen = || rows.iter().filter_map(|row| row.operations.get(operation));
    summary.response_ms.max = seen().filter_map(|row| row.response_p99_ms).reduce(f64::max);
}

fn lag_p99(recording: &Recording) -> Option<f64> {
    let mut lag = Latency::default();
    for (_, tag, sparse) in recording.histograms() {
        if tag.ends_with(".lag") {
            lag.add_sparse(sparse);
        }
    }
    lag.quantile_ms(0.99)
}

/// What the gates of a run have seen in its recording.
fn watch(manifest: &Manifest, recording: &Recording, rows: &[Row]) -> Result<Vec<Watch>, ParseError> {
    let mut watches: Vec<_> = manifest.rules()?.into_iter().map(Watch::new).collect();
    for row in rows {
        for (operation, figures) in &row.operations {
            let add = |kind: Kind, latency: &mut Latency| {
                if let Some(sparse) = recording.histogram(row.second, &format!("{operation}.{}", kind.name()))
                {
                    latency.add_sparse(sparse);
                }
            };
            let seen = Seen { second: row.second, phase: &row.phase, operation, row: figures, add: &add };
            watches.iter_mut().for_each(|watch| watch.add(&seen));
        }
        for watch in &mut watches {
            watch.close(row.second, &row.phase);
        }
    }
    Ok(watches)
}
