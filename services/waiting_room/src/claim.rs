//! A claim: the device whose turn it is proves that the ticket is its own, and gets a [`Pass`].
//!
//! The signature covers the ticket's bytes and a [`Challenge`] that the gateway made for this ticket at most two minutes ago. So a
//! ticket that was copied is worth nothing, and a signature that was overheard is worth nothing later. The challenge is sealed, not remembered.

use std::time::Duration;

use spillway_types::Timestamp;

use crate::bytes::{Reader, Writer};
use crate::device::{BadSignature, DeviceKey};
use crate::keys::{KeyId, MAC_BYTES, Purpose, SealKeys};
use crate::pass::{PASS_LIFETIME, Pass, PassId};
use crate::ticket::{SealedTicket, Ticket};

/// What the gateway answers a poll with when the turn has come, to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Challenge([u8; CHALLENGE_BYTES]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    #[error("a challenge has {CHALLENGE_BYTES} bytes, not {0}")]
    Length(usize),
    #[error("{0:?} is not live")]
    UnknownKey(KeyId),
    #[error("not a challenge of this service for this ticket")]
    Forged,
    #[error("the challenge is too old, ask for another")]
    Stale,
    #[error("the ticket is another device's")]
    OtherDevice,
    #[error(transparent)]
    Signature(#[from] BadSignature),
}

/// Key, time, MAC.
pub const CHALLENGE_BYTES: usize = 1 + 8 + MAC_BYTES;

/// As long as the window in which a claim is awaited ([`crate::CLAIM_WINDOW`]).
pub const CHALLENGE_LIFETIME: Duration = Duration::from_secs(120);
/// Between the clocks of two gateways.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5);

const CLAIM_DOMAIN: &[u8] = b"spillway waiting room claim v1\0";

impl Challenge {
    pub fn new(keys: &SealKeys, ticket: &SealedTicket, now: Timestamp) -> Self {
        let mut bytes = [0; CHALLENGE_BYTES];
        let mut writer = Writer::new(&mut bytes);
        writer.put(&[keys.sealing_id().0]);
        writer.put(&now.as_micros().to_be_bytes());
        let mac = keys.seal(Purpose::Challenge, &sealed_part(writer.written(), ticket));
        writer.put(&mac);
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; CHALLENGE_BYTES] {
        &self.0
    }
}

/// What the device signs, as one message.
pub fn claim_message(ticket: &SealedTicket, challenge: &[u8]) -> Vec<u8> {
    [CLAIM_DOMAIN, ticket.as_bytes(), challenge].concat()
}

/// Verifies the claim of a ticket that has been opened, and whose turn it is ([`crate::View::turn`]).
///
/// `challenge`, `device` and `signature` are the device's; `opened` is what `ticket` says. Whoever claims twice gets two passes with one id, of
/// which one can be used.
///
/// # Errors
///
/// [`ClaimError`]; the cheap checks come first, the signature (some 75 µs) last.
pub fn claim(
    keys: &SealKeys,
    ticket: &SealedTicket,
    opened: &Ticket,
    challenge: &[u8],
    device: &DeviceKey,
    signature: &[u8; 64],
    now: Timestamp,
) -> Result<Pass, ClaimError> {
    if device.hash() != opened.device {
        return Err(ClaimError::OtherDevice);
    }
    check(keys, ticket, challenge, now)?;
    device.verify(&claim_message(ticket, challenge), signature)?;
    Ok(Pass {
        id: PassId { room: opened.room, seq: opened.seq },
        device: opened.device,
        expires: now.saturating_add(PASS_LIFETIME),
    })
}

fn check(keys: &SealKeys, ticket: &SealedTicket, challenge: &[u8], now: Timestamp) -> Result<(), ClaimError> {
    let bytes: &[u8; CHALLENGE_BYTES] =
        challenge.try_into().map_err(|_| ClaimError::Length(challenge.len()))?;
    let (body, mac) = bytes.split_at(CHALLENGE_BYTES - MAC_BYTES);
    let mut reader = Reader::new(body);
    let [key] = reader.take();
    match keys.check(KeyId(key), Purpose::Challenge, &sealed_part(body, ticket), mac) {
        None => return Err(ClaimError::UnknownKey(KeyId(key))),
        Some(false) => return Err(ClaimError::Forged),
        Some(true) => {}
    }
    let made = Timestamp::from_micros(u64::from_be_bytes(reader.take()));
    if now.since(made) > CHALLENGE_LIFETIME || made.since(now) > CLOCKS_DIFFER {
        return Err(ClaimError::Stale);
    }
    Ok(())
}

/// The ticket is in it, so that a challenge is good for one ticket only.
fn sealed_part(body: &[u8], ticket: &SealedTicket) -> Vec<u8> {
    [body, ticket.as_bytes()].concat()
}
