//! Refusals that several operations share.

use std::time::Duration;

use spillway_api::{Reason, Refusal};
use spillway_store::StoreError;

/// A full disk is not emptied within moments, and callers that come back at once make it worse.
const DISK_FULL_PAUSE: Duration = Duration::from_secs(10);

pub(crate) fn store(error: &StoreError) -> Refusal {
    match error {
        StoreError::Unavailable(_) => Refusal::new(Reason::Unavailable, "the store did not answer"),
        StoreError::DiskFull => {
            Refusal::new(Reason::Unavailable, "the store's disk is full; try again later")
                .retry_after(Some(DISK_FULL_PAUSE))
        }
        StoreError::Stopped(_) => Refusal::new(Reason::Unavailable, "the store has stopped"),
        StoreError::Corrupt { .. } => Refusal::new(Reason::Internal, "a stored record cannot be read"),
    }
}

pub(crate) fn no_session() -> Refusal {
    Refusal::new(Reason::VerificationNotFound, "no such verification session, or it has expired")
}

pub(crate) fn not_verified() -> Refusal {
    Refusal::new(Reason::NotVerified, "the number of this session has not been proved")
}

/// For a caller whose device has gone since the gateway authenticated it.
pub(crate) fn gone() -> Refusal {
    Refusal::new(Reason::Unauthenticated, "the device is not one of this account any more")
}

pub(crate) fn not_primary() -> Refusal {
    Refusal::new(Reason::NotPrimary, "only the primary device may do this")
}

pub(crate) fn too_early(retry_after: Duration) -> Refusal {
    Refusal::new(Reason::Quota, "too early").retry_after(Some(retry_after))
}

/// For tests: every error of an operation, and the reason that leaves the process.
#[cfg(test)]
pub(crate) fn assert_reasons<E: spillway_rpc::ServiceError>(cases: Vec<(E, Reason)>) {
    for (error, reason) in cases {
        assert_eq!(error.refusal().reason, reason, "{error:?}");
    }
}
