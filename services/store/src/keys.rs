//! Public prekeys of devices. Kept by mailbox id, so that a device that is set up anew starts without keys.

use async_trait::async_trait;
use bytes::Bytes;
use spillway_types::MailboxId;

use crate::StoreError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPreKey {
    pub key_id: u32,
    pub public_key: Bytes,
    pub signature: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneTimePreKey {
    pub key_id: u32,
    pub public_key: Bytes,
}

/// What an upload changes: `None` leaves the stored key as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyUpload {
    pub signed: Option<SignedPreKey>,
    pub last_resort: Option<SignedPreKey>,
    /// Added to those stored; one with a stored key id replaces it.
    pub one_time: Vec<OneTimePreKey>,
}

/// What one fetch gives away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBundle {
    pub signed: SignedPreKey,
    /// Given to this caller and to nobody else. `None` when none is left.
    pub one_time: Option<OneTimePreKey>,
    pub last_resort: Option<SignedPreKey>,
}

#[async_trait]
pub trait Keys: std::fmt::Debug + Send + Sync {
    /// Answers with the number of one-time keys stored afterwards. When it would exceed `one_time_max`, the new
    /// ones beyond it are dropped.
    async fn upload(
        &self,
        device: MailboxId,
        keys: &KeyUpload,
        one_time_max: usize,
    ) -> Result<usize, StoreError>;

    /// Takes a bundle. Concurrent calls never get the same one-time key. `None`: the device has no signed key.
    /// A one-time key whose taking was not answered is gone; that wastes one key and harms nobody.
    async fn take(&self, device: MailboxId) -> Result<Option<KeyBundle>, StoreError>;

    /// What [`take`](Self::take) gives when no one-time key is left. Takes none, and writes nothing.
    async fn signed(&self, device: MailboxId) -> Result<Option<KeyBundle>, StoreError>;

    /// All keys of a device, as the upload that would store them, one-time keys in the order of their ids. Takes none,
    /// and may miss what is changed meanwhile: it is there to move and compare stores, not to serve.
    async fn stored(&self, device: MailboxId) -> Result<KeyUpload, StoreError>;

    /// Deletes all keys of a device. Idempotent.
    async fn clear(&self, device: MailboxId) -> Result<(), StoreError>;
}
