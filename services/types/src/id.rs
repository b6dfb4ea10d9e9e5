//! Ids of accounts, devices, mailboxes and sends. Each kind is a type of its own.

use std::fmt;

use uuid::Uuid;

use crate::clock::Timestamp;

/// Why bytes or text are not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("expected 16 bytes, got {0}")]
    Length(usize),
    #[error("device id must be between 1 and 127, got {0}")]
    Device(u32),
    #[error("not a valid uuid")]
    Uuid,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A random (version 4) id.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| IdError::Length(bytes.len()))
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError::Uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id!(
    /// One person's account. It outlives re-registration of its phone number.
    AccountId
);
uuid_id!(
    /// One incarnation of a device: a device that is linked again, or a number that is registered again, gets a new
    /// mailbox, so that mail for the old incarnation is unreachable.
    ///
    /// A minted one tells when that was, so that nobody looks for mail from before: the weeks of a new account's first
    /// session are one and not six.
    MailboxId
);

impl MailboxId {
    /// A version 7 UUID (RFC 9562 §5.7) of this time, to the millisecond below.
    pub fn minted(at: Timestamp, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(at.as_millis(), &random).into_uuid())
    }

    /// `None` for an id that was not minted from a time.
    pub fn minted_at(&self) -> Option<Timestamp> {
        if self.0.get_version() != Some(uuid::Version::SortRand) {
            return None;
        }
        let millis = self.0.as_bytes()[..6].iter().fold(0, |millis, byte| millis << 8 | u64::from(*byte));
        Some(Timestamp::from_millis(millis))
    }
}
uuid_id!(
    /// A sender's name for one send. Two stored messages with the same guid are the same message.
    Guid
);

/// A device within its account. 1 is the primary device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(u8);

impl DeviceId {
    pub const PRIMARY: DeviceId = DeviceId(1);
    pub const MAX: u8 = 127;

    pub const fn get(self) -> u8 {
        self.0
    }

    pub const fn is_primary(self) -> bool {
        self.0 == 1
    }
}

impl TryFrom<u32> for DeviceId {
    type Error = IdError;

    fn try_from(value: u32) -> Result<Self, IdError> {
        match u8::try_from(value) {
            Ok(id) if (1..=Self::MAX).contains(&id) => Ok(Self(id)),
            _ => Err(IdError::Device(value)),
        }
    }
}

impl From<DeviceId> for u32 {
    fn from(id: DeviceId) -> u32 {
        u32::from(id.0)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A device of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceAddress {
    pub account: AccountId,
    pub device: DeviceId,
}

impl fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.account, self.device)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_minted_mailbox_tells_its_time_and_another_none() {
        let at = Timestamp::from_micros(1_610_722_800_123_999);
        let id = MailboxId::minted(at, [0xFF; 10]);
        assert_eq!(id.minted_at(), Some(Timestamp::from_millis(1_610_722_800_123)));
        assert_eq!(id.to_string(), "0177068f-71fb-7fff-bfff-ffffffffffff");
        assert!(at.since(id.minted_at().unwrap()) < Duration::from_millis(1));
        assert_ne!(id, MailboxId::minted(at, [0; 10]));
        assert_eq!(MailboxId::random().minted_at(), None);
        assert_eq!(MailboxId::from_bytes([0; 16]).minted_at(), None);
    }
}
