use spillway_api::{Reason, Refusal};
use spillway_rpc::ServiceError;
use spillway_store::verifications::Transport;
use spillway_store::{Cas, StoreError};
use spillway_types::PhoneNumber;

use crate::Role;
use crate::error;
use crate::metrics::VerificationEvent;
use crate::verification::View;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartVerificationError {
    /// Voice is for those whom an SMS did not reach.
    #[error("a session begins with an SMS")]
    Voice,
    #[error("the random number generator repeated itself")]
    Repeated,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for StartVerificationError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Voice => Refusal::new(Reason::InvalidArgument, "transport: a session begins with an SMS"),
            Self::Repeated => Refusal::new(Reason::Internal, "try again"),
            Self::Store(error) => error::store(error),
        }
    }
}

impl Role {
    /// Opens a session with one durable write, which also queues the first code.
    pub(crate) async fn start_verification(
        &self,
        number: PhoneNumber,
        transport: Transport,
    ) -> Result<View, StartVerificationError> {
        if transport == Transport::Voice {
            return Err(StartVerificationError::Voice);
        }
        let mac = self.secrets.number_mac(&number);
        let secret = self.secrets.number_tag(&mac).session_secret();
        let id = self.secrets.verification_id(&secret);
        let sealed = self.secrets.seal(id, &number);
        let session = self.rules().open(id, mac, sealed, self.clock.now());
        if self.sessions.create(&session).await? == Cas::Conflict {
            return Err(StartVerificationError::Repeated);
        }
        self.metrics.verification(VerificationEvent::Started, transport);
        self.dispatch.offer(id);
        Ok(self.view(&session, &secret))
    }
}
