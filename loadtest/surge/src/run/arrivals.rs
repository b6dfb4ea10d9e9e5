//! The measured part: calm, surge, and the time in which what is on its way arrives.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::recorder::{Finished, Recorder};
use super::{Plan, QUIET_MAX, RECOVERING, Run, RunError, SETTLE_MAX, brownout, gates};
use crate::curve::Curve;
use crate::events::{Event, EventKind};
use crate::faults::{self, Surroundings};
use crate::gates::Watch;
use crate::journal::Journal;
use crate::load::{FAN_OUT, Op, Work};
use crate::offer::{OfferError, of_trace as of_trace_options};
use crate::pacer::{Due, Pacer};
use crate::profile::{Comer, Profile, comer};
use crate::room::{Room, SecondInRoom, Visit};
use crate::run_folder::RunFolder;
use crate::schedule::{Arrival, Arrivals, Schedule, merge};
use crate::stats::Stats;
use crate::timeline::Row;
use crate::trace;
use crate::workload::{Newcomer, Order, Somebody, Stage, away, pump};

type Planned = Box<dyn Iterator<Item = Arrival<Work>> + Send>;

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
pub(super) async fn replay<P: Somebody>(
    run: &mut Run,
    plan: &Plan,
    people: &Arc<[P]>,
    folder: &RunFolder,
) -> Result<Measured, RunError> {
    let calm = Duration::from_secs(run.options.calm);
    let surge_ends = calm + plan.load.duration();
    let journal = Journal::open(folder.path(), run.started)?;
    // A run that is continued begins where the complete part ends.
    let from = run.options.continued.as_ref().map_or(Duration::ZERO, |continued| continued.from);
    let now = Instant::now();
    let started = now.checked_sub(from).unwrap_or(now);
    let stats = Stats::new(started, plan.phases(calm));
    run.world.stats.store(stats.clone());
    run.world.room.store(Room::new(started));
    let codes_before = run.world.phones.arrived();
    if let Some(brownout) = plan.brownout {
        brownout::begin(run, brownout, started + calm)?;
    }

    let world = run.world.clone();
    world.crowd.expect(started + calm);
    run.tasks.spawn(async move {
        tokio::time::sleep_until(started + calm).await;
        world.crowd.begin();
    });
    if let Some(lateness) = &run.lateness {
        let slow = plan.load.behaviour.after(calm).slow;
        let (lateness, world) = (lateness.clone(), run.world.clone());
        run.tasks.spawn(async move {
            lateness.follow(slow, started).await;
            tokio::time::sleep(RECOVERING).await;
            gates::recovered(&world);
        });
    }
    let schedule = planned(run, plan, calm, surge_ends)?.filter(move |arrival| arrival.at >= from);
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

/// The load after the calm, in which existing users do what they always do.
fn planned(run: &Run, plan: &Plan, calm: Duration, ends: Duration) -> Result<Planned, RunError> {
    let how = Arrivals::from(run.options.load.within);
    let stream = |op, curve: Curve, how, seed| Schedule::new(Work::of(op), Arc::new(curve), how, seed);
    let background = Curve::constant(run.options.sends, calm)?;
    if let Some(path) = &run.options.load.trace {
        let mut background = background;
        // A trace that has messages has all of them.
        if plan.sends_in_background {
            background = Curve::constant(run.options.sends, ends)?;
        }
        let background: Planned = Box::new(stream(Op::Send, background, how, run.seed));
        let replay: Planned = Box::new(of_trace(run, path, calm)?);
        return Ok(Box::new(merge([background, replay])));
    }
    let mut schedules = Vec::new();
    for (op, curve) in plan.load.curves() {
        let (curve, how) = match op {
            Op::Send => (background.clone().then(curve), how),
            // As many numbers as there are to pump, and not as many as chance has it.
            Op::SignUp if run.options.profile == Profile::Pumping => (curve.after(calm), Arrivals::Uniform),
            // Everybody once, and not as chance has it.
            Op::Reconnect | Op::Wake => (curve.after(calm), Arrivals::Uniform),
            _ => (curve.after(calm), how),
        };
        let seed = if op == Op::SignUp { run.seed ^ 1 } else { run.seed.wrapping_add(op as u64) };
        schedules.push(stream(op, curve, how, seed));
    }
    Ok(Box::new(merge(schedules)))
}

/// Of a file that was read before the run. Should it be another one by now, what can be read of it is played.
fn of_trace(
    run: &Run,
    path: &Path,
    calm: Duration,
) -> Result<impl Iterator<Item = Arrival<Work>> + Send + use<>, RunError> {
    let replay = trace::Replay::open(path, of_trace_options(&run.options)).map_err(OfferError::from)?;
    let played = run.options.load.clone();
    let replay = replay
        .filter(move |arrival| arrival.as_ref().map_or(true, |arrival| played.plays(arrival.stream.op)));
    Ok(replay.map_while(move |arrival| match arrival {
        Ok(arrival) => Some(Arrival { at: arrival.at + calm, ..arrival }),
        Err(error) => {
            tracing::error!(error = %anyhow::Error::new(error), "the trace ends here");
            None
        }
    }))
}

fn start<P: Somebody>(run: &Run, people: &Arc<[P]>, journeys: &mut JoinSet<bool>, due: Due<Work>) {
    let world = run.world.clone();
    let work = due.stream;
    match work.op {
        Op::SignUp if run.options.profile == Profile::Pumping => match comer(due.index) {
            Comer::Honest => newcomer(run, journeys, due),
            Comer::Pumper(number) => drop(journeys.spawn(pump(world, number, due.planned))),
            Comer::Nobody => {}
        },
        Op::SignUp => newcomer(run, journeys, due),
        Op::Send => {
            let Some((from, to)) = who(run, people, &due) else { return };
            let people = people.clone();
            journeys.spawn(async move {
                people[from].send_to(&world, &people[to], due.planned, work.bytes).await;
                true
            });
        }
        Op::FanOut => {
            let Some((from, to)) = who(run, people, &due) else { return };
            for n in 0..FAN_OUT.min(people.len() - 1) {
                // Others one after the other from the first, and never the writer.
                let to = (from + 1 + (to + people.len() - from - 1 + n) % (people.len() - 1)) % people.len();
                let (world, people) = (world.clone(), people.clone());
                journeys.spawn(async move {
                    people[from].send_to(&world, &people[to], due.planned, work.bytes).await;
                    true
                });
            }
        }
        Op::Discover => {
            let Some((from, _)) = who(run, people, &due) else { return };
            let user = people[from].clone();
            if !world.crowd.is_polite(user.index()) {
                return;
            }
            journeys.spawn(async move {
                user.discover(&world, due.planned).await;
                true
            });
        }
        Op::Reconnect => {
            let user = work.user.unwrap_or_else(|| shuffled(run.seed, due.index, people.len() as u64));
            order(run, &people[user as usize % people.len()], Order::Lose { away: Duration::ZERO });
        }
        Op::Flap => {
            let few = (people.len() as f64 * world.behaviour.flapping_share).ceil().max(2.0) as u64;
            let user =
                work.user.unwrap_or_else(|| shuffled(run.seed, due.index, few.min(people.len() as u64)));
            order(run, &people[user as usize % people.len()], Order::Lose { away: away(&world) });
        }
        Op::Wake => {
            // The last ones are offline at first: see `people`.
            let user = work.user.unwrap_or(people.len() as u64 - 1 - due.index % people.len() as u64);
            order(run, &people[user as usize % people.len()], Order::Come);
        }
    }
}

/// Only the polite do what a load says of connections; what the others do with theirs is their cohort's.
fn order<P: Somebody>(run: &Run, user: &P, order: Order) {
    if run.world.crowd.is_polite(user.index()) {
        user.order(order);
    }
}

/// Who acts and with whom: as recorded, else as drawn. Nobody who is offline acts if somebody else can. `None`: it is somebody who does not act
/// now. Nobody else does in his place, so that what the polite do is the same whatever the others do.
fn who<P: Somebody>(run: &Run, people: &[P], due: &Due<Work>) -> Option<(usize, usize)> {
    let (drawn_from, drawn_to) = pair(run.seed, due.index, people.len());
    let recorded = |index: Option<u64>| index.map(|index| (index % people.len() as u64) as usize);
    let from = recorded(due.stream.user).unwrap_or_else(|| {
        let crowd = &run.world.crowd;
        if !crowd.is_polite(people[drawn_from].index()) {
            return drawn_from;
        }
        let mut others = (0..people.len()).map(|n| (drawn_from + n) % people.len());
        let acts = |n: &usize| people[*n].is_online() && crowd.is_polite(people[*n].index());
        others.find(acts).unwrap_or(drawn_from)
    });
    if !run.world.crowd.writes(people[from].index(), due.planned) {
        return None;
    }
    let to = recorded(due.stream.peer).unwrap_or(drawn_to);
    Some((from, if to == from { (from + 1) % people.len() } else { to }))
}

/// The `n`th of a random order of `count` people, and again from its beginning when all had their turn: multiplication with a number that has no
/// factor in common is a permutation.
fn shuffled(seed: u64, n: u64, count: u64) -> u64 {
    let mut step = (count as f64 * 0.618) as u64 | 1;
    while greatest_common_divisor(step, count) != 1 {
        step += 2;
    }
    (seed % count + n % count * (step % count)) % count
}

const fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn newcomer(run: &Run, journeys: &mut JoinSet<bool>, due: Due<Work>) {
    let world = run.world.clone();
    let index = run.world.newcomers_from + due.index as u32;
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
    fn everybody_has_a_turn_before_anybody_has_two() {
        for count in [2, 3, 10, 300, 20_000] {
            for round in 0..2 {
                let turns = (0..count).map(|n| shuffled(7, round * count + n, count));
                assert_eq!(turns.collect::<std::collections::HashSet<_>>().len() as u64, count);
            }
        }
    }

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
