//! What follows from the figures.

use std::collections::BTreeMap;
use std::process::Command;

use super::arrivals::Measured;
use super::{BEFORE, Plan, Run, SURGE};
use crate::curve::SIGNAL_2021;
use crate::run_folder::RunFolder;
use crate::slo::{GateResult, Kind, Observations, Verdict, default_gates, figure, headline, judge};
use crate::stats::Stats;
use crate::summary::{
    EXISTING_SEND, Existing, Generator, OperationSummary, Peak, PhaseSummary, SCHEMA_VERSION, SIGN_UP,
    Server, Summary, Versions,
};
use crate::timeline::Row;
use crate::utc;

pub(super) fn conclude(run: &Run, plan: &Plan, measured: Measured) -> (Summary, Vec<Row>) {
    let Measured { stats, rows, length, interrupted } = measured;
    let counts = run.world.ledger.counts();
    let existing = existing(run, &stats);
    let lag_p99_ms = stats.lag().quantile_ms(0.99);
    let mut observed = Observations::default();
    observed
        .set(figure::LEDGER_LOST, Some(counts.lost as f64))
        .set(figure::LEDGER_DUPLICATED, Some(counts.duplicated as f64))
        .set(figure::LEDGER_CORRUPTED, Some(counts.corrupted as f64))
        .set(figure::EXISTING_SUCCESS_RATIO, existing.send_success_ratio)
        .set(figure::EXISTING_P99_MS, existing.send_p99_ms)
        .set(figure::EXISTING_P99_BEFORE_MS, existing.send_p99_ms_before_surge)
        .set(figure::SIGN_UP_SUCCESS_RATIO, stats.totals_in(SIGN_UP, SURGE).success_ratio())
        .set(figure::GENERATOR_LAG_P99_MS, lag_p99_ms);
    let judgement = judge(&default_gates(), &observed, interrupted);
    let operations: BTreeMap<_, _> = stats
        .operations()
        .into_iter()
        .map(|operation| (operation.0.to_owned(), OperationSummary::from(&stats.totals(operation))))
        .collect();
    let summary = Summary {
        schema_version: SCHEMA_VERSION,
        verdict: judgement.verdict,
        exit_code: judgement.exit_code,
        headline: headline(&judgement),
        profile: SIGNAL_2021.to_owned(),
        seed: run.seed,
        started_utc: utc::rfc3339(run.started),
        duration_s: length.as_secs_f64(),
        phases: phases(&stats),
        peak: peak(run, plan, &rows),
        existing,
        ledger: counts,
        generator: generator(&judgement.gates, lag_p99_ms, &rows),
        server: server(&operations, &rows),
        operations,
        gates: judgement.gates,
        configuration: configuration(run),
        versions: versions(run),
    };
    (summary, rows)
}

/// The last lines of a run: what came of it, and where to read more.
pub(super) fn print(summary: &Summary, folder: &RunFolder) {
    let counts = &summary.ledger;
    println!();
    for gate in &summary.gates {
        let number =
            |value: Option<f64>| value.map_or("not observed".to_owned(), |value| format!("{value:.4}"));
        println!(
            "  {} {:<36} {} (observed {})",
            if gate.pass { "pass" } else { "FAIL" },
            gate.figure,
            gate.means,
            number(gate.observed),
        );
    }
    println!(
        "\n  {} acked, {} delivered, {} lost, {} duplicated, {} reordered",
        counts.acked, counts.delivered, counts.lost, counts.duplicated, counts.reordered
    );
    println!("  report: {}", folder.report().display());
    println!("  {}", folder.path().join(crate::run_folder::SUMMARY).display());
    let verdict = match summary.verdict {
        Verdict::Pass => "PASS",
        Verdict::Fail => "FAIL",
        Verdict::Invalid => "INVALID",
        Verdict::Interrupted => "INTERRUPTED",
    };
    println!("\n{verdict}: {}", summary.headline);
}

fn existing(run: &Run, stats: &Stats) -> Existing {
    let (before, surge) = (stats.totals_in(EXISTING_SEND, BEFORE), stats.totals_in(EXISTING_SEND, SURGE));
    Existing {
        users: u64::from(run.options.existing),
        send_success_ratio: surge.success_ratio(),
        send_p99_ms: surge.response.quantile_ms(0.99),
        send_p99_ms_before_surge: before.response.quantile_ms(0.99),
    }
}

fn phases(stats: &Stats) -> Vec<PhaseSummary> {
    let phase = |phase: &crate::stats::Phase| PhaseSummary {
        name: phase.name.to_owned(),
        from_s: phase.from.as_secs_f64(),
    };
    stats.phases().iter().map(phase).collect()
}

fn peak(run: &Run, plan: &Plan, rows: &[Row]) -> Peak {
    let completed = |row: &Row| row.operations.get(SIGN_UP.0).map_or(0, |operation| operation.ok);
    Peak {
        probed_sign_ups_per_s: plan.probed_per_s,
        share_of_probed: plan.probed_per_s.map(|_| run.options.peak),
        planned_sign_ups_per_s: plan.peak_per_s,
        achieved_sign_ups_per_s: rows.iter().map(completed).max().unwrap_or(0) as f64,
    }
}

fn generator(gates: &[GateResult], lag_p99_ms: Option<f64>, rows: &[Row]) -> Generator {
    let own = |row: &Row| row.generator.map(|sample| sample.cpu_us);
    let host = |row: &Row| row.host;
    Generator {
        valid: gates.iter().filter(|gate| gate.kind == Kind::Generator).all(|gate| gate.pass),
        lag_p99_ms,
        cpu_us: rows.iter().find_map(own).zip(rows.iter().rev().find_map(own)).map(|(from, to)| to - from),
        steal_ratio: rows
            .iter()
            .find_map(host)
            .zip(rows.iter().rev().find_map(host))
            .map(|(from, to)| to.steal_share_since(&from)),
    }
}

fn server(operations: &BTreeMap<String, OperationSummary>, rows: &[Row]) -> Server {
    let samples = || rows.iter().filter_map(|row| row.server);
    let cpu_us = samples().next().zip(samples().next_back()).map(|(from, to)| to.cpu_us - from.cpu_us);
    // The steps of a sign-up are its operations; the sign-up as a whole would count them twice, and the wait for a
    // code and the arrival of a message are not asked of the server.
    let whole = [SIGN_UP, crate::workload::RECEIVE_CODE, crate::workload::DELIVER];
    let ok: u64 = operations
        .iter()
        .filter(|(name, _)| whole.iter().all(|operation| operation.0 != name.as_str()))
        .map(|(_, operation)| operation.ok)
        .sum();
    Server {
        cpu_us_per_op: cpu_us.filter(|_| ok > 0).map(|cpu_us| cpu_us as f64 / ok as f64),
        rss_peak_bytes: samples().map(|sample| sample.rss_peak_bytes).max(),
    }
}

fn configuration(run: &Run) -> BTreeMap<String, String> {
    let options = &run.options;
    let habits = &run.world.habits;
    let peak = match options.peak_rate {
        Some(rate) => format!("{rate} sign-ups a second"),
        None => format!("{} of the probed capacity", options.peak),
    };
    [
        ("peak", peak),
        ("duration", format!("January 2021 in {} s, after {} s of calm", options.seconds, options.calm)),
        ("curve", options.column().name().to_owned()),
        ("existing_users", format!("{} online, {} sends a second together", options.existing, options.sends)),
        (
            "newcomers",
            format!(
                "sign up, look up {} contacts ({:.0} % registered), open a session, write to one, stay {} s after \
                 the answer",
                habits.contacts,
                habits.contacts_registered * 100.0,
                habits.linger.as_secs()
            ),
        ),
        ("payload", format!("{} bytes", habits.content_bytes)),
        ("arrivals", "poisson".to_owned()),
        ("connections", "one for each person".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn versions(run: &Run) -> Versions {
    let own = run.options.target.is_empty();
    Versions {
        surge: env!("CARGO_PKG_VERSION").to_owned(),
        // One build makes both.
        server: own.then(|| format!("spillway {}", env!("CARGO_PKG_VERSION"))),
        git_commit: commit(),
        target: if own { "a server started for this run".to_owned() } else { run.target.public.clone() },
    }
}

/// The commit of the folder the run was started in, when it is a checkout.
fn commit() -> Option<String> {
    let output =
        Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
