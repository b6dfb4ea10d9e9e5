use std::time::Duration;

use spillway_api::{Reason, Refusal};
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_store::verifications::Transport;
use spillway_types::Secret;

use crate::Role;
use crate::error;
use crate::metrics::{VerificationEvent, WorkEvent};
use crate::sessions::Step;
use crate::verification::{NotNow, View};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ResendCodeError {
    #[error("no such verification session")]
    NotFound,
    #[error("too early to ask for another code")]
    TooEarly { retry_after: Duration },
    #[error("a call is possible after an SMS was handed over")]
    NoSmsYet,
    #[error("all codes of this session have been asked for")]
    Exhausted,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl From<NotNow> for ResendCodeError {
    fn from(not_now: NotNow) -> Self {
        match not_now {
            NotNow::TooEarly { retry_after } => Self::TooEarly { retry_after },
            NotNow::NoSmsYet => Self::NoSmsYet,
            NotNow::Exhausted => Self::Exhausted,
        }
    }
}

impl ServiceError for ResendCodeError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::NotFound => error::no_session(),
            Self::TooEarly { retry_after } => error::too_early(*retry_after),
            Self::NoSmsYet => {
                Refusal::new(Reason::CodeNotSent, "a call is possible after an SMS was handed over")
            }
            Self::Exhausted => Refusal::new(Reason::ResendsExhausted, "start a new verification"),
            Self::Store(error) => error::store(error),
        }
    }
}

impl Role {
    /// Queues another code in place of one that waits. Nothing is sent for a verified session.
    pub(crate) async fn resend_code(
        &self,
        secret: &Secret,
        transport: Transport,
    ) -> Result<View, ResendCodeError> {
        let id = self.secrets.verification_id(secret);
        let rules = self.rules();
        let changed = self
            .sessions
            .change(id, |session, now| {
                if session.verified {
                    return Ok::<_, ResendCodeError>(Step::Keep(false));
                }
                let replaces = session.queued.is_some();
                rules.request(session, transport, now)?;
                Ok(Step::Write(replaces))
            })
            .await?;
        let (session, replaced) = changed.ok_or(ResendCodeError::NotFound)?;
        if replaced {
            self.metrics.work(WorkEvent::Replaced);
        }
        if session.queued.is_some() {
            self.metrics.verification(VerificationEvent::Resent, transport);
            self.dispatch.offer(id);
        }
        Ok(self.view(&session, secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons() {
        let retry_after = Duration::from_secs(3);
        assert_eq!(ResendCodeError::TooEarly { retry_after }.refusal().retry_after, Some(retry_after));
        error::assert_reasons(vec![
            (ResendCodeError::NotFound, Reason::VerificationNotFound),
            (ResendCodeError::TooEarly { retry_after }, Reason::Quota),
            (ResendCodeError::NoSmsYet, Reason::CodeNotSent),
            (ResendCodeError::Exhausted, Reason::ResendsExhausted),
            (ResendCodeError::Store(StoreError::DiskFull), Reason::Unavailable),
        ]);
    }
}
