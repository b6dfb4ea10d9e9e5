//! A run that never happened, for tests of what is written about runs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::curve::{Column, SIGNAL_2021, signal_2021};
use crate::events::{Event, EventKind};
use crate::faults::Recovery;
use crate::ledger::Counts;
use crate::manifest::Manifest;
use crate::observe::{HostSample, ProcessSample};
use crate::slo::{Ending, Judgeable, Observations, default_gates, figure, headline, judge, room_gates};
use crate::summary::{
    Codes, EXISTING_SEND, Existing, Generator, OperationSummary, Peak, Percentiles, PhaseSummary,
    RoomSummary, SCHEMA_VERSION, SIGN_UP, Server, Summary, Versions,
};
use crate::timeline::{OperationRow, RoomRow, Row, Timeline};

const BEFORE_S: u64 = 12;
const SURGE_S: u64 = 60;
const SETTLE_S: u64 = 8;
/// Let in a second.
const RATE: f64 = 150.0;

/// A passed run of January 2021 in a minute.
pub(crate) fn run() -> (Summary, Vec<Row>) {
    (summary(), rows())
}

/// What the same run was told.
pub(crate) fn manifest() -> Manifest {
    let summary = summary();
    Manifest {
        schema_version: SCHEMA_VERSION,
        profile: summary.profile,
        seed: summary.seed,
        started_ms: 1_610_722_800_000,
        started_utc: summary.started_utc,
        planned_s: 72.0,
        phases: summary.phases,
        peak: summary.peak,
        peak_rate: Some(593.0),
        existing_users: 2_000,
        code_cost: 0.05,
        default_gates: true,
        gates: Vec::new(),
        faults: Vec::new(),
        arguments: Vec::new(),
        configuration: summary.configuration,
        versions: summary.versions,
        own_server_pid: None,
        silent: false,
        cohorts: None,
        workers: Vec::new(),
        worker: None,
        merged_from: Vec::new(),
    }
}

fn rows() -> Vec<Row> {
    let replay = signal_2021(Column::Reconciled).replay(Duration::from_secs(SURGE_S), 812.0).unwrap();
    let mut timeline = Timeline::default();
    let mut cpu_us = 400_000;
    let (mut waiting, mut codes) = (0.0, 0.0);
    for second in 0..BEFORE_S + SURGE_S + SETTLE_S {
        let in_surge = second.checked_sub(BEFORE_S).filter(|at| *at < SURGE_S).map(Duration::from_secs);
        let planned = in_surge.map_or(0.0, |at| replay.curve.count_between(at, at + Duration::from_secs(1)));
        // Something that looks like noise and repeats.
        let noise = f64::from((second as u32).wrapping_mul(2_654_435_761) >> 16 & 0xff) / 255.0;
        let load = planned / 812.0;
        cpu_us += (150_000.0 + 900_000.0 * load + 40_000.0 * noise) as u64;

        let row = timeline.row(second);
        row.planned_sign_ups = planned.round();
        row.replayed = in_surge.and_then(|at| replay.hour_at(at)).map(|hour| hour.utc.clone());
        row.phase = match (second < BEFORE_S, in_surge) {
            (true, _) => "before",
            (false, Some(_)) => "surge",
            (false, None) => "settling",
        }
        .to_owned();
        let turns = (planned + waiting).min(RATE);
        waiting += planned - turns;
        codes += turns;
        let waited = (waiting / RATE).round();
        row.codes = codes as u64;
        row.room = Some(RoomRow {
            entered: planned as u64,
            turns: turns as u64,
            waiting: waiting as u64,
            told_s: (waiting > RATE).then(|| millis(waited + 4.0 * (noise - 0.5))).flatten(),
            waited_s: (waiting > RATE).then_some(waited),
            rate_per_s: Some(RATE),
            frozen: false,
        });
        if in_surge.is_some() {
            row.operations.insert(
                SIGN_UP.0.to_owned(),
                OperationRow {
                    offered: (planned + 6.0 * (noise - 0.5)).max(0.0) as u64,
                    ok: (turns * (1.0 - 0.015 * noise)).max(0.0) as u64,
                    response_p50_ms: millis(3.0 + 4.0 * load + noise),
                    response_p99_ms: millis(9.0 + 38.0 * load * load + 5.0 * noise),
                    lag_p99_ms: millis(0.2 + 0.6 * load + 0.3 * noise),
                    ..OperationRow::default()
                },
            );
        }
        row.operations.insert(
            EXISTING_SEND.0.to_owned(),
            OperationRow {
                offered: 400,
                ok: 400,
                response_p50_ms: millis(1.6 + load + 0.3 * noise),
                response_p99_ms: millis(5.5 + 13.0 * load + 3.0 * noise),
                lag_p99_ms: millis(0.2 + 0.9 * load + 0.2 * noise),
                ..OperationRow::default()
            },
        );
        row.acked = 400 * (second + 1);
        row.delivered = row.acked;
        let rss_bytes = (60 << 20) + cpu_us * 2;
        let server =
            ProcessSample { cpu_us, rss_bytes, rss_peak_bytes: rss_bytes, descriptors: 700, threads: 9 };
        row.server = Some(server);
        row.generator = Some(ProcessSample { cpu_us: cpu_us * 3 / 4, ..server });
        row.host = Some(HostSample {
            total_us: second * 2_000_000,
            idle_us: second * 100_000,
            steal_us: second * 900,
        });
    }
    timeline.into_rows()
}

/// To the microsecond, as the histograms have it.
fn millis(ms: f64) -> Option<f64> {
    Some((ms * 1_000.0).round() / 1_000.0)
}

fn summary() -> Summary {
    let mut observed = Observations::default();
    observed
        .set(figure::LEDGER_LOST, Some(0.0))
        .set(figure::LEDGER_DUPLICATED, Some(0.0))
        .set(figure::LEDGER_CORRUPTED, Some(0.0))
        .set(figure::EXISTING_SUCCESS_RATIO, Some(1.0))
        .set(figure::EXISTING_P99_MS, Some(18.4))
        .set(figure::EXISTING_P99_BEFORE_MS, Some(7.1))
        .set(figure::SIGN_UP_SUCCESS_RATIO, Some(0.999_87))
        .set(figure::GENERATOR_LAG_P99_MS, Some(1.3))
        .set(figure::GENERATOR_DROPPED, Some(0.0))
        .set(figure::ROOM_OVERTAKING_MS, Some(42.0))
        .set(figure::ROOM_PLACES_LOST, Some(0.0))
        .set(figure::ROOM_ESTIMATE_MAPE_RATIO, Some(0.083))
        .set(figure::ROOM_ESTIMATE_INSIDE_RATIO, Some(0.83))
        .set(figure::ROOM_OVER_ADMISSION_RATIO, Some(0.004));
    let mut gates = default_gates();
    gates.extend(room_gates(Judgeable { estimates: true, seats: true }));
    let judgement = judge(&gates, &observed, Ending::default());
    let configuration = [
        ("peak", "0.8 of the probed capacity"),
        ("duration", "60 s of January, 12 s before, 8 s after"),
        ("existing_users", "2,000 with 400 sends a second"),
        ("payload", "512 bytes"),
        ("arrivals", "poisson"),
    ];
    Summary {
        schema_version: SCHEMA_VERSION,
        verdict: judgement.verdict,
        exit_code: judgement.exit_code,
        headline: headline(&judgement, 0),
        profile: SIGNAL_2021.to_owned(),
        seed: 20_210_115,
        started_utc: "2021-01-15T15:00:00Z".to_owned(),
        duration_s: 80.0,
        phases: [("before", 0.0), ("surge", 12.0), ("settling", 72.0)]
            .map(|(name, from_s)| PhaseSummary { name: name.to_owned(), from_s })
            .to_vec(),
        peak: Peak {
            probed_sign_ups_per_s: Some(1_015.0),
            share_of_probed: Some(0.8),
            planned_sign_ups_per_s: 593.0,
            achieved_sign_ups_per_s: 588.0,
        },
        gates: judgement.gates,
        existing: Existing {
            users: 2_000,
            send_success_ratio: Some(1.0),
            send_p99_ms: Some(18.4),
            send_p99_ms_before_surge: Some(7.1),
        },
        ledger: Counts { sent: 40_120, acked: 40_118, delivered: 40_119, ..Counts::default() },
        cohorts: Vec::new(),
        harm: None,
        workers: Vec::new(),
        room: Some(room()),
        codes: Codes { sent: 9_140, cost: 0.05, spent: 457.0, accounts: 9_136, per_account: Some(1.0) },
        operations: operations(),
        generator: Generator {
            dropped: 0,
            valid: true,
            lag_p99_ms: Some(1.3),
            cpu_us: Some(38_000_000),
            steal_ratio: Some(0.000_45),
        },
        server: Server {
            cpu_us_per_op: Some(84.2),
            rss_peak_bytes: Some(187 << 20),
            pss_peak_bytes: Some(181 << 20),
            descriptors_peak: Some(2_730),
            tcp_peak_bytes: Some(3 << 20),
            bytes_per_session: Some(38_400.0),
            sessions_peak: Some(2_410),
        },
        faults: vec![Recovery {
            at_s: 40.2,
            label: "kill -9 a gateway".to_owned(),
            outcome: "done".to_owned(),
            usual_p99_ms: Some(7.1),
            worst_p99_ms: Some(1_840.0),
            recovered_after_s: Some(3.8),
            failed: 112,
            refused: 4,
        }],
        events: vec![Event {
            at_s: 40.2,
            kind: EventKind::Fault,
            label: "kill -9 a gateway".to_owned(),
            took_s: Some(0.1),
            outcome: "done".to_owned(),
        }],
        configuration: configuration.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        versions: Versions {
            surge: "0.1.0".to_owned(),
            server: Some("spillway 0.1.0".to_owned()),
            git_commit: Some("4f1c2d7".to_owned()),
            target: "a server started for this run".to_owned(),
        },
    }
}

fn room() -> RoomSummary {
    let percentiles = |p50: f64, p99: f64| Percentiles {
        p50: Some(p50),
        p90: Some(p50 * 3.0),
        p99: Some(p99),
        p999: Some(p99),
        max: Some(p99 + 100.0),
    };
    RoomSummary {
        ordered_per_s: Some(RATE),
        entered: 9_140,
        admitted: 9_140,
        at_once: 3_010,
        finished: 9_136,
        most_waiting: 2_460,
        wait_ms: percentiles(3_600.0, 16_200.0),
        noticed_ms: percentiles(2_100.0, 11_300.0),
        estimates_judged: 4_230,
        estimate_mape_ratio: Some(0.083),
        estimate_mean_error_ms: Some(3_900.0),
        estimate_inside_ratio: Some(0.83),
        estimates_below: 510,
        estimates_above: 209,
        overtaking_ms: 42.0,
        over_admission_ratio: Some(0.004),
        seats_used_ratio: Some(0.997),
        ..RoomSummary::default()
    }
}

fn operations() -> BTreeMap<String, OperationSummary> {
    let latency = |p50: f64| Percentiles {
        p50: millis(p50),
        p90: millis(p50 * 2.1),
        p99: millis(p50 * 6.3),
        p999: millis(p50 * 14.0),
        max: millis(p50 * 41.7),
    };
    let operation = |offered: u64, p50: f64, reasons: &[(&str, u64)]| {
        let unlucky: u64 = reasons.iter().map(|(_, n)| n).sum();
        OperationSummary {
            offered,
            ok: offered - unlucky,
            refused: unlucky / 2,
            failed: unlucky - unlucky / 2,
            waiting: 0,
            reasons: reasons.iter().map(|(reason, n)| ((*reason).to_owned(), *n)).collect(),
            response_ms: latency(p50 + 0.2),
            service_ms: latency(p50),
            lag_ms: latency(0.1),
        }
    };
    [
        ("sign_up", operation(9_140, 5.1, &[("resource_exhausted", 3), ("deadline_exceeded", 1)])),
        ("start_verification", operation(9_140, 1.4, &[])),
        ("check_code", operation(9_138, 1.6, &[("unavailable", 2)])),
        ("create_account", operation(9_136, 2.2, &[])),
        ("discover_contacts", operation(9_130, 1.9, &[])),
        ("open_session", operation(9_130, 2.4, &[])),
        ("existing_send", operation(32_000, 1.9, &[])),
        ("deliver", operation(40_119, 2.8, &[])),
    ]
    .map(|(name, figures)| (name.to_owned(), figures))
    .into()
}
