//! What follows from the figures.

mod figured;
mod manifest;
mod print;
mod room;

use std::collections::BTreeMap;
use std::time::Duration;

use spillway_api::Reason;

use super::arrivals::Measured;
use super::{AFTER, BEFORE, Plan, Run, SURGE, brownout, gates};
use crate::cohorts::Cohort;
use crate::faults::recoveries;
use crate::harm::{Harm, Seen};
use crate::outcome::{self, Acting, Outcome};
use crate::profile::{PUMPED_PREFIX, Profile};
use crate::slo::{
    Ending, Gate, Observations, brownout_gates, default_gates, figure, headline, judge, least_gates,
    pumping_gates, room_gates,
};
use crate::summary::{
    Codes, CohortSummary, EXISTING_SEND, Existing, OperationSummary, SCHEMA_VERSION, SIGN_UP, Server, Summary,
};
use crate::timeline::Row;
use crate::utc;
use crate::workload::{CHECK_CODE, PUMP, RECEIVE_CODE};
pub(super) use figured::Figured;
use figured::earlier;
pub(crate) use manifest::ALL_POLITE;
pub(super) use manifest::manifest;
use manifest::{cohorts_asked, configuration, peak, phases, profile_name, versions};
pub(super) use print::print;
use room::{judgeable, observe_room, room, summary_of};

pub(super) fn conclude(run: &Run, plan: &Plan, measured: Measured) -> (Summary, Vec<Row>) {
    let counts = run.world.ledger.counts();
    let all = Figured { stats: &measured.stats, earlier: earlier(run) };
    let existing = existing(run, plan, &all);
    let lag_p99_ms = measured.stats.lag().quantile_ms(0.99);
    let room = room(&measured);
    let codes = codes(run, &measured);
    let operations = all.operations();
    let bytes_per_session = bytes_per_session(run, &measured.rows);
    let server = Server { bytes_per_session, ..outcome::server(&operations, &measured.rows) };
    let faults = recoveries(&measured.events, &measured.rows, EXISTING_SEND.0);
    let mut observed = Outcome {
        sent: Some(counts),
        existing: &existing,
        sign_up_success_ratio: all.of_phase(SIGN_UP, SURGE).success_ratio(),
        codes: &codes,
        lag_p99_ms,
        rows: &measured.rows,
        server: &server,
        recoveries: &faults,
    }
    .observations();
    gates::observe(&mut observed, &all, &run.world);
    let harm = harm(run, &existing, &all.operations());
    observed.set(figure::HARM_P99_MS, harm.as_ref().and_then(|harm| harm.p99_ms));
    let mut gates = match run.default_gates {
        true => gates::for_load(default_gates(), &plan.load),
        false => least_gates(),
    };
    if let Some(room) = &room {
        observe_room(&mut observed, room);
        if run.default_gates {
            gates.extend(room_gates(judgeable(room)));
        }
    }
    let of_profile = of_profile(run, plan, &measured, &mut observed);
    if run.default_gates {
        gates.extend(of_profile);
    }
    let asked = measured.watches.iter().map(|watch| watch.result(&observed)).collect();
    let ending = Ending { interrupted: measured.interrupted, aborted: measured.aborted, asked };
    let judgement = judge(&gates, &observed, ending);
    let phases = phases(run, plan);
    let cohorts = cohorts(run, plan, &all, &measured.rows);
    let Measured { stats, rows, length, events, .. } = measured;
    let finished = stats.totals(SIGN_UP).ok;
    let room = room.map(|room| summary_of(&room, plan, finished, &rows));
    let summary = Summary {
        schema_version: SCHEMA_VERSION,
        verdict: judgement.verdict,
        exit_code: judgement.exit_code,
        headline: headline(&judgement, room.as_ref().map_or(0, |room| room.still_waiting)),
        profile: profile_name(run),
        seed: run.seed,
        started_utc: utc::rfc3339(run.started),
        duration_s: length.as_secs_f64(),
        phases,
        peak: peak(run, plan, &rows),
        existing,
        ledger: counts,
        cohorts,
        harm,
        workers: Vec::new(),
        room,
        codes,
        generator: outcome::generator(judgement.is_generator_well(), lag_p99_ms, &rows),
        server,
        faults,
        events,
        operations,
        gates: judgement.gates,
        configuration: configuration(run, plan),
        versions: versions(run),
    };
    (summary, rows)
}

/// What the two runs of a comparison differ in; `None` when this run is not compared.
fn harm(run: &Run, existing: &Existing, operations: &BTreeMap<String, OperationSummary>) -> Option<Harm> {
    let alone = run.options.alone.clone()?;
    Some(Harm::between(alone.folder, alone.seen, Seen::of(existing, operations)))
}

/// Of those that have members, if anybody is rude.
fn cohorts(run: &Run, plan: &Plan, all: &Figured<'_>, rows: &[Row]) -> Vec<CohortSummary> {
    let Some(asked) = cohorts_asked(run) else { return Vec::new() };
    let acting = Acting { people: &asked.people, load_s: plan.load.duration().as_secs_f64() };
    let figures = |cohort: Cohort| all.of_phases(cohort.operation(), |phase| phase != BEFORE);
    outcome::cohorts(&acting, rows.iter(), &BTreeMap::new(), figures)
}

fn codes(run: &Run, measured: &Measured) -> Codes {
    let (sent, cost) = (measured.codes, run.options.code_cost);
    let accounts = measured.stats.totals(SIGN_UP).ok;
    Codes::of(sent, cost, accounts)
}

/// What a profile is about beside existing users and order in the room.
fn of_profile(run: &Run, plan: &Plan, measured: &Measured, observed: &mut Observations) -> Vec<Gate> {
    let stats = &measured.stats;
    match run.options.profile {
        Profile::ProviderBrownout => {
            let calm = Duration::from_secs(run.options.calm);
            let over = plan
                .brownout
                .and_then(|brownout| brownout::admitted_over_capacity(brownout, calm, &measured.room));
            let expired = stats.totals(CHECK_CODE).reasons.get(Reason::CodeExpired.as_str()).copied();
            observed
                .set(figure::BROWNOUT_ADMITTED_OVER_CAPACITY, over)
                .set(figure::CODES_EXPIRED, Some(expired.unwrap_or(0) as f64));
            brownout_gates()
        }
        Profile::Pumping => {
            let sent = run.carrier.as_ref().map(|carrier| carrier.taken_for(PUMPED_PREFIX) as f64);
            let waited = stats.totals(RECEIVE_CODE);
            let refused = (waited.offered > 0).then(|| waited.failed as f64 / waited.offered as f64);
            observed
                .set(figure::PUMPING_CODES_SENT, sent)
                .set(figure::PUMPING_HONEST_REFUSED_RATIO, refused)
                // Overload refuses everybody, and tells nobody who he is.
                .set(figure::PUMPING_ANSWERED_RATIO, stats.totals(PUMP).success_ratio());
            pumping_gates()
        }
        Profile::Signal2021 | Profile::RoomMillion | Profile::Load(_) => Vec::new(),
    }
}

fn existing(run: &Run, plan: &Plan, all: &Figured<'_>) -> Existing {
    // Late answers are late; whether the service comes back is the question then.
    let judged = if plan.load.behaviour.slow.is_empty() { SURGE } else { AFTER };
    let (before, surge) = (all.of_phase(EXISTING_SEND, BEFORE), all.of_phase(EXISTING_SEND, judged));
    Existing {
        users: run.own_users().len() as u64,
        send_success_ratio: surge.served_ratio(),
        send_p99_ms: surge.response.quantile_ms(0.99),
        send_p99_ms_before_surge: before.response.quantile_ms(0.99),
    }
}

/// Fewer sessions than these do not show beside what a service takes anyway.
const SESSIONS_LEAST: u64 = 50;

/// What existing users' sessions took of the service's memory, their accounts included: the growth since nobody was there.
fn bytes_per_session(run: &Run, rows: &[Row]) -> Option<f64> {
    let (empty_bytes, empty_sessions) = run.empty?;
    let first = rows.first()?;
    let sessions = first.observed?.sessions?.checked_sub(empty_sessions)?;
    let bytes = first.server?.rss_bytes.checked_sub(empty_bytes)?;
    (sessions >= SESSIONS_LEAST).then(|| bytes as f64 / sessions as f64)
}
