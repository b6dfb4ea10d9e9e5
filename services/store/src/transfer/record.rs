//! One record of an export, and its encoding. There is exactly one encoding of a record, so that checksums of encodings
//! compare stores.

use spillway_types::{AccountId, MailboxId, MessageId, NumberMac, Timestamp};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::section::Section;
use crate::StoreError;
use crate::accounts::{Account, NumberClaim};
use crate::embedded::codec::{Decoder, Encoder};
use crate::embedded::{accounts, keys, verifications};
use crate::keys::{KeyUpload, OneTimePreKey, SignedPreKey};
use crate::mailboxes::{RETENTION, StoredMessage};
use crate::verifications::{Verification, VerificationId};

const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Account(Account),
    Claim(NumberClaim),
    Directory {
        number: NumberMac,
        account: AccountId,
    },
    /// All keys of one device, one-time keys in the order of their ids.
    Keys {
        device: MailboxId,
        keys: KeyUpload,
    },
    Settled {
        mailbox: MailboxId,
        settled: Timestamp,
    },
    Verification(Verification),
    Message {
        mailbox: MailboxId,
        message: StoredMessage,
    },
}

impl Record {
    pub(super) const fn section(&self) -> Section {
        match self {
            Self::Account(_) => Section::Accounts,
            Self::Claim(_) => Section::Claims,
            Self::Directory { .. } => Section::Directory,
            Self::Keys { .. } => Section::Keys,
            Self::Settled { .. } => Section::Settled,
            Self::Verification(_) => Section::Verifications,
            Self::Message { .. } => Section::Messages,
        }
    }

    /// What it is, for people. Says nothing that may not be logged.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Account(account) => format!("account {}", account.id),
            Self::Claim(claim) => format!("claim of a number by account {}", claim.account),
            Self::Directory { account, .. } => format!("directory entry of account {account}"),
            Self::Keys { device, .. } => format!("keys of mailbox {device}"),
            Self::Settled { mailbox, .. } => format!("settled watermark of mailbox {mailbox}"),
            Self::Verification(session) => {
                format!("verification session made at {} ms", session.created_at.as_millis())
            }
            Self::Message { mailbox, message } => format!("message {} in mailbox {mailbox}", message.id),
        }
    }

    /// Whether a store may have forgotten it at `now`.
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        match self {
            Self::Verification(session) => session.kept_until() < now,
            Self::Message { message, .. } => message.id.time().saturating_add(RETENTION) < now,
            _ => false,
        }
    }

    /// The part of a [`super::Total`].
    pub(super) fn checksum(&self) -> u128 {
        checksum(self.section(), &self.encode())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let encoder = Encoder::new(VERSION);
        match self {
            Self::Account(account) => encoder.array(account.id.as_bytes()).rest(&accounts::encode(account)),
            Self::Claim(NumberClaim { number, account }) | Self::Directory { number, account } => {
                encoder.array(number.as_bytes()).array(account.as_bytes())
            }
            Self::Keys { device, keys } => encode_keys(encoder, *device, keys),
            Self::Settled { mailbox, settled } => encoder.array(mailbox.as_bytes()).time(*settled),
            Self::Verification(session) => encoder.array(&session.id.0).rest(&verifications::encode(session)),
            Self::Message { mailbox, message } => encoder
                .array(mailbox.as_bytes())
                .array(&message.id.to_bytes())
                .array(message.guid.as_bytes())
                .rest(&message.envelope),
        }
        .finish()
    }

    pub(super) fn decode(section: Section, value: &[u8]) -> Result<Self, StoreError> {
        let what = section.name();
        let mut value = Decoder::new(what, value);
        value.version(VERSION)?;
        Ok(match section {
            Section::Accounts => {
                let id = value.account()?;
                Self::Account(accounts::decode(what, id, &value.rest())?)
            }
            Section::Verifications => {
                let id = VerificationId(value.array()?);
                Self::Verification(verifications::decode(what, id, &value.rest())?)
            }
            Section::Messages => {
                let mailbox = value.mailbox()?;
                let id = MessageId::from_bytes(value.array()?);
                let message = StoredMessage { id, guid: value.guid()?, envelope: value.rest() };
                Self::Message { mailbox, message }
            }
            Section::Claims => {
                let claim = NumberClaim { number: value.number()?, account: value.account()? };
                value.end()?;
                Self::Claim(claim)
            }
            Section::Directory => {
                let (number, account) = (value.number()?, value.account()?);
                value.end()?;
                Self::Directory { number, account }
            }
            Section::Keys => {
                let (device, keys) = (value.mailbox()?, decode_keys(&mut value)?);
                value.end()?;
                Self::Keys { device, keys }
            }
            Section::Settled => {
                let (mailbox, settled) = (value.mailbox()?, value.time()?);
                value.end()?;
                Self::Settled { mailbox, settled }
            }
        })
    }
}

pub(super) fn checksum(section: Section, encoding: &[u8]) -> u128 {
    xxh3_128_with_seed(encoding, section.tag().into())
}

fn encode_keys(encoder: Encoder, device: MailboxId, keys: &KeyUpload) -> Encoder {
    let signed = |encoder: Encoder, key: &SignedPreKey| encoder.bytes(&keys::encode_signed(key));
    let one_time_keys = u32::try_from(keys.one_time.len()).expect("key ids have 32 bits");
    let header = encoder
        .array(device.as_bytes())
        .option(keys.signed.as_ref(), signed)
        .option(keys.last_resort.as_ref(), signed)
        .u32(one_time_keys);
    keys.one_time.iter().fold(header, |encoder, key| encoder.u32(key.key_id).bytes(&key.public_key))
}

fn decode_keys(value: &mut Decoder<'_>) -> Result<KeyUpload, StoreError> {
    let signed = |value: &mut Decoder<'_>| keys::decode_signed(Section::Keys.name(), &value.bytes()?);
    let one_time = |value: &mut Decoder<'_>| {
        Ok::<_, StoreError>(OneTimePreKey { key_id: value.u32()?, public_key: value.bytes()? })
    };
    Ok(KeyUpload {
        signed: value.option(signed)?,
        last_resort: value.option(signed)?,
        one_time: (0..value.u32()?).map(|_| one_time(value)).collect::<Result<_, _>>()?,
    })
}
