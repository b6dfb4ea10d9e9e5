//! The arrivals of a run, in order of time: all of them, and those of one worker.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use super::people::People;
use super::start::draw;
use super::{Plan, Run, RunError};
use crate::curve::Curve;
use crate::load::{Op, Work};
use crate::offer::{OfferError, of_trace as of_trace_options};
use crate::profile::Profile;
use crate::schedule::{Arrival, Arrivals, Schedule, merge};
use crate::trace;
use crate::workers::Inheritance;
use crate::workload::Somebody;

pub(super) type Planned = Box<dyn Iterator<Item = Arrival<Work>> + Send>;

/// The load after the calm, in which existing users do what they always do.
pub(super) fn planned(run: &Run, plan: &Plan, calm: Duration, ends: Duration) -> Result<Planned, RunError> {
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
pub(super) fn own<S: Somebody>(
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
pub(super) fn inheritance_of<S: Somebody>(
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
