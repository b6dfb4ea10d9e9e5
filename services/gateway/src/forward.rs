//! Why a call that registration or directory serves was not served.

use std::time::Duration;

use spillway_admission::{Decision, Key, Limit};
use spillway_api::{FieldError, Reason, Refusal};
use spillway_rpc::ServiceError;
use tonic::{Response, Status};

use crate::Parts;
use crate::inner::InnerError;
use crate::quota::QuotaError;
use crate::room::RoomError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error("the request is not valid")]
    Field(#[source] FieldError),
    #[error("the caller may not ask more now")]
    Quota(#[source] QuotaError),
    #[error("it is switched off so that messages go on")]
    Paused(Duration),
    #[error("the waiting room does not let the caller in")]
    Room(#[source] RoomError),
    #[error("the call was not served")]
    Inner(#[source] InnerError),
    #[error("the answer of another role cannot be read")]
    Answer(#[source] FieldError),
}

impl ServiceError for ForwardError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Field(error) => error.clone().into(),
            Self::Quota(error) => error.refusal(),
            Self::Paused(pause) => Refusal::new(Reason::Overload, self.to_string()).retry_after(Some(*pause)),
            Self::Room(error) => error.refusal(),
            Self::Inner(error) => error.refusal(),
            Self::Answer(_) => Refusal::new(Reason::Internal, "something failed at the server"),
        }
    }
}

impl ForwardError {
    pub(crate) fn from_registration(status: Status) -> Self {
        Self::Inner(InnerError::registration(status))
    }
}

/// Registration's answer.
pub(crate) fn answered<T>(answer: Result<Response<T>, Status>) -> Result<T, ForwardError> {
    answer.map(Response::into_inner).map_err(ForwardError::from_registration)
}

impl Parts {
    /// Draws from a quota.
    pub(crate) fn draw(&self, limit: Limit, key: &Key<'_>, permits: u32) -> Result<(), ForwardError> {
        enforce(limit, self.quotas.check(limit, key, permits))
    }

    /// Refuses if a quota is used up, without drawing from it.
    pub(crate) fn look(&self, limit: Limit, key: &Key<'_>) -> Result<(), ForwardError> {
        enforce(limit, self.quotas.peek(limit, key, 1))
    }
}

fn enforce(limit: Limit, decision: Decision) -> Result<(), ForwardError> {
    QuotaError::check(limit, decision).map_err(ForwardError::Quota)
}
