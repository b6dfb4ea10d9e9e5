//! Accounts with their devices, and the claim of a number by an account.

use async_trait::async_trait;
use bytes::Bytes;
use spillway_types::{AccountId, DeviceId, KeyedHash, MailboxId, NumberMac, Timestamp};

use crate::{Cas, StoreError};

/// Counts the changes of an account; the first stored version is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

impl Version {
    pub const FIRST: Version = Version(1);

    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// An account is read and written whole: it is small (at most a handful of devices), and one version guards it all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    pub version: Version,
    pub number: NumberMac,
    pub identity_key: Bytes,
    pub discoverable: bool,
    pub created_at: Timestamp,
    /// Ordered by id. Never empty; the primary device is always among them.
    pub devices: Vec<Device>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub id: DeviceId,
    /// New for each incarnation of the device; also the name under which its keys are kept.
    pub mailbox: MailboxId,
    pub credential: KeyedHash,
    pub registration_id: u32,
    /// Encrypted by the device.
    pub name: Bytes,
    pub linked_at: Timestamp,
}

/// "This number is this account's."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberClaim {
    pub number: NumberMac,
    pub account: AccountId,
}

#[async_trait]
pub trait Accounts: std::fmt::Debug + Send + Sync {
    async fn get(&self, id: AccountId) -> Result<Option<Account>, StoreError>;

    /// Stores `account` if the stored version is `expected` (`None`: if there is no such account).
    /// `account.version` must be the version after `expected`; a new account starts at [`Version::FIRST`], and one that
    /// is moved from another store keeps the version it had there.
    async fn put(&self, account: &Account, expected: Option<Version>) -> Result<Cas, StoreError>;

    /// Deletes the account if the stored version is `expected`. Its claim and keys are deleted by their own calls.
    async fn delete(&self, id: AccountId, expected: Version) -> Result<Cas, StoreError>;

    /// Claims a number that nobody holds, and answers with the claim that stands: the caller's, or the one that was
    /// there before. However many race, all get the same answer.
    async fn claim(&self, claim: NumberClaim) -> Result<NumberClaim, StoreError>;

    async fn claimed(&self, number: &NumberMac) -> Result<Option<NumberClaim>, StoreError>;

    /// Gives up a claim. Nothing happens when the number is not claimed by that account.
    async fn release(&self, claim: NumberClaim) -> Result<(), StoreError>;
}
