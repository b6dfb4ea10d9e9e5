//! Keys and values of the mailbox tables.

use std::time::Duration;

use spillway_types::{MailboxId, MessageId, Timestamp};

use super::super::codec::{Decoder, Encoder};
use crate::StoreError;
use crate::mailboxes::{StoredMessage, Usage};

const VERSION: u8 = 1;
/// Version and guid, before the envelope.
const MESSAGE_HEADER_BYTES: u32 = 17;
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The key of a message: mailbox, then id, so that a mailbox is a range in the order of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedded) struct MessageRow([u8; 32]);

impl MessageRow {
    pub(super) fn new(mailbox: MailboxId, id: MessageId) -> Self {
        let mut row = [0; 32];
        row[..16].copy_from_slice(mailbox.as_bytes());
        row[16..].copy_from_slice(&id.to_bytes());
        Self(row)
    }

    pub(in crate::embedded) fn decode(what: &'static str, row: &[u8]) -> Result<Self, StoreError> {
        let mut row = Decoder::new(what, row);
        let bytes = row.array()?;
        row.end()?;
        Ok(Self(bytes))
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(in crate::embedded) fn mailbox(&self) -> MailboxId {
        let mut mailbox = [0; 16];
        mailbox.copy_from_slice(&self.0[..16]);
        MailboxId::from_bytes(mailbox)
    }

    pub(super) fn message(&self) -> MessageId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.0[16..]);
        MessageId::from_bytes(id)
    }
}

/// The key of "this mailbox was sent something on this day".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ArrivalRow([u8; 20]);

impl ArrivalRow {
    pub(super) fn new(day: u32, mailbox: MailboxId) -> Self {
        let mut row = [0; 20];
        row[..4].copy_from_slice(&day.to_be_bytes());
        row[4..].copy_from_slice(mailbox.as_bytes());
        Self(row)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// All rows of days before this one come before it.
    pub(super) fn first_of(day: u32) -> Self {
        Self::new(day, MailboxId::from_bytes([0; 16]))
    }

    pub(super) fn decode(what: &'static str, row: &[u8]) -> Result<Self, StoreError> {
        let mut row = Decoder::new(what, row);
        let bytes = row.array()?;
        row.end()?;
        Ok(Self(bytes))
    }

    pub(super) fn day(&self) -> u32 {
        let mut day = [0; 4];
        day.copy_from_slice(&self.0[..4]);
        u32::from_be_bytes(day)
    }

    pub(super) fn mailbox(&self) -> MailboxId {
        let mut mailbox = [0; 16];
        mailbox.copy_from_slice(&self.0[4..]);
        MailboxId::from_bytes(mailbox)
    }
}

/// Days since the Unix epoch.
pub(super) fn day(time: Timestamp) -> u32 {
    u32::try_from(time.as_micros() / DAY.as_micros() as u64).unwrap_or(u32::MAX)
}

/// How much a mailbox holds, counted with every insert and removal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) usage: Usage,
    /// No message that the mailbox holds has a greater id.
    pub(super) newest: MessageId,
    /// A day whose arrival row is certain to exist, which spares most inserts a second row. `None`: no such day.
    pub(super) day: Option<u32>,
}

impl Tally {
    pub(super) fn add(&mut self, id: MessageId, size: u64) {
        self.newest = self.newest.max(id);
        self.usage.messages += 1;
        self.usage.bytes += size;
    }

    pub(super) fn take_off(&mut self, what: &'static str, size: u64) -> Result<(), StoreError> {
        let Usage { messages, bytes } = self.usage;
        let (Some(messages), Some(bytes)) = (messages.checked_sub(1), bytes.checked_sub(size)) else {
            let problem = "it counts less than the mailbox holds".to_owned();
            return Err(StoreError::Corrupt { what, problem });
        };
        self.usage = Usage { messages, bytes };
        Ok(())
    }

    pub(super) fn encode(self) -> Vec<u8> {
        Encoder::with_capacity(VERSION, 37)
            .u64(self.usage.messages)
            .u64(self.usage.bytes)
            .array(&self.newest.to_bytes())
            .option(self.day, Encoder::u32)
            .finish()
    }

    pub(super) fn decode(what: &'static str, value: &[u8]) -> Result<Self, StoreError> {
        let mut value = Decoder::new(what, value);
        value.version(VERSION)?;
        let usage = Usage { messages: value.u64()?, bytes: value.u64()? };
        let newest = MessageId::from_bytes(value.array()?);
        let tally = Self { usage, newest, day: value.option(Decoder::u32)? };
        value.end()?;
        Ok(tally)
    }
}

pub(super) fn encode_message(message: &StoredMessage) -> Vec<u8> {
    let fields = MESSAGE_HEADER_BYTES as usize - 1 + message.envelope.len();
    Encoder::with_capacity(VERSION, fields).array(message.guid.as_bytes()).rest(&message.envelope).finish()
}

pub(in crate::embedded) fn decode_message(
    what: &'static str,
    row: &[u8],
    value: &[u8],
) -> Result<StoredMessage, StoreError> {
    let id = MessageRow::decode(what, row)?.message();
    let mut value = Decoder::new(what, value);
    value.version(VERSION)?;
    Ok(StoredMessage { id, guid: value.guid()?, envelope: value.rest() })
}

/// [`StoredMessage::size`] from the length of the stored value: the value has a header where the size has two ids.
pub(super) const fn size(value_length: u32) -> u64 {
    (value_length.saturating_sub(MESSAGE_HEADER_BYTES) + 2 * 16) as u64
}

pub(super) fn encode_settled(settled: Timestamp) -> Vec<u8> {
    Encoder::with_capacity(VERSION, 8).time(settled).finish()
}

pub(in crate::embedded) fn decode_settled(what: &'static str, value: &[u8]) -> Result<Timestamp, StoreError> {
    let mut value = Decoder::new(what, value);
    value.version(VERSION)?;
    let settled = value.time()?;
    value.end()?;
    Ok(settled)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use spillway_types::Guid;

    use super::*;

    #[test]
    fn the_size_of_a_value_is_that_of_its_message() {
        for length in [0, 1, 512, 65_536] {
            let envelope = Bytes::from(vec![7; length]);
            let message = StoredMessage { id: MessageId::MIN, guid: Guid::random(), envelope };
            let value = encode_message(&message);
            assert_eq!(size(value.len() as u32), message.size());
            let row = MessageRow::new(MailboxId::random(), message.id);
            assert_eq!(decode_message("message", row.as_bytes(), &value).unwrap(), message);
        }
    }

    #[test]
    fn a_value_that_is_cut_anywhere_is_corrupt() {
        let newest = MessageId::from_bytes([7; 16]);
        let tally = Tally { usage: Usage { messages: 3, bytes: 1_700 }, newest, day: Some(18_642) };
        let value = tally.encode();
        assert_eq!(Tally::decode("usage", &value).unwrap(), tally);
        for length in 0..value.len() {
            let cut = Tally::decode("usage", &value[..length]);
            assert!(matches!(cut, Err(StoreError::Corrupt { .. })), "{length} bytes: {cut:?}");
        }
    }
}
