//! What all operations share about failing.

use std::time::Duration;

use spillway_api::{Reason, Refusal};
use spillway_store::StoreError;

use crate::config::ConfigError;

/// Why the role cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the mailbox settings cannot be used")]
    Config(#[from] ConfigError),
    #[error("the mailbox metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// A full disk is not emptied within moments, and callers that come back at once make it worse.
const DISK_FULL_PAUSE: Duration = Duration::from_secs(10);

/// What the caller may know of a failure of the store.
pub(crate) fn store_refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::Unavailable(_) => {
            Refusal::new(Reason::Unavailable, "the store did not answer; repeating is safe")
        }
        StoreError::DiskFull => {
            Refusal::new(Reason::Unavailable, "the store's disk is full; try again later")
                .retry_after(Some(DISK_FULL_PAUSE))
        }
        StoreError::Stopped(_) => Refusal::new(Reason::Unavailable, "the store has stopped"),
        StoreError::Corrupt { .. } => Refusal::new(Reason::Internal, "a stored record cannot be read"),
    }
}
