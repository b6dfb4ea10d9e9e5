//! The measured part: calm, surge, and the time in which what is on its way arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::inherited::Inherited;
use super::overflow::Overflow;
use super::people::People;
use super::planned::{inheritance_of, own, planned};
use super::recorder::{Finished, Recorder};
use super::settle::settle;
use super::start::start;
use super::{Plan, RECOVERING, Run, RunError, brownout, gates};
use crate::events::{Event, EventKind};
use crate::faults::{self, Surroundings};
use crate::gates::Watch;
use crate::journal::Journal;
use crate::load::Work;
use crate::pacer::Pacer;
use crate::room::{Room, SecondInRoom, Visit};
use crate::run_folder::{RunFolder, RunFolderError};
use crate::stats::Stats;
use crate::timeline::Row;
use crate::workers::{Inheritance, Tie};
use crate::workload::Somebody;

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
    /// Why the folder does not have all of it.
    pub(super) unwritten: Option<RunFolderError>,
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

    expect_surge(run, plan, started, calm);
    let planned_until = Arc::new(AtomicU64::new(0));
    let schedule = own(run, people, planned(run, plan, calm, surge_ends)?, &planned_until);
    let schedule = schedule.filter(move |arrival| arrival.at >= from);
    let pacer = Pacer::start(started, schedule).map_err(RunError::Thread)?;
    let mut recorder = Recorder::new(run, plan, stats.clone(), calm, codes_before, journal);
    let mut faults = begin_faults(run, started, from, folder);
    let mut journeys = JoinSet::new();
    let span = Span { started, calm, ends: surge_ends, planned_until };
    let going_on = (&mut recorder, &mut faults, &mut journeys);
    offer(run, plan, people, &span, pacer, going_on).await?;
    settle(run, &mut recorder, &mut journeys).await;
    while let Some(done) = faults.try_join_next() {
        happened(run, &mut recorder, done);
    }
    let length = started.elapsed();
    let codes = run.world.phones.arrived() - codes_before;
    let visits = run.world.room().ended();
    let Finished { rows, room, watches, events, aborted, unwritten } = recorder.finish(run, &visits);
    let interrupted = run.is_interrupted();
    Ok(Measured {
        stats,
        rows,
        visits,
        room,
        codes,
        length,
        interrupted,
        aborted,
        watches,
        events,
        unwritten,
    })
}

/// When a load is played.
struct Span {
    started: Instant,
    calm: Duration,
    /// Of the load, since the start.
    ends: Duration,
    /// How far everybody's plan has been looked at, in microseconds; at the end, how long it is.
    planned_until: Arc<AtomicU64>,
}

/// Sends out every arrival when it is due, until all are or the load is ended.
async fn offer<S: Somebody>(
    run: &mut Run,
    plan: &Plan,
    people: &Arc<People<S>>,
    span: &Span,
    mut pacer: Pacer<Work>,
    (recorder, faults, journeys): (&mut Recorder, &mut JoinSet<Event>, &mut JoinSet<bool>),
) -> Result<(), RunError> {
    // Of all of them, the own part.
    let most = run.options.load.max_in_flight.map(|most| run.of_own(f64::from(most)).ceil() as usize);
    let mut overflow = Overflow::new(most, run.options.load.on_overflow);
    let (mut own_are_over, mut inherited) = (false, Inherited::default());
    let mut interrupted = run.interrupted.clone();
    loop {
        let due = tokio::select! {
            due = pacer.next(), if !own_are_over => {
                own_are_over = due.is_none();
                due
            }
            Some(due) = inherited.next() => Some(due),
            inheritance = inheritance(&mut run.tie) => {
                // Without one, the coordinator ends the load.
                let Some(inheritance) = inheritance else { break };
                let schedule = planned(run, plan, span.calm, span.ends)?;
                let schedule = inheritance_of(run, people, &inheritance, schedule);
                inherited.add(Pacer::start(span.started, schedule).map_err(RunError::Thread)?);
                None
            }
            () = recorder.tick() => {
                recorder.leave_out(overflow.take_shed());
                recorder.show(run);
                if recorder.is_aborted() {
                    break;
                }
                None
            }
            Some(_) = journeys.join_next(), if !journeys.is_empty() => None,
            Some(done) = faults.join_next(), if !faults.is_empty() => {
                happened(run, recorder, done);
                None
            }
            _ = interrupted.wait_for(|interrupted| *interrupted) => break,
        };
        let mut next = due.and_then(|due| overflow.take(due, journeys.len()));
        while let Some(due) = next.or_else(|| overflow.next(journeys.len())) {
            start(run, people, journeys, due);
            next = None;
        }
        // Who has nothing to do any more is there for the others until they have not.
        let whole = span.started + Duration::from_micros(span.planned_until.load(SeqCst));
        let is_over = own_are_over && inherited.are_over() && overflow.holds_nothing();
        if is_over && Instant::now() >= whole {
            break;
        }
    }
    pacer.stop_handle().stop();
    overflow.end();
    recorder.leave_out(overflow.take_shed());
    Ok(())
}

/// From when on the rude are rude, and how late answers are.
fn expect_surge(run: &mut Run, plan: &Plan, started: Instant, calm: Duration) {
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

/// The next part that this worker takes over, or `None` when the load is to end. Never resolves for who plays alone. Cancel-safe.
async fn inheritance(tie: &mut Option<Tie>) -> Option<Inheritance> {
    match tie {
        Some(tie) => tie.next_inheritance().await,
        None => std::future::pending().await,
    }
}
