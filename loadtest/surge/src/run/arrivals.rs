//! The measured part: calm, surge, and the time in which what is on its way arrives.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::recorder::{Finished, Recorder};
use super::{Plan, QUIET_MAX, Run, RunError, SETTLE_MAX, brownout, probe};
use crate::curve::Curve;
use crate::events::{Event, EventKind};
use crate::faults::{self, Surroundings};
use crate::gates::Watch;
use crate::journal::Journal;
use crate::pacer::{Due, Pacer};
use crate::profile::{Comer, Profile, comer};
use crate::room::{Room, SecondInRoom, Visit};
use crate::run_folder::RunFolder;
use crate::schedule::{Arrivals, Schedule, merge};
use crate::stats::Stats;
use crate::timeline::Row;
use crate::workload::{ExistingUser, Newcomer, Stage, pump};

/// Who is due.
#[derive(Clone, Copy, Debug)]
enum Who {
    Existing,
    Newcomer,
}

/// What the measured part left.
pub(super) struct Measured {
    pub(super) stats: Arc<Stats>,
    pub(super) rows: Vec<Row>,
    /// Everybody who came to the waiting room, and what it looked like.
    pub(super) visits: Vec<Visit>,
    pub(super) room: Vec<SecondInRoom>,
    /// Codes that were sent.
    pub(super) codes: u64,
    pub(super) length: Duration,
    pub(super) interrupted: bool,
    /// By a gate.
    pub(super) aborted: bool,
    pub(super) watches: Vec<Watch>,
    pub(super) events: Vec<Event>,
}

/// Offers what the plan says, whatever becomes of it.
pub(super) async fn replay(
    run: &mut Run,
    plan: &Plan,
    people: &Arc<[ExistingUser]>,
    folder: &RunFolder,
) -> Result<Measured, RunError> {
    let calm = Duration::from_secs(run.options.calm);
    let surge_ends = calm + run.options.surge();
    let journal = Journal::open(folder.path(), run.started)?;
    // A run that is continued begins where the complete part ends.
    let from = run.options.continued.as_ref().map_or(Duration::ZERO, |continued| continued.from);
    let now = Instant::now();
    let started = now.checked_sub(from).unwrap_or(now);
    let stats = Stats::new(started, run.phases().to_vec());
    run.world.stats.store(stats.clone());
    run.world.room.store(Room::new(started));
    let codes_before = run.world.phones.arrived();
    if let Some(brownout) = plan.brownout {
        brownout::begin(run, brownout, started + calm)?;
    }

    let sends = Curve::constant(run.options.sends, surge_ends)?;
    let newcomers = plan.replay.curve.after(calm);
    let newcomers_come = match run.options.profile {
        // As many numbers as there are to pump, and not as many as chance has it.
        Profile::Pumping => Arrivals::Uniform,
        _ => Arrivals::Poisson,
    };
    let schedules = merge([
        Schedule::new(Who::Existing, Arc::new(sends), Arrivals::Poisson, run.seed),
        Schedule::new(Who::Newcomer, Arc::new(newcomers), newcomers_come, run.seed ^ 1),
    ]);
    let schedule = schedules.filter(move |arrival| arrival.at >= from);
    let mut pacer = Pacer::start(started, schedule).map_err(RunError::Thread)?;
    let mut recorder = Recorder::new(run, plan, stats.clone(), calm, codes_before, journal);
    let mut faults = begin_faults(run, started, from, folder);
    let mut journeys = JoinSet::new();
    let mut interrupted = run.interrupted.clone();
    loop {
        tokio::select! {
            due = pacer.next() => match due {
                Some(due) => start(run, people, &mut journeys, due),
                None => break,
            },
            () = recorder.tick() => {
                recorder.show(run);
                if recorder.is_aborted() {
                    pacer.stop_handle().stop();
                    break;
                }
            }
            Some(_) = journeys.join_next(), if !journeys.is_empty() => {}
            Some(done) = faults.join_next(), if !faults.is_empty() => happened(run, &mut recorder, done),
            _ = interrupted.wait_for(|interrupted| *interrupted) => {
                pacer.stop_handle().stop();
                break;
            }
        }
    }
    settle(run, &mut recorder, &mut journeys).await;
    while let Some(done) = faults.try_join_next() {
        happened(run, &mut recorder, done);
    }
    let length = started.elapsed();
    let codes = run.world.phones.arrived() - codes_before;
    let visits = run.world.room().ended();
    let Finished { rows, room, watches, events, aborted } = recorder.finish(run, &visits)?;
    let interrupted = run.is_interrupted();
    Ok(Measured { stats, rows, visits, room, codes, length, interrupted, aborted, watches, events })
}

/// Each fault waits for its time. Those of the part that is not repeated have been.
fn begin_faults(run: &Run, started: Instant, from: Duration, folder: &RunFolder) -> JoinSet<Event> {
    let mut faults = JoinSet::new();
    let surroundings = Surroundings {
        pids: run.target.pids.clone(),
        target: run.target.public.clone(),
        folder: folder.path().display().to_string(),
    };
    for fault in run.faults.iter().filter(|fault| fault.at >= from).cloned() {
        let surroundings = surroundings.clone();
        faults.spawn(async move {
            tokio::time::sleep_until(started + fault.at).await;
            let begun = Instant::now();
            let outcome = faults::run(&fault, &surroundings).await;
            Event {
                at_s: (begun - started).as_secs_f64(),
                kind: EventKind::Fault,
                label: fault.label,
                took_s: Some(begun.elapsed().as_secs_f64()),
                outcome,
            }
        });
    }
    faults
}

fn happened(run: &mut Run, recorder: &mut Recorder, done: Result<Event, JoinError>) {
    if let Ok(event) = done {
        run.say(&format!("{:.1} s: {} ({})", event.at_s, event.label, event.outcome));
        recorder.event(event);
    }
}

fn start(run: &Run, people: &Arc<[ExistingUser]>, journeys: &mut JoinSet<bool>, due: Due<Who>) {
    let world = run.world.clone();
    match due.stream {
        Who::Newcomer if run.options.profile == Profile::Pumping => match comer(due.index) {
            Comer::Honest => newcomer(run, journeys, due),
            Comer::Pumper(number) => drop(journeys.spawn(pump(world, number, due.planned))),
            Comer::Nobody => {}
        },
        Who::Newcomer => newcomer(run, journeys, due),
        Who::Existing => {
            let (from, to) = pair(run.seed, due.index, people.len());
            let people = people.clone();
            journeys.spawn(async move {
                people[from].send_to(&world, &people[to], due.planned).await;
                true
            });
        }
    }
}

fn newcomer(run: &Run, journeys: &mut JoinSet<bool>, due: Due<Who>) {
    let world = run.world.clone();
    let index = run.options.existing + probe::INDICES + due.index as u32;
    let newcomer = Newcomer { index, planned: due.planned, linger: world.habits.linger };
    journeys.spawn(newcomer.travel(world));
}

/// Two different people for the `n`th message.
fn pair(seed: u64, n: u64, people: usize) -> (usize, usize) {
    let mut random = SmallRng::seed_from_u64(seed.rotate_left(17) ^ n);
    let from = random.random_range(0..people);
    let to = (from + random.random_range(1..people)) % people;
    (from, to)
}

/// Waits until nothing is under way and everything acknowledged has arrived, or until that takes too long.
async fn settle(run: &mut Run, recorder: &mut Recorder, journeys: &mut JoinSet<bool>) {
    for (stage, at_most) in [(Stage::Closing, SETTLE_MAX), (Stage::Quiet, QUIET_MAX)] {
        run.world.stage.send_replace(stage);
        let ends = Instant::now() + at_most;
        while Instant::now() < ends {
            let nothing_to_come = match stage {
                Stage::Quiet => run.world.sending.load(SeqCst) == 0 && run.world.finishing.load(SeqCst) == 0,
                _ => journeys.is_empty(),
            };
            if nothing_to_come && run.world.ledger.counts().lost == 0 {
                break;
            }
            tokio::select! {
                () = recorder.tick() => recorder.show(run),
                Some(_) = journeys.join_next(), if !journeys.is_empty() => {}
            }
        }
    }
    run.world.stage.send_replace(Stage::Over);
    // Everybody goes home at once; a second is for those in the middle of a call.
    let leave = async { while journeys.join_next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(1), leave).await.ok();
    journeys.abort_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_to_themselves() {
        for people in [2, 3, 300] {
            for n in 0..1_000 {
                let (from, to) = pair(7, n, people);
                assert!(from != to && from < people && to < people);
            }
        }
    }
}
