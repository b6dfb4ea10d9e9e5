//! The one mapping of errors to gRPC statuses.

use std::error::Error;
use std::fmt;

use spillway_api::{Reason, Refusal};
use tonic::Status;

/// An operation's error. The refusal is what leaves the process; sources stay in the log.
pub trait ServiceError: Error + Send + Sync + 'static {
    fn refusal(&self) -> Refusal;
}

/// Logs what an operator must know, and answers with what the caller may know.
pub fn into_status<E: ServiceError>(error: E) -> Status {
    let refusal = error.refusal();
    match refusal.reason {
        Reason::Internal => tracing::error!(error = %Chain(&error), "call failed"),
        Reason::Unavailable => tracing::warn!(error = %Chain(&error), "call could not be served"),
        _ => tracing::debug!(reason = refusal.reason.as_str(), "call refused"),
    }
    refusal.into_status()
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
