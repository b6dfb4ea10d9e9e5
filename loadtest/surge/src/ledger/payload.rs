//! The bytes that carry a ticket through the service.
//!
//! | bytes | content |
//! |---|---|
//! | 4 | `SRG1` |
//! | 8 | first bytes of the BLAKE3 hash of all that follows |
//! | 8 | run |
//! | 4, 4, 4 | sender, receiver, device |
//! | 8 | sequence |
//! | 8 | every sequence below was settled when this was sent |
//! | 8 | sent at, microseconds since the Unix epoch |
//! | 4 | length of the whole payload |
//! | rest | noise, which no compression shortens |
//!
//! All numbers are big-endian.

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use spillway_types::Timestamp;

use super::{Conversation, Ticket};

const MAGIC: [u8; 4] = *b"SRG1";
const CHECKED_FROM: usize = 12;

/// The least that a payload takes; shorter sizes are raised to it.
pub const OVERHEAD_BYTES: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    pub run: u64,
    pub ticket: Ticket,
    pub sent_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("the payload was not written by surge")]
    NotOurs,
    #[error("the payload was written by surge and changed on the way")]
    Corrupted,
}

impl Payload {
    pub fn encode(&self, size_bytes: usize) -> Vec<u8> {
        let size = size_bytes.max(OVERHEAD_BYTES);
        let Ticket { conversation, sequence, settled_below } = self.ticket;
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&self.run.to_be_bytes());
        for part in [conversation.sender, conversation.receiver, conversation.device] {
            bytes.extend_from_slice(&part.to_be_bytes());
        }
        for part in [sequence, settled_below, self.sent_at.as_micros()] {
            bytes.extend_from_slice(&part.to_be_bytes());
        }
        bytes.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
        bytes.resize(size, 0);
        SmallRng::seed_from_u64(self.run ^ sequence ^ u64::from(conversation.sender) << 32)
            .fill_bytes(&mut bytes[OVERHEAD_BYTES..]);
        let checksum = checksum(&bytes);
        bytes[MAGIC.len()..CHECKED_FROM].copy_from_slice(&checksum);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, PayloadError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(PayloadError::NotOurs);
        }
        if bytes.len() < OVERHEAD_BYTES || bytes[MAGIC.len()..CHECKED_FROM] != checksum(bytes) {
            return Err(PayloadError::Corrupted);
        }
        Ok(Self {
            run: u64_at(bytes, 12),
            ticket: Ticket {
                conversation: Conversation {
                    sender: u32_at(bytes, 20),
                    receiver: u32_at(bytes, 24),
                    device: u32_at(bytes, 28),
                },
                sequence: u64_at(bytes, 32),
                settled_below: u64_at(bytes, 40),
            },
            sent_at: Timestamp::from_micros(u64_at(bytes, 48)),
        })
    }
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let hash = blake3::hash(&bytes[CHECKED_FROM..]);
    hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes")
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("the length was checked"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("the length was checked"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_and_any_change_is_noticed(
            run: u64, sender: u32, sequence: u64, size in 0..700usize, flip: prop::sample::Index, bit in 0..8u32
        ) {
            let ticket = Ticket {
                conversation: Conversation { sender, receiver: 7, device: 2 },
                sequence,
                settled_below: sequence / 2,
            };
            let payload = Payload { run, ticket, sent_at: Timestamp::from_micros(run / 3) };
            let mut bytes = payload.encode(size);
            prop_assert_eq!(bytes.len(), size.max(OVERHEAD_BYTES));
            prop_assert_eq!(Payload::decode(&bytes), Ok(payload));

            let at = flip.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Payload::decode(&bytes).is_err());
            bytes[at] ^= 1 << bit;
            bytes.pop();
            prop_assert!(Payload::decode(&bytes).is_err());
        }
    }

    #[test]
    fn noise_differs_between_messages() {
        let payload = |sequence| {
            let conversation = Conversation { sender: 1, receiver: 2, device: 3 };
            let ticket = Ticket { conversation, sequence, settled_below: 0 };
            Payload { run: 1, ticket, sent_at: Timestamp::ZERO }.encode(256)
        };
        assert_ne!(payload(1)[OVERHEAD_BYTES..], payload(2)[OVERHEAD_BYTES..]);
    }
}
