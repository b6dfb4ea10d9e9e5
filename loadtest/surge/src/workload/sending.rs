//! One message, entered in the ledger.

use bytes::Bytes;
use spillway_api::v1;
use spillway_client::{Client, Identity, Outgoing};
use spillway_types::{AccountId, Clock, Guid, SystemClock};
use tokio::time::Instant;

use super::{Counted, Stage, World, outcome};
use crate::ledger::Conversation;
use crate::population::registration_id;
use crate::stats::{Operation, Outcome};

/// Everybody has one device.
const DEVICE: u32 = 1;

/// Who writes to whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letter {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) to_account: AccountId,
}

/// Sends one message and waits for its acknowledgement, which the ledger holds the service to. False when it was not
/// acknowledged, or when the run is too far for anybody to send.
pub(super) async fn send(
    world: &World,
    client: &Client,
    identity: &Identity,
    letter: Letter,
    operation: Operation,
    planned: Instant,
) -> bool {
    // Counted before the stage is looked at, so that whoever ends the run sees every send that it did not stop.
    let _sending = Counted::begin(&world.sending);
    if *world.stage.borrow() >= Stage::Quiet {
        return false;
    }
    let conversation = Conversation { sender: letter.from, receiver: letter.to, device: DEVICE };
    let ticket = world.ledger.send(conversation);
    let content = world.ledger.encode(ticket, SystemClock.now(), world.habits.content_bytes);
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
    let timer = world.stats().start(operation, planned);
    match client.send(identity, message).await {
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
