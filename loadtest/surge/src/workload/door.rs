//! The way through the waiting room, with the reference client's code.

use std::time::Duration;

use rand::Rng;
use spillway_client::{Admission, CallError, Client, DeviceSecret, Place, Standing};
use tokio::time::Instant;

use super::{ENTER_ROOM, POLL_ROOM, Stage, World, outcome, told_to_wait};
use crate::room::Visitor;
use crate::stats::{Operation, Outcome};

/// A call that got no answer is repeated after about so long: a place is kept, and asking again is always safe.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Failures in a row after which a person gives up.
const FAILURES_MAX: u32 = 10;

/// Waits for the turn of person `index`, asking when told to, until the run is over.
pub(super) async fn admission(world: &World, client: &Client, index: u32) -> Result<Admission, Outcome> {
    let mut visitor = world.room().visit();
    let waited = wait(world, client, index, &mut visitor).await;
    match &waited {
        Ok(admission) => visitor.admitted(admission.turn_came()),
        Err(Outcome::StillWaiting) => drop(visitor),
        Err(_) => visitor.failed(),
    }
    waited
}

async fn wait(
    world: &World,
    client: &Client,
    index: u32,
    visitor: &mut Visitor,
) -> Result<Admission, Outcome> {
    let secret = DeviceSecret::from_bytes(&world.population.device_secret(u64::from(index)));
    let mut place: Option<Place> = None;
    let mut failures = 0;
    loop {
        let answer = match &mut place {
            Some(place) => timed(world, POLL_ROOM, client.poll(&secret, place)).await,
            None => timed(world, ENTER_ROOM, client.enter(&secret)).await.map(|(taken, standing)| {
                place = Some(taken);
                visitor.has_place();
                standing
            }),
        };
        let pause = match answer {
            Ok(Standing::Admitted(admission)) => return Ok(admission),
            Ok(Standing::Waiting(wait)) => {
                failures = 0;
                if let Some(range) = wait.range {
                    visitor.told(range);
                }
                wait.poll_after
            }
            Ok(Standing::Over) => {
                visitor.lost_place();
                place = None;
                Duration::ZERO
            }
            Err(error) => {
                failures += 1;
                match pause_after(&error) {
                    Some(pause) if failures < FAILURES_MAX => pause,
                    _ => return Err(outcome::of(&error)),
                }
            }
        };
        // Whoever has a place keeps it for as long as anybody may begin to send; nobody comes to the door any more before that.
        let (leaves_at, outcome) = match place {
            Some(_) => (Stage::Quiet, Outcome::StillWaiting),
            None => (Stage::Closing, Outcome::Refused("NO_PLACE")),
        };
        tokio::select! {
            () = world.reached(leaves_at) => return Err(outcome),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn pause_after(error: &CallError) -> Option<Duration> {
    let again = || AGAIN_AFTER.mul_f64(rand::rng().random_range(0.5..1.5));
    told_to_wait(error).or_else(|| error.is_retryable().then(again))
}

async fn timed<T>(
    world: &World,
    operation: Operation,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    let timer = world.stats().start(operation, Instant::now());
    let answer = call.await;
    timer.finish(answer.as_ref().map_or_else(outcome::of, |_| Outcome::Ok));
    answer
}
