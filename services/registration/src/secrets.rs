//! The keys of this role, one for each purpose, all derived from the service's master secret.

use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use spillway_store::verifications::VerificationId;
use spillway_types::{
    AccountId, DeviceAddress, KeyedHash, MailboxId, NumberMac, NumberTag, Pepper, PhoneNumber, Secret,
    Timestamp, random_bytes,
};

use crate::passes::Pass;
use crate::provider::Code;
use crate::routing::{PlaceKey, Places};

const NONCE_BYTES: usize = 12;
/// Between a number and its network: no number has it.
const NETWORK_FOLLOWS: u8 = 0;
/// Digits that the numbers of one place do not share: ten thousand numbers, as they are handed to networks.
const SUBSCRIBER_DIGITS: usize = 4;

/// What every worker of a fleet must share, so that any of them can go on with what another began.
#[derive(Clone, Debug)]
pub struct Secrets {
    pepper: Pepper,
    session: Secret,
    code: Secret,
    sealing: Secret,
    credential: Secret,
    link: Secret,
    place: Secret,
}

/// A keyed hash of a network, made by gateways.
pub(crate) type NetworkTag = [u8; 8];

/// Whom a code goes to, and whence it was asked for, if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipient {
    pub(crate) number: PhoneNumber,
    pub(crate) network: Option<NetworkTag>,
}

/// A stored number that cannot be opened: another master secret wrote it, or it is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored number cannot be opened with this master secret")]
pub(crate) struct UnsealError;

impl Secrets {
    pub fn derive(master: &Secret, pepper: Pepper) -> Self {
        let key = |purpose| master.derive(purpose, &[]);
        Self {
            pepper,
            session: key("spillway registration: verification session"),
            code: key("spillway registration: code"),
            sealing: key("spillway registration: sealed number"),
            credential: key("spillway registration: credential"),
            link: key("spillway registration: link token"),
            place: key("spillway registration: place of a number"),
        }
    }

    pub(crate) fn number_mac(&self, number: &PhoneNumber) -> NumberMac {
        self.pepper.mac(number)
    }

    pub(crate) fn number_tag(&self, number: &NumberMac) -> NumberTag {
        NumberTag::new(&self.session.hash("number tag", &[number.as_bytes()]))
    }

    /// Of what is random in the session's secret, so that a pass has one id whatever number comes with it.
    pub(crate) fn verification_id(&self, session: &Secret) -> VerificationId {
        VerificationId(*self.session.hash("id", &[NumberTag::beside_tag(session)]).as_bytes())
    }

    /// The session that a pass of the waiting room opens. Whoever repeats the call finds it again.
    pub(crate) fn session_of_pass(&self, tag: NumberTag, pass: Pass) -> Secret {
        let (room, number) = (pass.room.to_be_bytes(), pass.number.to_be_bytes());
        tag.secret_with(&self.session.derive("pass", &[&room, &number]))
    }

    /// The code of a session: a keyed hash of its random id, so nobody without the key can tell it from a random
    /// number, and all messages of a session carry the same one. A person who asked twice may type whichever comes
    /// first, and a hand-over that is repeated after a crash or a lost answer does no harm.
    ///
    /// Taking 128 bits modulo 10^6 favours some codes by less than one part in 10^32.
    pub(crate) fn code(&self, id: VerificationId) -> Code {
        let derived = self.code.derive("code", &[&id.0]);
        let (random, _) = derived.expose().split_first_chunk().expect("32 bytes begin with 16");
        Code::from_number((u128::from_le_bytes(*random) % u128::from(Code::COUNT)) as u32)
    }

    pub(crate) fn code_mac(&self, id: VerificationId, code: &str) -> KeyedHash {
        self.code.hash("mac", &[&id.0, code.as_bytes()])
    }

    /// Where a number is, as the guard against pumping counts it.
    pub(crate) fn places(&self, to: &Recipient) -> Places {
        let number = &to.number;
        let digits = number.as_e164().as_bytes();
        let prefix = &digits[..digits.len().saturating_sub(SUBSCRIBER_DIGITS)];
        let key = |purpose, part: &[u8]| {
            let hash = self.place.hash(purpose, &[part]);
            let (first, _) = hash.as_bytes().split_first_chunk().expect("32 bytes begin with 8");
            PlaceKey(u64::from_le_bytes(*first))
        };
        Places {
            prefix: key("prefix", prefix),
            network: to.network.map(|network| key("network", &network)),
            country: key("country", &number.country_code().to_le_bytes()),
        }
    }

    /// Encrypts whom a code goes to, for the time until it has been handed over.
    pub(crate) fn seal(&self, id: VerificationId, to: &Recipient) -> Bytes {
        let nonce: [u8; NONCE_BYTES] = random_bytes();
        let mut plain = to.number.as_e164().as_bytes().to_vec();
        if let Some(network) = to.network {
            plain.push(NETWORK_FOLLOWS);
            plain.extend(network);
        }
        let payload = Payload { msg: &plain, aad: &id.0 };
        let sealed = self
            .cipher(id)
            .encrypt(Nonce::from_slice(&nonce), payload)
            .expect("a phone number is shorter than the cipher's limit of 256 GB");
        [&nonce[..], &sealed].concat().into()
    }

    pub(crate) fn open(&self, id: VerificationId, sealed: &[u8]) -> Result<Recipient, UnsealError> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or(UnsealError)?;
        let payload = Payload { msg: sealed, aad: &id.0 };
        let plain = self.cipher(id).decrypt(Nonce::from_slice(nonce), payload).map_err(|_| UnsealError)?;
        let mut parts = plain.splitn(2, |byte| *byte == NETWORK_FOLLOWS);
        let number = std::str::from_utf8(parts.next().unwrap_or_default()).map_err(|_| UnsealError)?;
        let number = PhoneNumber::parse(number).map_err(|_| UnsealError)?;
        let network = parts.next().map(NetworkTag::try_from).transpose().map_err(|_| UnsealError)?;
        Ok(Recipient { number, network })
    }

    /// A key for each session: the 96-bit nonce alone would be too short for the life of one key.
    fn cipher(&self, id: VerificationId) -> ChaCha20Poly1305 {
        let key = self.sealing.derive("number", &[&id.0]);
        ChaCha20Poly1305::new(Key::from_slice(key.expose()))
    }

    /// The account that a session makes when its number has none. Derived, so that a repeated call proposes the same.
    pub(crate) fn proposed_account(&self, session: &Secret) -> AccountId {
        AccountId::from_bytes(random_uuid(&self.session.derive("account", &[session.expose()])))
    }

    /// The mailbox of the primary device that a session makes. Its time is that of the session, which every call for it knows.
    pub(crate) fn primary_mailbox(&self, session: &Secret, created_at: Timestamp) -> MailboxId {
        let derived = self.session.derive("mailbox", &[session.expose()]);
        MailboxId::minted(created_at, *derived.expose().first_chunk().expect("32 bytes begin with 10"))
    }

    /// The credential of the primary device that a session makes in an account.
    pub(crate) fn primary_credential(&self, session: &Secret, account: AccountId) -> Secret {
        self.credential.derive("primary device", &[session.expose(), account.as_bytes()])
    }

    /// What is stored in place of a credential.
    pub(crate) fn credential_hash(&self, device: DeviceAddress, secret: &Secret) -> KeyedHash {
        let parts: [&[u8]; 3] = [device.account.as_bytes(), &[device.device.get()], secret.expose()];
        self.credential.hash("stored", &parts)
    }

    pub(crate) fn link_mac(&self, claims: &[u8]) -> KeyedHash {
        self.link.hash("mac", &[claims])
    }
}

/// The first 16 bytes with the version and variant bits of a random UUID (RFC 9562 §5.4).
fn random_uuid(secret: &Secret) -> [u8; 16] {
    let (bytes, _) = secret.expose().split_first_chunk().expect("32 bytes begin with 16");
    let mut bytes: [u8; 16] = *bytes;
    bytes[6] = (bytes[6] & 0x0F) | 0x40;
    bytes[8] = (bytes[8] & 0x3F) | 0x80;
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn secrets(master: u8) -> Secrets {
        let master = Secret::from_bytes([master; 32]);
        let pepper = Pepper::new(1, master.derive("pepper", &[]));
        Secrets::derive(&master, pepper)
    }

    fn to(number: &str) -> Recipient {
        Recipient { number: PhoneNumber::parse(number).unwrap(), network: None }
    }

    #[test]
    fn a_sealed_number_opens_only_in_its_session_and_with_its_key() {
        let number = to("+4930123456");
        let (id, other) = (VerificationId([1; 32]), VerificationId([2; 32]));
        let sealed = secrets(1).seal(id, &number);
        assert_eq!(secrets(1).open(id, &sealed), Ok(number.clone()));
        assert_eq!(secrets(1).open(other, &sealed), Err(UnsealError));
        assert_eq!(secrets(2).open(id, &sealed), Err(UnsealError));
        assert_eq!(secrets(1).open(id, &sealed[..5]), Err(UnsealError));
        assert_ne!(secrets(1).seal(id, &number), sealed, "the nonce is random");
        // A hash may hold any byte.
        let known = Recipient { network: Some([0, 1, 0, 0, 0, 0, 0, 0]), ..number };
        assert_eq!(secrets(1).open(id, &secrets(1).seal(id, &known)), Ok(known));
    }

    #[test]
    fn numbers_of_one_place_differ_in_their_last_four_digits_only() {
        let places = |text| secrets(1).places(&to(text));
        let (here, near, far) = ("+4930123456", "+4930129999", "+4930133456");
        assert_eq!(places(here), places(near));
        assert_ne!(places(here).prefix, places(far).prefix);
        assert_eq!(places(here).country, places(far).country);
        assert_ne!(places(here), secrets(2).places(&to(here)), "the key counts");
        let from = |network| secrets(1).places(&Recipient { network: Some([network; 8]), ..to(here) });
        assert_eq!(from(1).prefix, places(here).prefix);
        assert!(places(here).network.is_none() && from(1).network != from(2).network);
    }

    #[test]
    fn codes_spread_over_all_digits() {
        let secrets = secrets(1);
        let codes: Vec<_> = (0..2_000u32)
            .map(|n| {
                let mut id = [0; 32];
                id[..4].copy_from_slice(&n.to_le_bytes());
                secrets.code(VerificationId(id))
            })
            .collect();
        for position in 0..Code::DIGITS {
            let digits: HashSet<u8> = codes.iter().map(|code| code.expose().as_bytes()[position]).collect();
            assert_eq!(digits.len(), 10, "position {position}");
        }
        let distinct: HashSet<&str> = codes.iter().map(Code::expose).collect();
        assert!(distinct.len() > 1_990, "2,000 of a million collide about twice, got {}", distinct.len());
    }
}
