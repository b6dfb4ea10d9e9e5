//! What devices that are online are told. All of it may be lost.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use spillway_api::internal::v1::mailbox_hint::Hint;
use spillway_api::internal::v1::{DeviceRemoved, MailboxHint, Wake, WhisperRequest};
use spillway_bus::{Bus, Subject};
use spillway_chassis::traces::TraceParent;
use spillway_store::mailboxes::StoredMessage;
use spillway_types::{Guid, MailboxId};

use crate::metrics::{HintCounters, HintKind};
use crate::wire;

/// A stored message travels with its hint up to this size, which spares nearly every delivery a read. A larger one is
/// fetched, so that a device that reads slowly does not fill its gateway's memory.
const STORED_ENVELOPE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Hints {
    bus: Arc<dyn Bus>,
    counters: HintCounters,
}

impl Hints {
    pub(crate) fn new(bus: Arc<dyn Bus>, counters: HintCounters) -> Self {
        Self { bus, counters }
    }

    /// The message must have been stored.
    pub(crate) async fn stored(&self, mailbox: MailboxId, message: StoredMessage) {
        if message.envelope.len() <= STORED_ENVELOPE_BYTES_MAX {
            self.publish(mailbox, HintKind::Stored, Hint::Stored(wire::stored_message(message))).await;
        } else {
            self.publish(mailbox, HintKind::Wake, Hint::Wake(Wake {})).await;
        }
    }

    pub(crate) async fn whisper(&self, mailbox: MailboxId, guid: Guid, envelope: Bytes) {
        let whisper = WhisperRequest {
            mailbox_id: Bytes::copy_from_slice(mailbox.as_bytes()),
            guid: Bytes::copy_from_slice(guid.as_bytes()),
            envelope,
        };
        self.publish(mailbox, HintKind::Whisper, Hint::Whisper(whisper)).await;
    }

    pub(crate) async fn device_removed(&self, mailbox: MailboxId) {
        self.publish(mailbox, HintKind::DeviceRemoved, Hint::DeviceRemoved(DeviceRemoved {})).await;
    }

    async fn publish(&self, mailbox: MailboxId, kind: HintKind, hint: Hint) {
        let traceparent = TraceParent::current().map(|place| place.to_string()).unwrap_or_default();
        let bytes = MailboxHint { hint: Some(hint), traceparent }.encode_to_vec().into();
        let outcome = self.bus.publish(Subject::Mailbox(mailbox), bytes).await;
        if let Err(error) = &outcome {
            // Once for each message while the bus is away, so no louder than this; the counter is what to watch.
            tracing::debug!(%error, ?kind, "hint was not published");
        }
        self.counters.count(kind, outcome.is_ok());
    }
}
