//! What tokens and tickets have in common: claims about a device under a keyed BLAKE3 hash.
//!
//! Layout, all integers big-endian: format version 1, key id 1, account 16, device 1, mailbox 16, proved-at 8,
//! expires-at 8 (both microseconds since the Unix epoch), nonce 16, hash 32; base64url without padding. Each purpose
//! has a key of its own, derived from the one in the configuration, so a token never passes for a ticket. The key id
//! is derived from the key and tells one signed under an older key from a forgery.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use spillway_types::{AccountId, DeviceAddress, DeviceId, KeyedHash, MailboxId, Secret, Timestamp};

use crate::auth::Caller;

const VERSION: u8 = 1;
const BODY_LEN: usize = 1 + 1 + 16 + 1 + 16 + 8 + 8 + 16;
const LEN: usize = BODY_LEN + 32;
/// 99 bytes in base64. Anything longer is refused before it is decoded.
const TEXT_LEN: usize = (LEN * 4).div_ceil(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) caller: Caller,
    /// When the credential, or the account's list of devices, was last looked at.
    pub(crate) proved_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) nonce: [u8; 16],
}

/// Why a text is no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureError {
    #[error("is malformed")]
    Malformed,
    #[error("was signed under another key")]
    OtherKey,
    #[error("is forged, or of another kind")]
    Forged,
    #[error("has expired")]
    Expired,
}

#[derive(Debug)]
pub(crate) struct Signer {
    purpose: &'static str,
    key: Secret,
    key_id: u8,
}

impl Signer {
    pub(crate) fn new(master: &Secret, purpose: &'static str) -> Self {
        let key_id = master.hash("key id", &[]).as_bytes()[0];
        Self { purpose, key: master.derive(purpose, &[]), key_id }
    }

    pub(crate) fn sign(&self, claims: &Claims) -> String {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend_from_slice(&[VERSION, self.key_id]);
        bytes.extend_from_slice(claims.caller.address.account.as_bytes());
        bytes.push(claims.caller.address.device.get());
        bytes.extend_from_slice(claims.caller.mailbox.as_bytes());
        bytes.extend_from_slice(&claims.proved_at.as_micros().to_be_bytes());
        bytes.extend_from_slice(&claims.expires_at.as_micros().to_be_bytes());
        bytes.extend_from_slice(&claims.nonce);
        let hash = self.hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn verify(&self, text: &str, now: Timestamp) -> Result<Claims, SignatureError> {
        if text.len() != TEXT_LEN {
            return Err(SignatureError::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SignatureError::Malformed)?;
        let (body, hash) = bytes.split_at_checked(BODY_LEN).ok_or(SignatureError::Malformed)?;
        let hash = hash.try_into().map_err(|_| SignatureError::Malformed)?;
        if body[0] != VERSION {
            return Err(SignatureError::Malformed);
        }
        if body[1] != self.key_id {
            return Err(SignatureError::OtherKey);
        }
        if self.hash(body) != KeyedHash::from_bytes(hash) {
            return Err(SignatureError::Forged);
        }
        let claims = read_claims(&body[2..]).ok_or(SignatureError::Malformed)?;
        if claims.expires_at <= now {
            return Err(SignatureError::Expired);
        }
        Ok(claims)
    }

    fn hash(&self, body: &[u8]) -> KeyedHash {
        self.key.hash(self.purpose, &[body])
    }
}

fn read_claims(body: &[u8]) -> Option<Claims> {
    let (account, rest) = body.split_first_chunk::<16>()?;
    let (device, rest) = rest.split_first()?;
    let (mailbox, rest) = rest.split_first_chunk::<16>()?;
    let (proved_at, rest) = rest.split_first_chunk::<8>()?;
    let (expires_at, rest) = rest.split_first_chunk::<8>()?;
    let address = DeviceAddress {
        account: AccountId::from_bytes(*account),
        device: DeviceId::try_from(u32::from(*device)).ok()?,
    };
    Some(Claims {
        caller: Caller { address, mailbox: MailboxId::from_bytes(*mailbox) },
        proved_at: Timestamp::from_micros(u64::from_be_bytes(*proved_at)),
        expires_at: Timestamp::from_micros(u64::from_be_bytes(*expires_at)),
        nonce: rest.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_610_722_800_000);

    fn claims() -> Claims {
        let address = DeviceAddress { account: AccountId::from_bytes([3; 16]), device: DeviceId::PRIMARY };
        Claims {
            caller: Caller { address, mailbox: MailboxId::from_bytes([4; 16]) },
            proved_at: NOW,
            expires_at: Timestamp::from_micros(NOW.as_micros() + 1),
            nonce: [5; 16],
        }
    }

    fn signer(purpose: &'static str) -> Signer {
        Signer::new(&Secret::from_bytes([9; 32]), purpose)
    }

    #[test]
    fn claims_come_back_until_they_expire() {
        let signer = signer("a");
        let text = signer.sign(&claims());
        assert_eq!(text.len(), TEXT_LEN);
        assert_eq!(signer.verify(&text, NOW), Ok(claims()));
        assert_eq!(signer.verify(&text, claims().expires_at), Err(SignatureError::Expired));
    }

    #[test]
    fn another_purpose_or_key_is_refused() {
        let text = signer("a").sign(&claims());
        assert_eq!(signer("b").verify(&text, NOW), Err(SignatureError::Forged));
        let other = Signer::new(&Secret::from_bytes([8; 32]), "a");
        assert_eq!(other.verify(&text, NOW), Err(SignatureError::OtherKey));
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_noticed(at in 0..LEN, by in 1..=255_u8) {
            let signer = signer("a");
            let mut bytes = URL_SAFE_NO_PAD.decode(signer.sign(&claims())).unwrap();
            bytes[at] ^= by;
            prop_assert!(signer.verify(&URL_SAFE_NO_PAD.encode(bytes), NOW).is_err());
        }

        #[test]
        fn no_text_panics(text in ".{0,200}") {
            prop_assert!(signer("a").verify(&text, NOW).is_err());
        }
    }
}
