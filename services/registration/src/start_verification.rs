use spillway_api::{Reason, Refusal};
use spillway_rpc::ServiceError;
use spillway_store::verifications::Transport;
use spillway_store::{Cas, StoreError};
use spillway_types::Timestamp;

use crate::Role;
use crate::error;
use crate::metrics::VerificationEvent;
use crate::passes::Pass;
use crate::secrets::Recipient;
use crate::verification::View;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartVerificationError {
    /// Voice is for those whom an SMS did not reach.
    #[error("a session begins with an SMS")]
    Voice,
    #[error("the random number generator repeated itself")]
    Repeated,
    #[error("the place has opened a session of another number, or one that is over")]
    PassUsed,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for StartVerificationError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Voice => Refusal::new(Reason::InvalidArgument, "transport: a session begins with an SMS"),
            Self::Repeated => Refusal::new(Reason::Internal, "try again"),
            Self::PassUsed => Refusal::new(Reason::AdmissionUsed, "enter the waiting room again"),
            Self::Store(error) => error::store(error),
        }
    }
}

impl Role {
    /// Opens a session with one durable write, which also queues the first code. A place opens one session: its id is made of the pass, so
    /// the write decides who was first, and whoever repeats the call gets the session that is there. The store keeps it for as long as the
    /// place can be shown, so that one that is over still stands in the way of a second.
    pub(crate) async fn start_verification(
        &self,
        to: Recipient,
        transport: Transport,
        pass: Option<Pass>,
    ) -> Result<View, StartVerificationError> {
        if transport == Transport::Voice {
            return Err(StartVerificationError::Voice);
        }
        let mac = self.secrets.number_mac(&to.number);
        let tag = self.secrets.number_tag(&mac);
        let secret =
            pass.map_or_else(|| tag.session_secret(), |pass| self.secrets.session_of_pass(tag, pass));
        let id = self.secrets.verification_id(&secret);
        let sealed = self.secrets.seal(id, &to);
        let now = self.clock.now();
        let mut session = self.rules().open(id, mac, sealed, now);
        session.taken_until = pass.map_or(Timestamp::ZERO, |pass| now.saturating_add(pass.shown_for));
        if self.sessions.create(&session).await? == Cas::Conflict {
            if pass.is_none() {
                return Err(StartVerificationError::Repeated);
            }
            let before = self.sessions.get(id).await?.filter(|before| before.number == mac);
            let before = before.ok_or(StartVerificationError::PassUsed)?;
            // The call before may have ended between its write and this.
            self.dispatch.offer(id);
            return Ok(self.view(&before, &secret));
        }
        self.metrics.verification(VerificationEvent::Started, transport);
        self.dispatch.began(to.number.country_code());
        self.dispatch.offer(id);
        Ok(self.view(&session, &secret))
    }
}
