//! The profile `room-million`: a waiting room of a million people at five gateways, of which one is killed, in virtual time.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spillway_simulator::room::{Figures, Scenario, Second, World, series};
use spillway_types::{Clock, SystemClock};

use crate::cli::RunOptions;
use crate::run_folder::{RunFolder, RunFolderError};
use crate::slo::{
    Comparison, Ending, ExitCode, Gate, GateResult, Judgement, Kind, Observations, Threshold, Verdict, judge,
};
use crate::summary::SCHEMA_VERSION;

/// What came of it: `summary.json`, and the source of the page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoomMillion {
    pub schema_version: u32,
    pub verdict: Verdict,
    pub exit_code: ExitCode,
    pub headline: String,
    pub profile: String,
    pub seed: u64,
    pub people: u64,
    pub gates: Vec<GateResult>,
    /// When the last one was called, in seconds.
    pub empty_at_s: f64,
    pub claims: u64,
    pub polls: u64,
    pub seconds: Vec<Second>,
}

mod figure {
    pub(super) const OVERTAKING_MS: &str = "room.overtaking_ms";
    pub(super) const OVERTAKING_BY_KILL_MS: &str = "room.overtaking_by_kill_ms";
    pub(super) const TAU: &str = "room.kendall_tau_ratio";
    pub(super) const MAPE_RATIO: &str = "room.estimate_mape_ratio";
    pub(super) const INSIDE_RATIO: &str = "room.estimate_inside_ratio";
    pub(super) const OUTSIDE_RATIO: &str = "room.estimate_outside_ratio";
    pub(super) const USED_RATIO: &str = "room.seats_used_ratio";
    pub(super) const OVER_RATIO: &str = "room.over_admission_ratio";
    pub(super) const POLLS_PER_S: &str = "room.polls_per_s";
}

/// Experiment E16 of `reference/overload.md`.
fn gates(polls_max: f64) -> Vec<Gate> {
    use Comparison::{AtLeast, AtMost};
    use Threshold::Fixed;

    let gate = |figure, comparison, threshold, means| {
        let (kind, threshold) = (Kind::Objective, Fixed(threshold));
        Gate { figure, kind, comparison, threshold, means }
    };
    vec![
        gate(
            figure::OVERTAKING_MS,
            AtMost,
            1_000.0,
            "nobody was overtaken by who came more than a second later",
        ),
        gate(
            figure::OVERTAKING_BY_KILL_MS,
            AtMost,
            2_000.0,
            "nor by who came two seconds later, where a gateway died",
        ),
        gate(figure::TAU, AtLeast, 0.999, "the order of turns is that of arrivals"),
        gate(figure::MAPE_RATIO, AtMost, 0.15, "waits were about what was told"),
        gate(figure::INSIDE_RATIO, AtLeast, 0.75, "waits ended within the range that was told"),
        gate(figure::OUTSIDE_RATIO, AtLeast, 0.15, "and the range was no wider than it had to be"),
        gate(figure::USED_RATIO, AtLeast, 0.97, "the seats were used"),
        gate(figure::OVER_RATIO, AtMost, 0.01, "no more were let in than there was room for"),
        gate(figure::POLLS_PER_S, AtMost, polls_max, "the room cost no more polls a second than it may"),
    ]
}

/// Plays it, prints the rows, and leaves a folder.
///
/// # Errors
///
/// When the folder cannot be written.
pub fn play(options: &RunOptions) -> Result<ExitCode, RunFolderError> {
    let folder = RunFolder::create(&options.out, SystemClock.now(), &options.profile.folder_name())?;
    let seed = options.seed();
    eprintln!("surge: a waiting room of {} people in virtual time, seed {seed}", options.people);
    let outcome = outcome(options.people, seed);
    print(&outcome, &folder, &mut io::stdout()).ok();
    folder.write_room(&outcome)?;
    Ok(outcome.exit_code)
}

fn outcome(people: u32, seed: u64) -> RoomMillion {
    let scenario = Scenario::e16(people as usize, seed);
    let polls_max = scenario.polls_max;
    let world = World::run(scenario);
    let figures = Figures::of(&world);
    let Judgement { verdict, exit_code, gates } =
        judge(&gates(polls_max), &observed(&figures), Ending::default());
    let missed = gates.iter().find(|gate| !gate.pass);
    let headline = missed.map_or_else(
        || "Everybody had a place, in order, and was told the truth.".to_owned(),
        |gate| format!("Not so: {}.", gate.means),
    );
    RoomMillion {
        schema_version: SCHEMA_VERSION,
        verdict,
        exit_code,
        headline,
        profile: "room-million".to_owned(),
        seed,
        people: people.into(),
        gates,
        empty_at_s: figures.empty_at.as_secs_f64(),
        claims: figures.claims as u64,
        polls: figures.polls,
        seconds: series(&world),
    }
}

fn observed(figures: &Figures) -> Observations {
    let millis = |duration: Duration| Some(duration.as_secs_f64() * 1_000.0);
    let mut observed = Observations::default();
    observed
        .set(figure::OVERTAKING_MS, millis(figures.overtaking))
        .set(figure::OVERTAKING_BY_KILL_MS, millis(figures.overtaking_by_kill))
        .set(figure::TAU, Some(figures.tau))
        .set(figure::MAPE_RATIO, Some(figures.mape))
        .set(figure::INSIDE_RATIO, Some(figures.inside))
        .set(figure::OUTSIDE_RATIO, Some(figures.below + figures.above))
        .set(figure::USED_RATIO, Some(figures.used))
        .set(figure::OVER_RATIO, Some(figures.over))
        .set(figure::POLLS_PER_S, Some(figures.polls_peak));
    observed
}

fn print(outcome: &RoomMillion, folder: &RunFolder, out: &mut impl io::Write) -> io::Result<()> {
    writeln!(out)?;
    for gate in &outcome.gates {
        writeln!(
            out,
            "  {} {:<34} {} (observed {:.4})",
            if gate.pass { "pass" } else { "FAIL" },
            gate.figure,
            gate.means,
            gate.observed.unwrap_or(f64::NAN),
        )?;
    }
    writeln!(
        out,
        "\n  {} people, {} claimed their turn, {} polls, empty after {:.0} s\n  report: {}",
        outcome.people,
        outcome.claims,
        outcome.polls,
        outcome.empty_at_s,
        folder.report().display()
    )?;
    let verdict = if outcome.verdict == Verdict::Pass { "PASS" } else { "FAIL" };
    writeln!(out, "\n{verdict}: {}", outcome.headline)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A smaller room is coarser, so it is not asked to pass; what it says must follow from what it saw.
    #[test]
    fn a_small_room_is_played_and_judged() {
        let outcome = outcome(10_000, 1);
        assert_eq!(outcome.gates.len(), 9);
        let missed = outcome.gates.iter().filter(|gate| !gate.pass).count();
        assert_eq!(missed == 0, outcome.exit_code == ExitCode::Pass, "{:?}", outcome.gates);
        let order = outcome.gates.iter().find(|gate| gate.figure == figure::OVERTAKING_MS).unwrap();
        assert!(order.pass && order.observed.is_some(), "{order:?}");
        let json = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<RoomMillion>(&json).unwrap().people, 10_000);
        let mut text = Vec::new();
        print(&outcome, &RunFolder::open("there"), &mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("10000 people"));
    }
}
