//! Leases: which of several processes acts for all.
//!
//! A lease is a register that is changed only on condition; there is no clock in it. Whoever wants it and sees it
//! unchanged for long enough, by its own monotonic clock, takes it. The control role does the timing.

use async_trait::async_trait;

use crate::{Cas, StoreError};

/// A process, new at each start of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HolderId(pub [u8; 16]);

/// Rises by one with each change of the holder. Whoever obeys a holder ignores one with a lower token than it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub holder: HolderId,
    pub token: FencingToken,
    /// Rises with each renewal by the same holder, so that others see it alive.
    pub renewal: u64,
}

#[async_trait]
pub trait Leases: std::fmt::Debug + Send + Sync {
    /// The lease as it stands: sees every `put` that was answered before the call, and settles one whose outcome was
    /// not known.
    async fn get(&self, name: &str) -> Result<Option<Lease>, StoreError>;

    /// Stores `lease` if the stored one is `expected` (`None`: if there is none). After an error it may have been
    /// stored: `get` tells.
    async fn put(&self, name: &str, lease: Lease, expected: Option<Lease>) -> Result<Cas, StoreError>;
}
