//! What one arrival sets off.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Run;
use super::actors::Draw;
use super::people::People;
use crate::load::{FAN_OUT, Op, Sizes, Work};
use crate::pacer::Due;
use crate::profile::{Comer, Profile, comer};
use crate::workload::{Newcomer, Order, Somebody, World, away, pump};

pub(super) fn start<S: Somebody>(
    run: &Run,
    people: &Arc<People<S>>,
    journeys: &mut JoinSet<bool>,
    due: Due<Work>,
) {
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
            let Some(writer) = writer(run, people, &due) else { return };
            write(run, people, journeys, &due, writer, 1);
        }
        Op::FanOut => {
            let Some(writer) = writer(run, people, &due) else { return };
            write(run, people, journeys, &due, writer, FAN_OUT);
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

/// Bytes of a message's content: as recorded, else as drawn. A fan-out has several, which are `n`th in it.
fn content(run: &Run, due: &Due<Work>, n: u64) -> Option<u32> {
    let of_stream = due.stream.op as u64;
    let drawn = |sizes: &Sizes| sizes.draw(run.seed ^ of_stream, due.index * FAN_OUT as u64 + n);
    due.stream.bytes.or_else(|| run.options.load.bytes.as_ref().map(drawn))
}

/// A message to so many people at once.
fn write<S: Somebody>(
    run: &Run,
    people: &Arc<People<S>>,
    journeys: &mut JoinSet<bool>,
    due: &Due<Work>,
    (from, writer): (usize, &S),
    count: usize,
) {
    let receivers = draw(run, people).receivers(due.stream, due.index, from, count);
    for (n, to) in (0..).zip(receivers) {
        let bytes = content(run, due, n);
        send(journeys, run.world.clone(), people, (writer.clone(), to), (due.planned, bytes));
    }
}

fn send<S: Somebody>(
    journeys: &mut JoinSet<bool>,
    world: Arc<World>,
    people: &Arc<People<S>>,
    (writer, to): (S, usize),
    (planned, bytes): (Instant, Option<u32>),
) {
    let people = people.clone();
    journeys.spawn(async move {
        writer.send_to(&world, people.contact(to), planned, bytes).await;
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

pub(super) fn draw<S: Somebody>(run: &Run, people: &People<S>) -> Draw {
    let flapping_share = run.world.behaviour.flapping_share;
    Draw { seed: run.seed, people: people.len(), flapping_share, friends: people.friends().cloned() }
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
