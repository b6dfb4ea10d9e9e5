//! What a run was told, for its folder and its summary.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use crate::cli::{OnOverflow, RunOptions};
use crate::cohorts::Cohort;
use crate::gates::Rule;
use crate::load::{Op, Sizes};
use crate::manifest::{CohortsAsked, Manifest};
use crate::peer::redacted;
use crate::profile::{PUMPED_PREFIX, Profile};
use crate::run::{Plan, Run, STEADY, gates, what_is_played};
use crate::summary::{Peak, PhaseSummary, SCHEMA_VERSION, SIGN_UP, Versions};
use crate::timeline::Row;
use crate::utc;

/// What a run is about to be told, for its folder.
pub(in crate::run) fn manifest(run: &Run, plan: &Plan) -> Manifest {
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

pub(super) fn phases(run: &Run, plan: &Plan) -> Vec<PhaseSummary> {
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

pub(super) fn peak(run: &Run, plan: &Plan, rows: &[Row]) -> Peak {
    let completed = |row: &Row| row.operations.get(SIGN_UP.0).map_or(0, |operation| operation.ok);
    Peak {
        probed_sign_ups_per_s: plan.probed_per_s,
        share_of_probed: plan.probed_per_s.map(|_| run.options.peak_share()),
        planned_sign_ups_per_s: plan.peak_per_s,
        achieved_sign_ups_per_s: rows.iter().map(completed).max().unwrap_or(0) as f64,
    }
}

/// Of those who live here. `None` when everybody is polite.
pub(super) fn cohorts_asked(run: &Run) -> Option<CohortsAsked> {
    let crowd = &run.world.crowd;
    let own = run.own_users();
    let here = |cohort: &Cohort| crowd.members().count_in(own.clone(), *cohort);
    let people = Cohort::ALL.into_iter().map(|cohort| (cohort.name().to_owned(), here(&cohort)));
    let shares = run.shares.text().to_owned();
    let people = people.filter(|(_, people)| *people > 0).collect();
    crowd.has_rude().then_some(CohortsAsked { shares, existing: run.options.existing, people })
}

pub(super) fn profile_name(run: &Run) -> String {
    match run.options.load.trace {
        _ if run.options.steady.is_some() => STEADY.to_owned(),
        Some(_) => what_is_played(&run.options),
        None => run.options.profile.name().to_owned(),
    }
}

pub(super) fn configuration(run: &Run, plan: &Plan) -> BTreeMap<String, String> {
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
        ("payload", options.load.bytes.as_ref().map_or_else(|| format!("{} bytes", habits.content_bytes), Sizes::to_string)),
        ("in_flight", in_flight(options)),
        ("arrivals", format!("{:?}", options.load.within).to_lowercase()),
        ("behaviour", plan.load.behaviour.words().join("; ")),
        (
            "attempts",
            gates::Asked::so_far(&run.world).amplification().map_or("none".to_owned(), |times| format!("{times:.3} for each call")),
        ),
        ("cohorts", people_who(run)),
        ("friends", options.load.friends.words(options.existing as usize)),
    ]
    .into_iter()
    .chain(run.terms().entries())
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// What a run says of its cohorts when it has none but one.
pub(crate) const ALL_POLITE: &str = "everybody is polite";

/// How many arrivals may be under way.
fn in_flight(options: &RunOptions) -> String {
    match (options.load.max_in_flight, options.load.on_overflow) {
        (None, _) => "as many as there are".to_owned(),
        (Some(most), OnOverflow::Queue) => format!("{most} at most, others wait"),
        (Some(most), OnOverflow::Shed) => format!("{most} at most, others are left out"),
    }
}

/// Who of the existing users behaves how.
fn people_who(run: &Run) -> String {
    let crowd = &run.world.crowd;
    match (crowd.has_rude(), crowd.is_silent()) {
        (false, _) => ALL_POLITE.to_owned(),
        (true, false) => run.shares.text().to_owned(),
        (true, true) => format!("{}, of which only the polite do anything", run.shares.text()),
    }
}

pub(super) fn versions(run: &Run) -> Versions {
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
