//! The measured part: calm, surge, and the time in which what is on its way arrives.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::actors::Draw;
use super::people::People;
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
use crate::workers::{Inheritance, Tie};
use crate::workload::{Newcomer, Order, Somebody, Stage, World, away, pump};

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

/// Offers what the plan says, from a moment on, whatever becomes of it.
pub(super) async fn replay<S: Somebody>(
    run: &mut Run,
    plan: &Plan,
    people: &Arc<People<S>>,
    folder: &RunFolder,
    begins: Instant,
) -> Result<Measured, RunError> {
    let calm = Duration::from_secs(run.options.calm);
    let surge_ends = calm + plan.load.duration();
    let spool = run.tie.as_ref().map(|tie| tie.spool.clone());
    let journal = Journal::telling(folder.path(), run.started, spool)?;
    // A run that is continued begins where the complete part ends.
    let from = run.options.continued.as_ref().map_or(Duration::ZERO, |continued| continued.from);
    let started = begins.checked_sub(from).unwrap_or(begins);
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
    let planned_until = Arc::new(AtomicU64::new(0));
    let schedule = own(run, people, planned(run, plan, calm, surge_ends)?, &planned_until);
    let schedule = schedule.filter(move |arrival| arrival.at >= from);
    let mut pacer = Pacer::start(started, schedule).map_err(RunError::Thread)?;
    let (mut own_are_over, mut inherited) = (false, Inherited::default());
    let mut recorder = Recorder::new(run, plan, stats.clone(), calm, codes_before, journal);
    let mut faults = begin_faults(run, started, from, folder);
    let mut journeys = JoinSet::new();
    let mut interrupted = run.interrupted.clone();
    loop {
        tokio::select! {
            due = pacer.next(), if !own_are_over => match due {
                Some(due) => start(run, people, &mut journeys, due),
                None => own_are_over = true,
            },
            Some(due) = inherited.next() => start(run, people, &mut journeys, due),
            inheritance = inheritance(&mut run.tie) => match inheritance {
                Some(inheritance) => {
                    let schedule = planned(run, plan, calm, surge_ends)?;
                    let schedule = inheritance_of(run, people, &inheritance, schedule);
                    inherited.add(Pacer::start(started, schedule).map_err(RunError::Thread)?);
                }
                // The coordinator ends the load.
                None => {
                    pacer.stop_handle().stop();
                    break;
                }
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
        // Who has nothing to do any more is there for the others until they have not.
        let whole = started + Duration::from_micros(planned_until.load(SeqCst));
        if own_are_over && inherited.are_over() && Instant::now() >= whole {
            break;
        }
    }
    drop(inherited);
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
pub(super) fn begin_faults(
    run: &Run,
    started: Instant,
    from: Duration,
    folder: &RunFolder,
) -> JoinSet<Event> {
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
    if let Some(event) = happened_in(run, done) {
        recorder.event(event);
    }
}

/// A fault that is over, told of.
pub(super) fn happened_in(run: &mut Run, done: Result<Event, JoinError>) -> Option<Event> {
    let event = done.ok()?;
    run.say(&format!("{:.1} s: {} ({})", event.at_s, event.label, event.outcome));
    Some(event)
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

/// Those of its own part, where others play the rest. `until` follows all of them, in microseconds: when the own ones are over, it is the end of the
/// whole.
fn own<S: Somebody>(
    run: &Run,
    people: &Arc<People<S>>,
    schedule: Planned,
    until: &Arc<AtomicU64>,
) -> Planned {
    let Some(tie) = &run.tie else { return schedule };
    let (part, existing) = (tie.part, run.options.existing);
    let (draw, people) = (draw(run, people), people.clone());
    let until = until.clone();
    Box::new(schedule.filter(move |arrival| {
        until.fetch_max(u64::try_from(arrival.at.as_micros()).unwrap_or(u64::MAX), SeqCst);
        draw.is_of(part, existing, &people, arrival)
    }))
}

/// Of a lost worker's part, from the moment on at which it was taken over, those whose turn is this worker's.
fn inheritance_of<S: Somebody>(
    run: &Run,
    people: &Arc<People<S>>,
    inheritance: &Inheritance,
    schedule: Planned,
) -> impl Iterator<Item = Arrival<Work>> + Send + use<S> {
    let (part, existing) = (inheritance.part, run.options.existing);
    let from = Duration::from_secs(inheritance.from_s);
    let heirs = inheritance.heirs.clone();
    let own = run.tie.as_ref().map_or(0, |tie| tie.summary.number);
    let (draw, people) = (draw(run, people), people.clone());
    schedule.filter(move |arrival| {
        let turn = heirs.get((arrival.index % heirs.len().max(1) as u64) as usize);
        arrival.at >= from && turn == Some(&own) && draw.is_of(part, existing, &people, arrival)
    })
}

/// The next part that this worker takes over, or `None` when the load is to end. Never resolves for who plays alone. Cancel-safe.
async fn inheritance(tie: &mut Option<Tie>) -> Option<Inheritance> {
    match tie {
        Some(tie) => tie.next_inheritance().await,
        None => std::future::pending().await,
    }
}

/// Arrivals that were lost workers'.
#[derive(Debug, Default)]
struct Inherited {
    pacers: Vec<Pacer<Work>>,
}

impl Inherited {
    fn add(&mut self, pacer: Pacer<Work>) {
        self.pacers.push(pacer);
    }

    fn are_over(&self) -> bool {
        self.pacers.is_empty()
    }

    /// The next one that is due. Never resolves while there are none. Cancel-safe.
    async fn next(&mut self) -> Option<Due<Work>> {
        std::future::poll_fn(|context| {
            let mut at = 0;
            while let Some(pacer) = self.pacers.get_mut(at) {
                match pacer.poll_next(context) {
                    Poll::Ready(Some(due)) => return Poll::Ready(Some(due)),
                    // The last one of them: whoever waits looks whether all is over.
                    Poll::Ready(None) => drop(self.pacers.remove(at)),
                    Poll::Pending => at += 1,
                }
            }
            Poll::Pending
        })
        .await
    }
}

fn start<S: Somebody>(run: &Run, people: &Arc<People<S>>, journeys: &mut JoinSet<bool>, due: Due<Work>) {
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
            let Some((from, writer)) = writer(run, people, &due) else { return };
            let to = draw(run, people).receiver(work, due.index);
            let to = if to == from { (from + 1) % people.len() } else { to };
            send(journeys, world, people, (writer.clone(), to), due);
        }
        Op::FanOut => {
            let Some((from, writer)) = writer(run, people, &due) else { return };
            let to = draw(run, people).receiver(work, due.index);
            let to = if to == from { (from + 1) % people.len() } else { to };
            for n in 0..FAN_OUT.min(people.len() - 1) {
                // Others one after the other from the first, and never the writer.
                let to = (from + 1 + (to + people.len() - from - 1 + n) % (people.len() - 1)) % people.len();
                send(journeys, world.clone(), people, (writer.clone(), to), due);
            }
        }
        Op::Discover => {
            let Some((_, user)) = writer(run, people, &due) else { return };
            let user = user.clone();
            if !world.crowd.is_polite(user.index()) {
                return;
            }
            journeys.spawn(async move {
                user.discover(&world, due.planned).await;
                true
            });
        }
        Op::Reconnect => order(run, people, &due, Order::Lose { away: Duration::ZERO }),
        Op::Flap => order(run, people, &due, Order::Lose { away: away(&world) }),
        Op::Wake => order(run, people, &due, Order::Come),
    }
}

fn send<S: Somebody>(
    journeys: &mut JoinSet<bool>,
    world: Arc<World>,
    people: &Arc<People<S>>,
    (writer, to): (S, usize),
    due: Due<Work>,
) {
    let people = people.clone();
    journeys.spawn(async move {
        writer.send_to(&world, people.contact(to), due.planned, due.stream.bytes).await;
        true
    });
}

/// Only the polite do what a load says of connections; what the others do with theirs is their cohort's.
fn order<S: Somebody>(run: &Run, people: &People<S>, due: &Due<Work>, order: Order) {
    let place = draw(run, people).actor(due.stream, due.index);
    if let Some((_, user)) = place.and_then(|place| people.acting(place))
        && run.world.crowd.is_polite(user.index())
    {
        user.order(order);
    }
}

fn draw<S: Somebody>(run: &Run, people: &People<S>) -> Draw {
    let flapping_share = run.world.behaviour.flapping_share;
    Draw { seed: run.seed, people: people.len(), flapping_share }
}

/// Who acts, and from which place: as recorded, else as drawn. Nobody who is offline acts if somebody else here can. `None`: it is somebody who does
/// not act now. Nobody else does in his place, so that what the polite do is the same whatever the others do.
fn writer<'a, S: Somebody>(run: &Run, people: &'a People<S>, due: &Due<Work>) -> Option<(usize, &'a S)> {
    let crowd = &run.world.crowd;
    let drawn = people.acting(draw(run, people).actor(due.stream, due.index)?)?;
    let writer = match due.stream.user {
        None if crowd.is_polite(drawn.1.index()) => {
            let acts = |(_, user): &(usize, &S)| user.is_online() && crowd.is_polite(user.index());
            people.here_from(drawn.0).find(acts).unwrap_or(drawn)
        }
        _ => drawn,
    };
    crowd.writes(writer.1.index(), due.planned).then_some(writer)
}

fn newcomer(run: &Run, journeys: &mut JoinSet<bool>, due: Due<Work>) {
    let world = run.world.clone();
    let index = run.world.newcomers_from + due.index as u32;
    let newcomer = Newcomer { index, planned: due.planned, linger: world.habits.linger };
    journeys.spawn(newcomer.travel(world));
}

/// Waits until nothing is under way and everything acknowledged has arrived, or until that takes too long.
async fn settle(run: &mut Run, recorder: &mut Recorder, journeys: &mut JoinSet<bool>) {
    for (stage, at_most) in [(Stage::Closing, SETTLE_MAX), (Stage::Quiet, QUIET_MAX)] {
        run.world.stage.send_replace(stage);
        // The coordinator, who sees everybody, says when; without it the end is late and not never.
        let at_most = if run.tie.is_some() { at_most * 2 } else { at_most };
        let ends = Instant::now() + at_most;
        while Instant::now() < ends {
            let nothing_to_come = match stage {
                Stage::Quiet => run.world.sending.load(SeqCst) == 0 && run.world.finishing.load(SeqCst) == 0,
                _ => journeys.is_empty(),
            };
            let settled = nothing_to_come && run.world.ledger.counts().lost == 0;
            let goes_on = match &run.tie {
                Some(tie) => tie.goes_on(stage, settled),
                None => settled,
            };
            if goes_on {
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
