//! What follows from the figures.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use spillway_api::Reason;

use super::arrivals::Measured;
use super::{AFTER, BEFORE, Plan, Run, STEADY, SURGE, brownout, gates, what_is_played};
use crate::cohorts::Cohort;
use crate::faults::recoveries;
use crate::gates::Rule;
use crate::harm::{Harm, Seen};
use crate::load::Op;
use crate::manifest::{CohortsAsked, Manifest};
use crate::outcome::{self, Acting, Outcome};
use crate::outputs::{cohorts, markdown};
use crate::peer::redacted;
use crate::profile::{PUMPED_PREFIX, Profile};
use crate::recording::{Figures, Recording};
use crate::room::RoomFigures;
use crate::run_folder::RunFolder;
use crate::slo::{
    Ending, Gate, Judgeable, Observations, brownout_gates, default_gates, figure, headline, judge,
    least_gates, pumping_gates, room_gates, steal_warning,
};
use crate::stats::{Operation, Stats};
use crate::summary::{
    Codes, CohortSummary, EXISTING_SEND, Existing, OperationSummary, Peak, PhaseSummary, RoomSummary,
    SCHEMA_VERSION, SIGN_UP, Server, Summary, Versions,
};
use crate::timeline::Row;
use crate::utc;
use crate::workload::{CHECK_CODE, PUMP, RECEIVE_CODE};

/// Waits that are compared with what was told are judged when there are so many.
const ESTIMATES_LEAST: u64 = 100;

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

/// Of those who live here. `None` when everybody is polite.
fn cohorts_asked(run: &Run) -> Option<CohortsAsked> {
    let crowd = &run.world.crowd;
    let own = run.own_users();
    let here = |cohort: &Cohort| crowd.members().count_in(own.clone(), *cohort);
    let people = Cohort::ALL.into_iter().map(|cohort| (cohort.name().to_owned(), here(&cohort)));
    let shares = run.shares.text().to_owned();
    let people = people.filter(|(_, people)| *people > 0).collect();
    crowd.has_rude().then(|| CohortsAsked { shares, existing: run.options.existing, people })
}

/// `None` when nobody came to a waiting room.
fn room(measured: &Measured) -> Option<RoomFigures> {
    let seats: Vec<_> = measured.rows.iter().map(seats_of).collect();
    (!measured.visits.is_empty()).then(|| RoomFigures::of(&measured.visits, &seats))
}

/// While nobody is let in there is nothing to compare with.
fn seats_of(row: &Row) -> Option<f64> {
    row.room.filter(|room| !room.frozen)?.rate_per_s
}

fn judgeable(room: &RoomFigures) -> Judgeable {
    Judgeable {
        estimates: room.estimates.judged >= ESTIMATES_LEAST && room.estimates.mape_ratio.is_some(),
        seats: room.over_admission_ratio.is_some(),
    }
}

fn observe_room(observed: &mut Observations, room: &RoomFigures) {
    observed
        .set(figure::ROOM_OVERTAKING_MS, Some(room.overtaking_ms))
        .set(figure::ROOM_PLACES_LOST, Some(room.places_lost as f64))
        .set(figure::ROOM_ESTIMATE_MAPE_RATIO, room.estimates.mape_ratio)
        .set(figure::ROOM_ESTIMATE_INSIDE_RATIO, room.estimates.inside_ratio)
        .set(figure::ROOM_OVER_ADMISSION_RATIO, room.over_admission_ratio);
}

fn summary_of(room: &RoomFigures, plan: &Plan, finished: u64, rows: &[Row]) -> RoomSummary {
    let estimates = &room.estimates;
    RoomSummary {
        ordered_per_s: plan.admit_per_s,
        entered: room.entered,
        admitted: room.admitted,
        at_once: room.at_once,
        finished,
        still_waiting: room.waiting,
        failed: room.failed,
        places_lost: room.places_lost,
        most_waiting: rows.iter().filter_map(|row| row.room).map(|room| room.waiting).max().unwrap_or(0),
        wait_ms: room.wait_ms,
        noticed_ms: room.noticed_ms,
        estimates_judged: estimates.judged,
        estimate_mape_ratio: estimates.mape_ratio,
        estimate_mean_error_ms: estimates.mean_error_ms,
        estimate_inside_ratio: estimates.inside_ratio,
        estimates_below: estimates.below,
        estimates_above: estimates.above,
        overtaking_ms: room.overtaking_ms,
        over_admission_ratio: room.over_admission_ratio,
        seats_used_ratio: room.seats_used_ratio,
    }
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

/// The last lines of a run: what came of it, and where to read more.
pub(super) fn print(summary: &Summary, folder: &RunFolder) {
    let counts = &summary.ledger;
    println!();
    for gate in &summary.gates {
        println!(
            "  {} {:<36} {} ({}, wanted {} {})",
            if gate.pass { "pass" } else { "FAIL" },
            gate.figure,
            gate.means,
            markdown::value(gate, gate.observed),
            gate.comparison.sign(),
            markdown::value(gate, gate.threshold),
        );
        if let Some(advice) = &gate.advice {
            println!("       {advice}.");
        }
    }
    println!(
        "\n  {} acked, {} delivered, {} lost, {} duplicated, {} reordered",
        counts.acked, counts.delivered, counts.lost, counts.duplicated, counts.reordered
    );
    cohorts::print(summary);
    if let Some(room) = &summary.room {
        println!(
            "  waiting room: {} came, {} let in, {} at once; {} got their account, {} still wait with their place, {} failed",
            room.entered, room.admitted, room.at_once, room.finished, room.still_waiting, room.failed
        );
    }
    for worker in &summary.workers {
        println!("  {}", markdown::in_words(worker));
    }
    for fault in &summary.faults {
        println!("  fault at {:.1} s, {}: {}", fault.at_s, fault.label, fault.in_words());
    }
    if let Some(warning) = summary.generator.steal_ratio.and_then(steal_warning) {
        println!("  warning: {warning}");
    }
    let codes = &summary.codes;
    if codes.sent > 0 || codes.accounts > 0 {
        println!(
            "  {} codes for {} accounts, {:.2} spent at {} each",
            codes.sent, codes.accounts, codes.spent, codes.cost
        );
    }
    println!("  report: {}", folder.report().display());
    println!("  {}", folder.path().join(crate::run_folder::SUMMARY).display());
    println!("\n{}: {}", summary.verdict.word(), summary.headline);
}

fn profile_name(run: &Run) -> String {
    match run.options.load.trace {
        _ if run.options.steady.is_some() => STEADY.to_owned(),
        Some(_) => what_is_played(&run.options),
        None => run.options.profile.name().to_owned(),
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

/// What this process saw, and what it continues.
pub(super) struct Figured<'a> {
    stats: &'a Stats,
    earlier: Option<&'a Recording>,
}

fn earlier(run: &Run) -> Option<&Recording> {
    run.options.continued.as_ref().map(|continued| &*continued.earlier)
}

impl Figured<'_> {
    /// Of the whole measured part.
    pub(super) fn of(&self, operation: Operation) -> Figures {
        let before = |earlier: &Recording| earlier.figures(operation.0, |_| true);
        let mut figures = self.earlier.map(before).unwrap_or_default();
        figures.add_totals(&self.stats.totals(operation));
        figures
    }

    fn of_phase(&self, operation: Operation, phase: &str) -> Figures {
        self.of_phases(operation, |name| name == phase)
    }

    fn of_phases(&self, operation: Operation, which: impl Fn(&str) -> bool) -> Figures {
        let before = |earlier: &Recording| earlier.figures(operation.0, |row| which(&row.phase));
        let mut figures = self.earlier.map(before).unwrap_or_default();
        for phase in self.stats.phases().iter().filter(|phase| which(phase.name)) {
            figures.add_totals(&self.stats.totals_in(operation, phase.name));
        }
        figures
    }

    fn operations(&self) -> BTreeMap<String, OperationSummary> {
        let before = |earlier: &Recording| {
            let operations = earlier.operations().into_iter();
            operations.map(|operation| (operation.clone(), earlier.figures(&operation, |_| true))).collect()
        };
        let mut all: BTreeMap<String, Figures> = self.earlier.map(before).unwrap_or_default();
        for operation in self.stats.operations() {
            all.entry(operation.0.to_owned()).or_default().add_totals(&self.stats.totals(operation));
        }
        all.iter().map(|(operation, figures)| (operation.clone(), figures.into())).collect()
    }
}

/// What a run is about to be told, for its folder.
pub(super) fn manifest(run: &Run, plan: &Plan) -> Manifest {
    let text = |argument: &std::ffi::OsString| redacted(&argument.to_string_lossy());
    Manifest {
        schema_version: SCHEMA_VERSION,
        profile: profile_name(run),
        seed: run.seed,
        started_ms: run.started.as_millis(),
        started_utc: utc::rfc3339(run.started),
        planned_s: (Duration::from_secs(run.options.calm) + plan.load.duration()).as_secs_f64(),
        phases: phases(run, plan),
        peak: Peak { planned_sign_ups_per_s: plan.peak_per_s * run.share(), ..peak(run, plan, &[]) },
        peak_rate: plan.brownout.map(|brownout| brownout.full_per_s).or(Some(plan.peak_per_s)),
        existing_users: run.own_users().len() as u64,
        code_cost: run.options.code_cost,
        default_gates: run.default_gates,
        gates: run.rules.iter().map(Rule::check).collect(),
        faults: run.faults.clone(),
        arguments: run.options.command_line.iter().map(text).collect(),
        configuration: configuration(run, plan),
        versions: versions(run),
        own_server_pid: run.target.pids.first().copied().filter(|_| run.options.target.is_empty()),
        silent: run.options.silent,
        cohorts: cohorts_asked(run),
        workers: Vec::new(),
        worker: run.tie.as_ref().map(|tie| tie.summary.clone()),
        merged_from: Vec::new(),
    }
}

fn phases(run: &Run, plan: &Plan) -> Vec<PhaseSummary> {
    let phase =
        |name: &str, from: Duration| PhaseSummary { name: name.to_owned(), from_s: from.as_secs_f64() };
    let calm = Duration::from_secs(run.options.calm);
    let mut phases: Vec<_> = plan.phases(calm).into_iter().map(|of| phase(of.name, of.from)).collect();
    if let Some(brownout) = plan.brownout {
        phases.push(phase("provider at a tenth", calm + brownout.fails_at()));
        phases.push(phase("provider back", calm + brownout.is_back_at()));
    }
    phases.sort_by(|a, b| a.from_s.total_cmp(&b.from_s));
    phases
}

fn peak(run: &Run, plan: &Plan, rows: &[Row]) -> Peak {
    let completed = |row: &Row| row.operations.get(SIGN_UP.0).map_or(0, |operation| operation.ok);
    Peak {
        probed_sign_ups_per_s: plan.probed_per_s,
        share_of_probed: plan.probed_per_s.map(|_| run.options.peak_share()),
        planned_sign_ups_per_s: plan.peak_per_s,
        achieved_sign_ups_per_s: rows.iter().map(completed).max().unwrap_or(0) as f64,
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

fn configuration(run: &Run, plan: &Plan) -> BTreeMap<String, String> {
    let options = &run.options;
    let habits = &run.world.habits;
    let peak = match (&options.profile, options.peak_rate) {
        _ if plan.load.curve(Op::SignUp).is_none() => "nobody new comes".to_owned(),
        (Profile::Pumping, _) => format!("{:.1} a second, all the time", plan.peak_per_s),
        (_, Some(rate)) => format!("{rate} sign-ups a second"),
        (_, None) if plan.probed_per_s.is_some() => {
            format!("{} of the probed capacity", options.peak_share())
        }
        (_, None) => format!("{:.1} sign-ups a second", plan.peak_per_s),
    };
    let seconds = plan.load.duration().as_secs_f64();
    let what = what_is_played(options);
    let duration = format!("{what} in {seconds:.0} s, after {} s of calm", options.calm);
    let curve = match (&options.profile, plan.brownout) {
        _ if options.steady.is_some() => "the same all the time".to_owned(),
        _ if options.load.trace.is_some() => "of the trace".to_owned(),
        (Profile::Load(expression), _) => expression.text().to_owned(),
        (Profile::Pumping, _) => {
            format!("evenly, numbers {PUMPED_PREFIX}0000 and on, every twentieth is honest")
        }
        (_, Some(brownout)) => format!(
            "half of what the provider takes, which is {:.0} codes a second, and {:.0} in the middle third",
            brownout.full_per_s, brownout.low_per_s
        ),
        (_, None) => options.column().name().to_owned(),
    };
    let room = match plan.admit_per_s {
        Some(per_s) => format!("lets in {per_s:.0} a second"),
        None => "lets in as many as it decides".to_owned(),
    };
    [
        ("peak", peak),
        ("duration", duration),
        ("curve", curve),
        ("waiting_room", room),
        ("cost_of_a_code", options.code_cost.to_string()),
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
        ("arrivals", format!("{:?}", options.load.within).to_lowercase()),
        ("behaviour", plan.load.behaviour.words().join("; ")),
        (
            "attempts",
            gates::Asked::so_far(&run.world).amplification().map_or("none".to_owned(), |times| format!("{times:.3} for each call")),
        ),
        ("cohorts", people_who(run)),
    ]
    .into_iter()
    .chain(run.terms().entries())
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// What a run says of its cohorts when it has none but one.
pub(crate) const ALL_POLITE: &str = "everybody is polite";

/// Who of the existing users behaves how.
fn people_who(run: &Run) -> String {
    let crowd = &run.world.crowd;
    match (crowd.has_rude(), crowd.is_silent()) {
        (false, _) => ALL_POLITE.to_owned(),
        (true, false) => run.shares.text().to_owned(),
        (true, true) => format!("{}, of which only the polite do anything", run.shares.text()),
    }
}

fn versions(run: &Run) -> Versions {
    let own = run.options.target.is_empty();
    Versions {
        surge: env!("CARGO_PKG_VERSION").to_owned(),
        // One build makes both.
        server: match &run.peer {
            Some(peer) => Some(peer.terms().system.clone()),
            None => own.then(|| format!("spillway {}", env!("CARGO_PKG_VERSION"))),
        },
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
