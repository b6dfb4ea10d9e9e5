//! Wire messages to domain values and back, and how large they may be.

use bytes::Bytes;
use spillway_api::FieldError;
use spillway_api::internal::v1;
use spillway_store::mailboxes::{PageLimit, StoredMessage};
use spillway_types::{MailboxId, MessageId, Timestamp};

use crate::config::Config;

/// The largest encoded envelope: 256 KiB of content, as the public API allows, and 1 KiB for what it says about it.
pub const ENVELOPE_BYTES_MAX: usize = 257 * 1024;

/// The most ids in one `Acknowledge`: as many as a session may have in flight.
pub const ACKNOWLEDGED_IDS_MAX: usize = 256;

/// The most mailboxes in one `Purge`: as many as an account can have devices.
pub const PURGED_MAILBOXES_MAX: usize = 127;

/// The largest request is an append: an envelope and three ids. Larger ones are refused before they are decoded.
pub(crate) const REQUEST_BYTES_MAX: usize = ENVELOPE_BYTES_MAX + 1024;

/// The largest reply is a page: its bytes, or one message that is larger, and for each message the framing of its
/// fields (at most 16 bytes; the ids are counted as part of the page).
pub(crate) const fn reply_bytes_max(config: &Config) -> usize {
    config.page_bytes_max + ENVELOPE_BYTES_MAX + 16 * config.page_messages_max + 1024
}

pub(crate) fn mailbox_id(bytes: &[u8]) -> Result<MailboxId, FieldError> {
    spillway_api::mailbox_id("mailbox_id", bytes)
}

pub(crate) fn message(id: &[u8], guid: &[u8], envelope: Bytes) -> Result<StoredMessage, FieldError> {
    Ok(StoredMessage {
        id: spillway_api::message_id("id", id)?,
        guid: spillway_api::guid("guid", guid)?,
        envelope: self::envelope(envelope)?,
    })
}

pub(crate) fn envelope(bytes: Bytes) -> Result<Bytes, FieldError> {
    if (1..=ENVELOPE_BYTES_MAX).contains(&bytes.len()) {
        Ok(bytes)
    } else {
        let problem = format!("must have between 1 and {ENVELOPE_BYTES_MAX} bytes, not {}", bytes.len());
        Err(FieldError::new("envelope", problem))
    }
}

/// `None` for an empty field.
pub(crate) fn after(bytes: &[u8]) -> Result<Option<MessageId>, FieldError> {
    (!bytes.is_empty()).then(|| spillway_api::message_id("after", bytes)).transpose()
}

/// `None` for zero.
pub(crate) const fn settled(us: u64) -> Option<Timestamp> {
    if us == 0 { None } else { Some(Timestamp::from_micros(us)) }
}

/// What the caller wants, or as much of it as the configuration allows. Zero: as much as that.
pub(crate) fn page_limit(messages: u32, bytes: u32, most: PageLimit) -> PageLimit {
    let within = |wanted: u32, most: usize| if wanted == 0 { most } else { most.min(wanted as usize) };
    PageLimit { messages: within(messages, most.messages), bytes: within(bytes, most.bytes) }
}

pub(crate) fn acknowledged_ids(ids: &[Bytes]) -> Result<Vec<MessageId>, FieldError> {
    at_most("ids", ids, ACKNOWLEDGED_IDS_MAX)?.iter().map(|id| spillway_api::message_id("ids", id)).collect()
}

pub(crate) fn purged_mailboxes(ids: &[Bytes]) -> Result<Vec<MailboxId>, FieldError> {
    let ids = at_most("mailbox_ids", ids, PURGED_MAILBOXES_MAX)?;
    ids.iter().map(|id| spillway_api::mailbox_id("mailbox_ids", id)).collect()
}

pub(crate) fn stored_message(message: StoredMessage) -> v1::StoredMessage {
    v1::StoredMessage {
        id: Bytes::copy_from_slice(&message.id.to_bytes()),
        guid: Bytes::copy_from_slice(message.guid.as_bytes()),
        envelope: message.envelope,
    }
}

fn at_most<'a>(field: &'static str, ids: &'a [Bytes], most: usize) -> Result<&'a [Bytes], FieldError> {
    if ids.len() <= most {
        Ok(ids)
    } else {
        Err(FieldError::new(field, format!("at most {most} are allowed, not {}", ids.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_as_large_as_asked_and_allowed() {
        let most = PageLimit { messages: 100, bytes: 1_000 };
        assert_eq!(page_limit(0, 0, most), most);
        assert_eq!(page_limit(7, 2_000, most), PageLimit { messages: 7, bytes: 1_000 });
    }

    #[test]
    fn refusals_name_the_field() {
        let id = Bytes::from_static(&[0; 16]);
        let refused = |error: FieldError| error.field;
        assert_eq!(message(&[1], &id, id.clone()).map_err(refused), Err("id"));
        assert_eq!(message(&id, &[], id.clone()).map_err(refused), Err("guid"));
        assert_eq!(message(&id, &id, Bytes::new()).map_err(refused), Err("envelope"));
        let large = Bytes::from(vec![0; ENVELOPE_BYTES_MAX + 1]);
        assert_eq!(message(&id, &id, large).map_err(refused), Err("envelope"));
        assert_eq!(after(&[1, 2]).map_err(refused), Err("after"));
        assert_eq!(acknowledged_ids(&vec![id.clone(); 257]).map_err(refused), Err("ids"));
        assert_eq!(purged_mailboxes(&vec![id; 128]).map_err(refused), Err("mailbox_ids"));
    }
}
