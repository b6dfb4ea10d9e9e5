//! The one mapping of errors to gRPC statuses.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use spillway_api::{Reason, Refusal};
use tonic::Status;

/// Calls that could not be served, for each that is logged.
const SAMPLE: u64 = 1_000;

/// An operation's error. The refusal is what leaves the process; sources stay in the log.
pub trait ServiceError: Error + Send + Sync + 'static {
    fn refusal(&self) -> Refusal;
}

/// Logs what an operator must know, and answers with what the caller may know.
pub fn into_status<E: ServiceError>(error: E) -> Status {
    let refusal = error.refusal();
    match refusal.reason {
        Reason::Internal => tracing::error!(error = %Chain(&error), "call failed"),
        Reason::Unavailable => warn_sampled(&error),
        _ => tracing::debug!(reason = refusal.reason.as_str(), "call refused"),
    }
    refusal.into_status()
}

/// Logs the first call that could not be served, and then one in [`SAMPLE`]: what makes calls fail, such as a full disk,
/// makes all of them fail, and the log must not fill the disk as well. The metrics count each.
fn warn_sampled(error: &(dyn Error + 'static)) {
    static UNSERVED: AtomicU64 = AtomicU64::new(0);
    let earlier = UNSERVED.fetch_add(1, Ordering::Relaxed);
    if earlier.is_multiple_of(SAMPLE) {
        tracing::warn!(error = %Chain(error), earlier, "call could not be served");
    }
}

/// An error and its sources, joined by ": ".
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
