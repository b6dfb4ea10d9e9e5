//! Who can be found by number. Derived from accounts and their claims; may be rebuilt from them.

use async_trait::async_trait;
use spillway_types::{AccountId, NumberMac};

use crate::StoreError;

#[async_trait]
pub trait Directory: std::fmt::Debug + Send + Sync {
    /// Idempotent; the last call for a number wins.
    async fn put(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError>;

    /// Removes the entry if it names that account. Idempotent.
    async fn remove(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError>;

    /// One answer for each number asked about, in the same order.
    async fn lookup(&self, numbers: &[NumberMac]) -> Result<Vec<Option<AccountId>>, StoreError>;
}
