//! Sends what is too large.

use spillway_client::{Client, Identity};
use tokio::time::Instant;

use super::{About, Cohort, again};
use crate::stats::{Operation, Outcome};
use crate::workload::{Letter, Posted, World, outcome, post};

pub(super) const ABOUT: About = About {
    name: "oversize",
    operation: Operation("oversize_send"),
    verb: "send",
    summary: "sends messages that are too large",
    does: "Whatever it has to write, it writes with 256 KiB and one byte (one more than a message may have), and every fourth time with 2 MB (more than \
           a request may have). It does not try again. Every one must be refused.",
    who: "Clients that put a picture where a text belongs, and whoever tries what happens.",
    source: "",
    ceiling: "20 messages a second of the whole cohort, which is 14 MB",
};

/// Of the whole cohort. They are bytes that this process makes and copies.
pub(super) const PER_S_MAX: f64 = 20.0;

/// One more than the service takes of one envelope.
const ENVELOPE_BYTES: u32 = 256 * 1024 + 1;
/// More than the service takes of one request.
const REQUEST_BYTES: u32 = 2_000_000;
/// Every how manyth is too large for a request.
const REQUEST_EVERY: u64 = 4;

pub(super) async fn write(
    world: &World,
    client: &Client,
    identity: &Identity,
    letter: Letter,
    planned: Instant,
) {
    let cohort = Cohort::Oversize;
    let tally = world.crowd.tally(cohort);
    let is_request = tally.first_attempts() % REQUEST_EVERY == REQUEST_EVERY - 1;
    let bytes = Some(if is_request { REQUEST_BYTES } else { ENVELOPE_BYTES });
    let Some(Posted { ticket, message, sending: _sending }) = post(world, Letter { bytes, ..letter }) else {
        return;
    };
    let timer = world.stats().start(ABOUT.operation, planned);
    tally.attempt(0);
    let answer = async {
        world.crowd.turn(cohort).await;
        again::attempt(client, identity, &message, Some(again::PATIENCE)).await
    };
    let outcome = match world.unless_closing(answer).await {
        Some(answer) => answer.unwrap_or_else(|error| outcome::of(&error)),
        None => Outcome::StillWaiting,
    };
    match outcome {
        // It was let through, so it must arrive.
        Outcome::Ok => world.ledger.acked(ticket),
        _ => world.ledger.gave_up(ticket),
    }
    timer.finish(outcome);
}
