//! The text with which a device proves itself: `<account uuid>.<device>.<base64url of 32 bytes>`.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use spillway_types::{AccountId, DeviceAddress, DeviceId, Secret};

/// A device's credential. Only its keyed hash is stored.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) device: DeviceAddress,
    pub(crate) secret: Secret,
}

impl Credential {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let account: AccountId = parts.next()?.parse().ok()?;
        let device: u32 = parts.next()?.parse().ok()?;
        let device = DeviceId::try_from(device).ok()?;
        let secret = BASE64_URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        let secret = Secret::try_from(&secret[..]).ok()?;
        Some(Self { device: DeviceAddress { account, device }, secret })
    }

    /// Named so that a reader sees where it leaves its wrapper.
    pub(crate) fn expose(&self) -> String {
        format!("{}.{}", self.device, BASE64_URL_SAFE_NO_PAD.encode(self.secret.expose()))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}, ..)", self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        let device = DeviceAddress { account: AccountId::random(), device: DeviceId::PRIMARY };
        let credential = Credential { device, secret: Secret::random() };
        assert_eq!(Credential::parse(&credential.expose()), Some(credential));
    }

    #[test]
    fn anything_else_is_no_credential() {
        let device = DeviceAddress { account: AccountId::random(), device: DeviceId::PRIMARY };
        let good = Credential { device, secret: Secret::random() }.expose();
        for wrong in [
            "",
            "..",
            "a.1.b",
            good.strip_suffix(|_| true).unwrap(),
            &format!("{good}A"),
            &good.replacen(".1.", ".0.", 1),
        ] {
            assert_eq!(Credential::parse(wrong), None, "{wrong:?}");
        }
    }
}
