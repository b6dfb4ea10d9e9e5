//! One message, entered in the ledger.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use spillway_api::v1;
use spillway_client::{CallError, Client, Identity, Outgoing, Sent};
use spillway_types::{AccountId, Guid};
use tokio::time::{Instant, timeout};

use super::{Counted, Stage, World, outcome};
use crate::cohorts::Cohort;
use crate::ledger::{Conversation, Ticket};
use crate::load::IMPATIENT_TRIES;
use crate::population::registration_id;
use crate::stats::{Operation, Outcome};
use crate::summary::EXISTING_SEND;

/// Everybody has one device.
const DEVICE: u32 = 1;

/// Who writes to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letter {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) to_account: AccountId,
    /// Of the content, when it is not as long as usual.
    pub(crate) bytes: Option<u32>,
}

/// What a message says, and its number in the ledger.
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    pub(crate) ticket: Ticket,
    pub(crate) content: Vec<u8>,
    /// To be kept until it was answered.
    pub(crate) sending: Counted<'a>,
}

/// A message with its number in the ledger, about to be sent.
#[derive(Debug)]
pub(crate) struct Posted<'a> {
    pub(crate) ticket: Ticket,
    pub(crate) message: Outgoing,
    /// To be kept until it was answered.
    pub(crate) sending: Counted<'a>,
}

/// Numbers a message. `None` when the run is too far for anybody to send.
pub(crate) fn enter(world: &World, from: u32, to: u32, bytes: Option<u32>) -> Option<Entered<'_>> {
    // Counted before the stage is looked at, so that whoever ends the run sees every send that it did not stop.
    let sending = Counted::begin(&world.sending);
    if *world.stage.borrow() >= Stage::Quiet {
        return None;
    }
    let conversation = Conversation { sender: from, receiver: to, device: DEVICE };
    let ticket = world.ledger.send(conversation);
    let size = bytes.map_or(world.habits.content_bytes, |bytes| bytes as usize);
    let content = world.ledger.encode(ticket, world.clock.now(), size);
    Some(Entered { ticket, content, sending })
}

/// The same, wrapped up as the service wants it.
pub(crate) fn post(world: &World, letter: Letter) -> Option<Posted<'_>> {
    let Entered { ticket, content, sending } = enter(world, letter.from, letter.to, letter.bytes)?;
    let envelope = v1::DeviceEnvelope {
        device_id: DEVICE,
        registration_id: registration_id(u64::from(letter.to)),
        content: Bytes::from(content),
    };
    let message = Outgoing {
        to: letter.to_account,
        guid: Guid::random(),
        envelopes: vec![envelope],
        ephemeral: false,
        urgent: false,
    };
    Some(Posted { ticket, message, sending })
}

/// Sends one message and waits for its acknowledgement, which the ledger holds the service to. False when it was not
/// acknowledged, or when the run is too far for anybody to send.
pub(crate) async fn send(
    world: &World,
    client: &Client,
    identity: &Identity,
    letter: Letter,
    operation: Operation,
    planned: Instant,
) -> bool {
    let Some(Posted { ticket, message, sending: _sending }) = post(world, letter) else { return false };
    let counted = operation == EXISTING_SEND && world.crowd.is_surge(planned);
    let timer = world.stats().start(operation, planned);
    let Some(answer) = answered(world, client, identity, message, counted).await else {
        world.ledger.gave_up(ticket);
        timer.finish(Outcome::Failed("gave_up"));
        return false;
    };
    match answer {
        Ok(sent) if sent.full_devices.is_empty() => {
            world.ledger.acked(ticket);
            timer.finish(Outcome::Ok);
            true
        }
        Ok(_) => {
            world.ledger.gave_up(ticket);
            timer.finish(Outcome::Refused("MAILBOX_FULL"));
            false
        }
        Err(error) => {
            world.ledger.gave_up(ticket);
            timer.finish(outcome::of(&error));
            false
        }
    }
}

/// The answer to a send. Who is impatient sends the same message again when none came in time, under the same guid, so that it is
/// one message all the same; `None` when that did not help either.
async fn answered(
    world: &World,
    client: &Client,
    identity: &Identity,
    message: Outgoing,
    counted: bool,
) -> Option<Result<Sent, CallError>> {
    let Some(patience) = world.behaviour.send_patience else {
        return Some(client.send(identity, message).await);
    };
    for tries in 0..IMPATIENT_TRIES {
        if tries > 0 {
            world.sent_again.fetch_add(1, Relaxed);
            if counted {
                world.crowd.tally(Cohort::Polite).again();
            }
        }
        if let Ok(answer) = timeout(patience, client.send(identity, message.clone())).await {
            return Some(answer);
        }
    }
    None
}
