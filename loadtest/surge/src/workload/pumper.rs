//! Somebody who is paid for the codes that are sent to his numbers, and types none.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use spillway_types::PhoneNumber;
use tokio::time::Instant;

use super::newcomer::knock;
use super::{PUMP, World, door};
use crate::profile::pumped_number;
use crate::stats::Outcome;

/// Their places in the waiting room are held under keys of people who would be these.
const INDICES_FROM: u32 = 3_000_000;

/// Asks for a code to one of the pumped numbers. True when the service answered as if it sent one.
pub async fn pump(world: Arc<World>, number: u32, planned: Instant) -> bool {
    let timer = world.stats().start(PUMP, planned);
    let outcome = match ask(&world, number).await {
        Ok(()) => Outcome::Ok,
        Err(outcome) => outcome,
    };
    timer.finish(outcome);
    outcome == Outcome::Ok
}

async fn ask(world: &World, number: u32) -> Result<(), Outcome> {
    let index = INDICES_FROM + number;
    let number = PhoneNumber::parse(&pumped_number(number)).map_err(|_| Outcome::Failed("not_a_number"))?;
    let client = world.connect().await.map_err(|_| Outcome::Failed("connect"))?;
    let admission = match world.room_required.load(Relaxed) {
        true => Some(door::admission(world, &client, index).await?),
        false => None,
    };
    knock(world, &client, index, &number, admission).await.map(|_| ())
}
