//! Sends everything three times, under one id.

use spillway_client::{Client, Identity};
use tokio::time::Instant;

use super::{About, Cohort, again};
use crate::stats::{Operation, Outcome};
use crate::workload::{Letter, Posted, World, outcome, post};

pub(super) const ABOUT: About = About {
    name: "resend-same-id",
    operation: Operation("resend_same_id_send"),
    verb: "send",
    summary: "sends every message three times under one id; nobody may see it twice",
    does: "Sends every message twice at the same moment and once more when both were answered, all under one id. A receiver that drops what it \
           has seen must see it once: a second one is a duplicate, and the run fails with status 7.",
    who: "Clients that lost the answer and not the message: the repetition that the API promises to be safe, made the rule.",
    source: "",
    ceiling: "2,000 attempts a second of the whole cohort, three for a message",
};

pub(super) async fn write(
    world: &World,
    client: &Client,
    identity: &Identity,
    letter: Letter,
    planned: Instant,
) {
    let Some(Posted { ticket, message, sending: _sending }) = post(world, letter) else { return };
    let timer = world.stats().start(ABOUT.operation, planned);
    let copy = async |tries| {
        let cohort = Cohort::ResendSameId;
        world.crowd.turn(cohort).await;
        world.crowd.tally(cohort).attempt(tries);
        let answer = again::attempt(client, identity, &message, Some(again::PATIENCE)).await;
        answer.unwrap_or_else(|error| outcome::of(&error))
    };
    let copies = async {
        let (first, second) = tokio::join!(copy(0), copy(1));
        [first, second, copy(2).await]
    };
    let outcome = match world.unless_closing(copies).await {
        Some(outcomes) => outcomes.into_iter().find(|of| *of == Outcome::Ok).unwrap_or(outcomes[0]),
        None => Outcome::StillWaiting,
    };
    match outcome {
        Outcome::Ok => world.ledger.acked(ticket),
        _ => world.ledger.gave_up(ticket),
    }
    timer.finish(outcome);
}
