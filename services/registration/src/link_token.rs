//! What the primary device hands to a new device out of band.
//!
//! base64url of: format (1 byte), account (16), account version (8, big-endian), expiry (8, microseconds), MAC (32).
//! The version makes it work once: linking, like every change of the account, moves the version on. Nothing is stored.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use spillway_store::accounts::Version;
use spillway_types::{AccountId, KeyedHash, Timestamp};

use crate::secrets::Secrets;

const FORMAT: u8 = 1;
const CLAIMS_BYTES: usize = 1 + 16 + 8 + 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkToken {
    pub(crate) account: AccountId,
    pub(crate) version: Version,
    pub(crate) expires_at: Timestamp,
}

impl LinkToken {
    pub(crate) fn seal(&self, secrets: &Secrets) -> String {
        let mut token = Vec::with_capacity(CLAIMS_BYTES + 32);
        token.push(FORMAT);
        token.extend_from_slice(self.account.as_bytes());
        token.extend_from_slice(&self.version.0.to_be_bytes());
        token.extend_from_slice(&self.expires_at.as_micros().to_be_bytes());
        let mac = secrets.link_mac(&token);
        token.extend_from_slice(mac.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(token)
    }

    /// `None` when this service did not seal it. Whether it has expired is not checked here.
    pub(crate) fn open(text: &str, secrets: &Secrets) -> Option<Self> {
        let token = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (claims, mac) = token.split_at_checked(CLAIMS_BYTES)?;
        if secrets.link_mac(claims) != KeyedHash::from_bytes(mac.try_into().ok()?) {
            return None;
        }
        let (format, claims) = claims.split_first()?;
        let (account, claims) = claims.split_first_chunk::<16>()?;
        let (version, expires_at) = claims.split_first_chunk::<8>()?;
        (*format == FORMAT).then_some(Self {
            account: AccountId::from_bytes(*account),
            version: Version(u64::from_be_bytes(*version)),
            expires_at: Timestamp::from_micros(u64::from_be_bytes(expires_at.try_into().ok()?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use spillway_types::{Pepper, Secret};

    use super::*;

    #[test]
    fn a_changed_token_is_refused() {
        let master = Secret::from_bytes([1; 32]);
        let secrets = Secrets::derive(&master, Pepper::new(1, master.derive("pepper", &[])));
        let token =
            LinkToken { account: AccountId::random(), version: Version(7), expires_at: Timestamp::MAX };
        let text = token.seal(&secrets);
        assert_eq!(LinkToken::open(&text, &secrets), Some(token));
        for position in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[position] = if wrong[position] == b'A' { b'B' } else { b'A' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(LinkToken::open(&wrong, &secrets), None, "position {position}");
        }
        assert_eq!(LinkToken::open("", &secrets), None);
    }
}
