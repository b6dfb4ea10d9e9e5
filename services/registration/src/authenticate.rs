use spillway_api::{Reason, Refusal};
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_types::{DeviceAddress, KeyedHash, MailboxId};

use crate::Role;
use crate::credential::Credential;
use crate::error;

#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthenticateError {
    /// One refusal for an unknown account, an unknown device and a wrong secret, so that nobody learns which.
    #[error("the credential is not good")]
    Refused,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for AuthenticateError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Refused => {
                Refusal::new(Reason::Unauthenticated, "the credential is not, or no longer, good")
            }
            Self::Store(error) => error::store(error),
        }
    }
}

/// Compared with when there is nothing to compare with, so that both ways do the same work. No credential has it.
const NOTHING: KeyedHash = KeyedHash::from_bytes([0; 32]);

impl Role {
    pub(crate) async fn authenticate(
        &self,
        credential: Option<Credential>,
    ) -> Result<(DeviceAddress, MailboxId), AuthenticateError> {
        let credential = credential.ok_or(AuthenticateError::Refused)?;
        let given = self.secrets.credential_hash(credential.device, &credential.secret);
        let account = self.accounts.get(credential.device.account).await?;
        let device = account
            .as_ref()
            .and_then(|account| account.devices.iter().find(|device| device.id == credential.device.device));
        let stored = device.map_or(NOTHING, |device| device.credential);
        match device {
            Some(device) if stored == given => Ok((credential.device, device.mailbox)),
            _ => Err(AuthenticateError::Refused),
        }
    }
}
