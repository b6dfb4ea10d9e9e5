use std::time::Duration;

use spillway_api::{Reason, Refusal};
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_store::verifications::{Transport, Verification};
use spillway_types::Secret;

use crate::Role;
use crate::error;
use crate::metrics::{CheckOutcome, VerificationEvent};
use crate::sessions::Step;
use crate::verification::{NoCheck, View};

/// Pauses between looks for the record of a hand-over in another process: eight of them, 2.6 s in all. A conditional
/// write takes about a second when its database is at its limit.
const RECORD_POLL_MIN: Duration = Duration::from_millis(10);
const RECORD_POLL_MAX: Duration = Duration::from_millis(1_280);

#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckCodeError {
    #[error("no such verification session")]
    NotFound,
    #[error("no code has been handed over")]
    NotSent,
    #[error("the code has expired")]
    Expired,
    #[error("too early for another try")]
    TooEarly { retry_after: Duration },
    #[error("all tries are used")]
    Exhausted,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl From<NoCheck> for CheckCodeError {
    fn from(no_check: NoCheck) -> Self {
        match no_check {
            NoCheck::NotSent => Self::NotSent,
            NoCheck::Expired => Self::Expired,
            NoCheck::TooEarly { retry_after } => Self::TooEarly { retry_after },
            NoCheck::Exhausted => Self::Exhausted,
        }
    }
}

impl ServiceError for CheckCodeError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::NotFound => error::no_session(),
            Self::NotSent => Refusal::new(Reason::CodeNotSent, "no code has been handed to the provider yet"),
            Self::Expired => Refusal::new(Reason::CodeExpired, "the code has expired; ask for another"),
            Self::TooEarly { retry_after } => error::too_early(*retry_after),
            Self::Exhausted => Refusal::new(Reason::ChecksExhausted, "start a new verification"),
            Self::Store(error) => error::store(error),
        }
    }
}

impl Role {
    /// Tries a code. A verified session answers that it is, whatever the code, and counts nothing.
    pub(crate) async fn check_code(&self, secret: &Secret, code: &str) -> Result<View, CheckCodeError> {
        let outcome = self.try_code(secret, code).await;
        self.metrics.check(match &outcome {
            Ok(session) if session.verified => CheckOutcome::Right,
            Ok(_) => CheckOutcome::Wrong,
            Err(_) => CheckOutcome::Refused,
        });
        Ok(self.view(&outcome?, secret))
    }

    async fn try_code(&self, secret: &Secret, code: &str) -> Result<Verification, CheckCodeError> {
        let id = self.secrets.verification_id(secret);
        let mut session = self.sessions.get(id).await?.ok_or(CheckCodeError::NotFound)?;
        let rules = self.rules();
        if !session.verified && !rules.has_live_code(&session, self.clock.now()) {
            session = self.recorded(session).await?;
        }
        let mac = self.secrets.code_mac(id, code);
        let changed = self
            .sessions
            .change_from(session, |session, now| {
                if session.verified {
                    return Ok::<_, CheckCodeError>(Step::Keep(false));
                }
                let matches = session.sent.as_ref().is_some_and(|sent| sent.mac == mac);
                rules.check(session, matches, now)?;
                Ok(Step::Write(matches))
            })
            .await?;
        let (session, is_newly_verified) = changed.ok_or(CheckCodeError::NotFound)?;
        if is_newly_verified {
            self.dispatch.proved(id);
            let by_voice = session.voice_requested > 0;
            let transport = if by_voice { Transport::Voice } else { Transport::Sms };
            self.metrics.verification(VerificationEvent::Verified, transport);
        }
        Ok(session)
    }

    /// The session after a hand-over that is under way: the code may be on the phone before its hand-over is on disk.
    async fn recorded(&self, mut session: Verification) -> Result<Verification, CheckCodeError> {
        self.dispatch.settled(session.id).await;
        let mut pause = RECORD_POLL_MIN;
        loop {
            session = self.sessions.get(session.id).await?.ok_or(CheckCodeError::NotFound)?;
            let now = self.clock.now();
            let is_held = session.queued.is_some_and(|queued| queued.held_until > now);
            if !is_held || pause > RECORD_POLL_MAX || self.rules().has_live_code(&session, now) {
                return Ok(session);
            }
            // A worker in another process has it.
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons() {
        error::assert_reasons(vec![
            (CheckCodeError::NotFound, Reason::VerificationNotFound),
            (CheckCodeError::NotSent, Reason::CodeNotSent),
            (CheckCodeError::Expired, Reason::CodeExpired),
            (CheckCodeError::TooEarly { retry_after: Duration::from_secs(3) }, Reason::Quota),
            (CheckCodeError::Exhausted, Reason::ChecksExhausted),
            (CheckCodeError::Store(StoreError::DiskFull), Reason::Unavailable),
        ]);
    }
}
