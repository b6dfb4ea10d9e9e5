//! Why something with a peer did not succeed.

use crate::stats::{Outcome, Reason};

pub type Cause = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub struct PeerError {
    doing: &'static str,
    reason: Reason,
    is_refusal: bool,
    #[source]
    source: Cause,
}

impl PeerError {
    /// `reason` is what it is counted under: a short name of a closed set.
    pub fn failed(doing: &'static str, reason: Reason, source: impl Into<Cause>) -> Self {
        Self { doing, reason, is_refusal: false, source: source.into() }
    }

    /// The system said no, on purpose.
    pub fn refused(doing: &'static str, reason: Reason, source: impl Into<Cause>) -> Self {
        Self { doing, reason, is_refusal: true, source: source.into() }
    }

    pub fn outcome(&self) -> Outcome {
        if self.is_refusal { Outcome::Refused(self.reason) } else { Outcome::Failed(self.reason) }
    }
}
