use std::time::Duration;

use spillway_api::{Reason, Refusal};
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_types::DeviceAddress;

use crate::Role;
use crate::error;
use crate::link_token::LinkToken;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartLinkError {
    #[error("not the primary device")]
    NotPrimary,
    #[error("the calling device has been removed")]
    CallerGone,
    #[error("the account has as many devices as it may")]
    TooManyDevices,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for StartLinkError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::NotPrimary => error::not_primary(),
            Self::CallerGone => error::gone(),
            Self::TooManyDevices => Refusal::new(Reason::TooManyDevices, "remove a device first"),
            Self::Store(error) => error::store(error),
        }
    }
}

impl Role {
    pub(crate) async fn start_link(
        &self,
        caller: DeviceAddress,
    ) -> Result<(String, Duration), StartLinkError> {
        if !caller.device.is_primary() {
            return Err(StartLinkError::NotPrimary);
        }
        let account = self.callers_account(caller).await?.ok_or(StartLinkError::CallerGone)?;
        let config = &self.config.devices;
        if account.devices.len() >= usize::from(config.devices_max.get()) {
            return Err(StartLinkError::TooManyDevices);
        }
        let expires_at = self.clock.now().saturating_add(config.link_token_lifetime);
        let token = LinkToken { account: account.id, version: account.version, expires_at };
        Ok((token.seal(&self.secrets), config.link_token_lifetime))
    }
}
