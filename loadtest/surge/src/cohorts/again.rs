//! A send past the reference client: the generated client, and a habit that says when it is tried again.
//!
//! Budget, pushback and hold-back of the reference client are not weakened for this. They are not asked.

use std::time::Duration;

use bytes::Bytes;
use spillway_api::v1;
use spillway_client::{CallError, Client, Identity, Outgoing};
use spillway_types::Guid;
use tokio::time::{Instant, sleep};
use tonic::Request;

use super::Cohort;
use crate::stats::Outcome;
use crate::workload::{Letter, Posted, World, outcome, post};

/// How long somebody wants a message to be sent, whatever his client does meanwhile: the deadline of the reference client.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client that has its own idea of time waits for one answer.
pub(super) const ATTEMPT: Duration = Duration::from_secs(1);

/// When a message is sent again.
pub(super) trait Habit: Send {
    /// Of one attempt, told to the service and kept; `None`: none at all.
    fn deadline(&self) -> Option<Duration> {
        Some(ATTEMPT)
    }

    /// The pause after attempt number `tries`, from 1, which ended so; `None`: not again.
    fn pause(&mut self, tries: u32, error: &CallError) -> Option<Duration>;

    /// Whether another attempt is, to the service, another message.
    fn takes_new_id(&self) -> bool {
        false
    }

    /// How long in all.
    fn patience(&self) -> Option<Duration> {
        Some(PATIENCE)
    }
}

/// Sends one message as this habit has it, and enters what came of it.
pub(super) async fn send(
    world: &World,
    client: &Client,
    identity: &Identity,
    letter: Letter,
    cohort: Cohort,
    planned: Instant,
    mut habit: impl Habit,
) {
    let Some(Posted { ticket, mut message, sending: _sending }) = post(world, letter) else { return };
    let timer = world.stats().start(cohort.operation(), planned);
    let work = attempts(world, client, identity, cohort, &mut message, &mut habit);
    let outcome = world.unless_closing(work).await.unwrap_or(Outcome::StillWaiting);
    match outcome {
        Outcome::Ok => world.ledger.acked(ticket),
        _ => world.ledger.gave_up(ticket),
    }
    timer.finish(outcome);
}

async fn attempts(
    world: &World,
    client: &Client,
    identity: &Identity,
    cohort: Cohort,
    message: &mut Outgoing,
    habit: &mut impl Habit,
) -> Outcome {
    let ends = habit.patience().map(|patience| Instant::now() + patience);
    let mut tries = 0;
    loop {
        world.crowd.turn(cohort).await;
        world.crowd.tally(cohort).attempt(tries);
        tries += 1;
        let error = match attempt(client, identity, message, habit.deadline()).await {
            Ok(outcome) => return outcome,
            Err(error) => error,
        };
        let Some(pause) = habit.pause(tries, &error) else { return outcome::of(&error) };
        if ends.is_some_and(|ends| Instant::now() + pause >= ends) {
            return outcome::of(&error);
        }
        sleep(pause).await;
        if habit.takes_new_id() {
            message.guid = Guid::random();
        }
    }
}

/// One attempt, as it is, and what the answer counts as.
pub(super) async fn attempt(
    client: &Client,
    identity: &Identity,
    message: &Outgoing,
    deadline: Option<Duration>,
) -> Result<Outcome, CallError> {
    let mut request = Request::new(v1::SendRequest {
        account_id: Bytes::copy_from_slice(message.to.as_bytes()),
        guid: Bytes::copy_from_slice(message.guid.as_bytes()),
        envelopes: message.envelopes.clone(),
        ephemeral: message.ephemeral,
        urgent: message.urgent,
    });
    if let Some(deadline) = deadline {
        request.set_timeout(deadline);
    }
    identity.authorize(request.metadata_mut());
    let sent = client.messages().send(request).await.map_err(CallError::from)?.into_inner();
    Ok(if sent.full_devices.is_empty() { Outcome::Ok } else { Outcome::Refused("MAILBOX_FULL") })
}

/// What an overloaded service answers: not before a minute is over.
#[cfg(test)]
pub(super) fn busy() -> CallError {
    let mut refusal = spillway_api::Refusal::new(spillway_api::Reason::Overload, "too much to do");
    refusal.retry_after = Some(Duration::from_secs(60));
    CallError::Refused(refusal)
}
