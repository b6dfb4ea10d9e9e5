//! A unary call with its deadline, identity and retries.

use std::future::Future;
use std::time::Duration;

use spillway_api::Refusal;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use crate::connect::Client;
use crate::identity::Identity;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The service answered, and said why not.
    #[error("refused: {}", .0.reason.as_str())]
    Refused(#[source] Refusal),
    /// No answer came, or one that is not Spillway's. A write may have happened.
    #[error("no usable answer ({})", .0.code())]
    Transport(#[source] Box<Status>),
}

impl CallError {
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Transport(_) => None,
        }
    }

    /// Whether the very same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            // RESOURCE_EXHAUSTED also means "message too large", so only a refusal that names a time is repeated.
            Self::Refused(refusal) => match refusal.reason.code() {
                Code::Unavailable => true,
                Code::ResourceExhausted => refusal.retry_after.is_some(),
                _ => false,
            },
            Self::Transport(status) => {
                matches!(
                    status.code(),
                    Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown
                )
            }
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        match Refusal::from_status(&status) {
            Some(refusal) => Self::Refused(refusal),
            None => Self::Transport(Box::new(status)),
        }
    }
}

impl Client {
    /// Calls until there is an answer that stands, the deadline leaves no room for another try, or the retry budget
    /// is spent. Only for calls that may be repeated, which in Spillway's API are all but `Keys.Fetch`.
    pub(crate) async fn call<Req, Res, F>(
        &self,
        identity: Option<&Identity>,
        message: Req,
        mut attempt: impl FnMut(Request<Req>) -> F,
    ) -> Result<Res, CallError>
    where
        Req: Clone,
        F: Future<Output = Result<Response<Res>, Status>>,
    {
        let deadline = Instant::now() + self.config.call_timeout;
        let mut tries = 0;
        loop {
            let mut request = Request::new(message.clone());
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            if let Some(identity) = identity {
                identity.authorize(request.metadata_mut());
            }
            let error = match attempt(request).await {
                Ok(response) => {
                    self.budget.succeeded();
                    if let Some(identity) = identity {
                        identity.learn(response.metadata());
                    }
                    return Ok(response.into_inner());
                }
                Err(status) => CallError::from(status),
            };
            tries += 1;
            let Some(pause) = self.pause_before_retry(&error, tries, identity) else { return Err(error) };
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn pause_before_retry(
        &self,
        error: &CallError,
        tries: u32,
        identity: Option<&Identity>,
    ) -> Option<Duration> {
        // A token that ran out is replaced through the credential, once, and costs no budget.
        if tries == 1 && identity.is_some_and(|identity| identity.forget_token_after(error)) {
            return Some(Duration::ZERO);
        }
        if !error.is_retryable() {
            return None;
        }
        let told = error.refusal().and_then(|refusal| refusal.retry_after);
        self.config.retry.pause(tries, told, &self.budget)
    }
}
