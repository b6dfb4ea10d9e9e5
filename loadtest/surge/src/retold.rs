//! The summary of a run from its folder alone: of one that was killed, and of several that were merged.
//!
//! Two things are known less well than at the end of a run. Phases go by the second of the answer and not of the plan. And messages of the last
//! second may have been on their way, so without an end nothing is said about losses.

use std::collections::BTreeMap;

use crate::faults::recoveries;
use crate::gates::{Kind, ParseError, Seen, Watch};
use crate::ledger::Counts;
use crate::manifest::Manifest;
use crate::recording::Recording;
use crate::run::{AFTER, BEFORE, SURGE, generator, observe_sessions, of_sessions, server};
use crate::slo::{
    Ending, ExitCode, GateResult, Observations, Verdict, default_gates, figure, headline, judge, least_gates,
};
use crate::stats::Latency;
use crate::summary::{Codes, EXISTING_SEND, Existing, OperationSummary, SCHEMA_VERSION, SIGN_UP, Summary};
use crate::timeline::Row;
use crate::workload::{BACK, RECONNECT};

/// How the run ended, as far as its folder says.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// It did not: there is no summary.
    Killed,
    /// Each of those that were merged did, with these counts together.
    Whole(Counts),
}

/// # Errors
///
/// When the manifest has a gate that is not understood.
pub fn summary(manifest: &Manifest, recording: &Recording, ended: &Ended) -> Result<Summary, ParseError> {
    let rows: Vec<Row> = recording.rows().cloned().collect();
    let length_s = recording.last_second().map_or(0.0, |second| second as f64 + 1.0);
    let of_phase = |operation: &str, name: &str| recording.figures(operation, |row| row.phase == name);
    // As at the end of a run: after answers were late on purpose, what follows is judged.
    let judged = if manifest.phases.iter().any(|phase| phase.name == AFTER) { AFTER } else { SURGE };
    let (before, surge) = (of_phase(EXISTING_SEND.0, BEFORE), of_phase(EXISTING_SEND.0, judged));
    let existing = Existing {
        users: manifest.existing_users,
        send_success_ratio: surge.success_ratio(),
        send_p99_ms: surge.response.quantile_ms(0.99),
        send_p99_ms_before_surge: before.response.quantile_ms(0.99),
    };
    let operations: BTreeMap<String, OperationSummary> = recording
        .operations()
        .into_iter()
        .map(|operation| {
            let figures = recording.figures(&operation, |_| true);
            let mut summary = OperationSummary::from(&figures);
            if figures.response.is_empty() {
                fill_from_rows(&mut summary, &rows, &operation);
            }
            (operation, summary)
        })
        .collect();
    let lag_p99_ms = lag_p99(recording);
    let last = rows.last();
    let ledger = match ended {
        Ended::Whole(counts) => *counts,
        Ended::Killed => Counts {
            acked: last.map_or(0, |row| row.acked),
            delivered: last.map_or(0, |row| row.delivered),
            ..Counts::default()
        },
    };
    let (killed, whole) = (*ended == Ended::Killed, *ended != Ended::Killed);
    let sent = rows.iter().map(|row| row.codes).max().unwrap_or(0);
    let accounts = operations.get(SIGN_UP.0).map_or(0, |operation| operation.ok);
    let codes = Codes {
        sent,
        cost: manifest.code_cost,
        spent: sent as f64 * manifest.code_cost,
        accounts,
        per_account: (accounts > 0).then(|| sent as f64 / accounts as f64),
    };
    let server = server(&operations, &rows);
    let recoveries = recoveries(recording.events(), &rows, EXISTING_SEND.0);
    let mut observed = Observations::default();
    let of_whole = |count: u64| whole.then_some(count as f64);
    observed
        .set(figure::LEDGER_LOST, of_whole(ledger.lost))
        .set(figure::LEDGER_DUPLICATED, of_whole(ledger.duplicated))
        .set(figure::LEDGER_CORRUPTED, of_whole(ledger.corrupted))
        .set(figure::LEDGER_REORDERED, of_whole(ledger.reordered))
        .set(figure::LEDGER_ACKED, Some(ledger.acked as f64))
        .set(figure::LEDGER_DELIVERED, Some(ledger.delivered as f64))
        .set(figure::EXISTING_SUCCESS_RATIO, existing.send_success_ratio)
        .set(figure::EXISTING_P99_MS, existing.send_p99_ms)
        .set(figure::EXISTING_P99_BEFORE_MS, existing.send_p99_ms_before_surge)
        .set(figure::SIGN_UP_SUCCESS_RATIO, of_phase(SIGN_UP.0, SURGE).success_ratio())
        .set(figure::GENERATOR_LAG_P99_MS, lag_p99_ms)
        .set(figure::GENERATOR_STEAL_RATIO, generator(true, lag_p99_ms, &rows).steal_ratio)
        .set(figure::SERVER_CPU_US_PER_OP, server.cpu_us_per_op)
        .set(figure::FAULT_RECOVERY_MS, slowest_ms(&recoveries));
    let mut gates = if manifest.default_gates { default_gates() } else { least_gates() };
    if manifest.peak.planned_sign_ups_per_s == 0.0 {
        gates.retain(|gate| gate.figure != figure::SIGN_UP_SUCCESS_RATIO);
    }
    let reconnect = recording.figures(RECONNECT.0, |_| true);
    if manifest.default_gates && reconnect.offered > 0 {
        observe_sessions(&mut observed, &recording.figures(BACK.0, |_| true), &reconnect);
        gates.extend(of_sessions());
    }
    // Who was killed has not proved anything yet; a gate is not missed because of that.
    gates.retain(|gate| whole || observed.get(gate.figure).is_some());
    let watches = watch(manifest, recording, &rows)?;
    let asked: Vec<GateResult> = watches.iter().map(|watch| watch.result(&observed)).collect();
    let mut judgement = judge(&gates, &observed, Ending { interrupted: killed, aborted: false, asked });
    if !manifest.merged_from.is_empty() && killed {
        judgement.exit_code = ExitCode::Partial;
    }
    let headline = match judgement.verdict {
        Verdict::Interrupted => {
            format!(
                "The run was killed after {length_s:.0} s; what follows covers the part that is complete."
            )
        }
        _ => headline(&judgement, 0),
    };
    let completed = |row: &Row| row.operations.get(SIGN_UP.0).map_or(0, |operation| operation.ok);
    let mut peak = manifest.peak.clone();
    peak.achieved_sign_ups_per_s = rows.iter().map(completed).max().unwrap_or(0) as f64;
    let generator = generator(judgement.is_generator_well(), lag_p99_ms, &rows);
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

/// A folder without histograms has at least the worst second.
fn fill_from_rows(summary: &mut OperationSummary, rows: &[Row], operation: &str) {
    let seen = || rows.iter().filter_map(|row| row.operations.get(operation));
    summary.response_ms.max = seen().filter_map(|row| row.response_p99_ms).reduce(f64::max);
}

pub(crate) fn slowest_ms(recoveries: &[crate::faults::Recovery]) -> Option<f64> {
    // One that did not end is longer than any number.
    let of = |recovery: &crate::faults::Recovery| {
        recovery.recovered_after_s.map_or(f64::INFINITY, |s| s * 1_000.0)
    };
    recoveries.iter().map(of).reduce(f64::max)
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
