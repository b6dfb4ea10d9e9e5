use spillway_api::{Reason, Refusal};
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_store::accounts::Device;
use spillway_types::AccountId;

use crate::Role;
use crate::error;

#[derive(Debug, thiserror::Error)]
pub(crate) enum GetDevicesError {
    #[error("no such account")]
    NotFound,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for GetDevicesError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::NotFound => Refusal::new(Reason::AccountNotFound, "no such account"),
            Self::Store(error) => error::store(error),
        }
    }
}

impl Role {
    /// Whom a send to this account must reach.
    pub(crate) async fn get_devices(&self, account: AccountId) -> Result<Vec<Device>, GetDevicesError> {
        let account = self.accounts.get(account).await?.ok_or(GetDevicesError::NotFound)?;
        Ok(account.devices)
    }
}
