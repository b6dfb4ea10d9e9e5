//! A unary call with its deadline, identity and retries.

use std::future::Future;
use std::time::Duration;

use spillway_admission::{Failure, InCall, Tier};
use spillway_api::Refusal;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use crate::connect::Client;
use crate::cooperation::pushback;
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
    /// Not sent: the service has told that it would refuse this now.
    #[error("held back: the service has no room for this before {retry_after:?} have passed")]
    HeldBack { retry_after: Duration },
}

impl CallError {
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Transport(_) | Self::HeldBack { .. } => None,
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
            Self::HeldBack { .. } => true,
        }
    }

    fn as_failure(&self, told: Option<InCall>) -> Failure {
        match (self, told) {
            _ if !self.is_retryable() => Failure::Final,
            (_, Some(told)) => Failure::Told(told),
            (Self::Refused(Refusal { retry_after: Some(pause), .. }), None) => {
                Failure::Told(InCall::RetryAfter(*pause))
            }
            (Self::Transport(status), None) if status.code() == Code::DeadlineExceeded => Failure::Timeout,
            _ => Failure::Retryable,
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
        tier: Tier,
        identity: Option<&Identity>,
        message: Req,
        mut attempt: impl FnMut(Request<Req>) -> F,
    ) -> Result<Res, CallError>
    where
        Req: Clone,
        F: Future<Output = Result<Response<Res>, Status>>,
    {
        let deadline = Instant::now() + self.config.call_timeout;
        // Half of the time is the answer's.
        let latest = Instant::now() + self.config.call_timeout / 2;
        let mut tries = 0;
        loop {
            let place = self.cooperation.turn(tier, latest, deadline).await?;
            let mut request = Request::new(message.clone());
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            if let Some(identity) = identity {
                identity.authorize(request.metadata_mut());
            }
            if let Some(meter) = &self.config.meter {
                meter.attempt(tries);
            }
            let (error, told) = match attempt(request).await {
                Ok(response) => {
                    self.cooperation.succeeded();
                    self.cooperation.learn(response.metadata());
                    // After what was told with it: it wakes whoever waits for room.
                    place.answered();
                    if let Some(identity) = identity {
                        identity.learn(response.metadata());
                    }
                    return Ok(response.into_inner());
                }
                Err(status) => {
                    let code = status.code();
                    let (error, told) = self.failed(status);
                    match &error {
                        CallError::Refused(_) if error.is_retryable() => place.refused(),
                        CallError::Refused(_) => place.answered(),
                        CallError::Transport(_) | CallError::HeldBack { .. } => place.failed(code),
                    }
                    (error, told)
                }
            };
            tries += 1;
            let Some(pause) = self.pause_before_retry(&error, told, tries, identity) else {
                return Err(error);
            };
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// The error, and what it says about repeating the call.
    pub(crate) fn failed(&self, status: Status) -> (CallError, Option<InCall>) {
        let told = pushback(&status);
        let metadata = status.metadata().clone();
        let error = CallError::from(status);
        // Other statuses are made on the way, and say nothing about the service.
        if error.refusal().is_some() {
            self.cooperation.learn(&metadata);
        }
        (error, told)
    }

    fn pause_before_retry(
        &self,
        error: &CallError,
        told: Option<InCall>,
        tries: u32,
        identity: Option<&Identity>,
    ) -> Option<Duration> {
        // A token that ran out is replaced through the credential, once, and costs no budget.
        if tries == 1 && identity.is_some_and(|identity| identity.forget_token_after(error)) {
            return Some(Duration::ZERO);
        }
        self.cooperation.pause(tries, error.as_failure(told))
    }
}

#[cfg(test)]
mod tests {
    use spillway_api::v1;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;
    use crate::connect::ClientConfig;
    use crate::meter::Meter;

    #[tokio::test]
    async fn a_service_that_says_nothing_is_asked_a_few_things_at_a_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let meter = Meter::default();
        let config = ClientConfig {
            call_timeout: Duration::from_millis(500),
            meter: Some(meter.clone()),
            ..ClientConfig::default()
        };
        let client = Client::lazy(&format!("http://{}", listener.local_addr().unwrap()), config).unwrap();
        let mut calls = JoinSet::new();
        for n in 0..40 {
            let client = client.clone();
            calls.spawn(async move {
                // Half of them have some time left when the first give up.
                tokio::time::sleep(Duration::from_millis(if n < 20 { 0 } else { 100 })).await;
                let sign_up = client.sign_up();
                let call = client.call(Tier::StartSignUp, None, v1::PollRequest::default(), |request| {
                    let mut sign_up = sign_up.clone();
                    async move { sign_up.poll(request).await }
                });
                call.await.map(drop)
            });
        }
        let (_kept, _) = listener.accept().await.unwrap();
        let outcomes = calls.join_all().await;
        let held =
            outcomes.iter().filter(|outcome| matches!(outcome, Err(CallError::HeldBack { .. }))).count();
        assert_eq!((meter.attempts(), held), (4, 36), "four at first, and nobody in his last moment");
    }
}
