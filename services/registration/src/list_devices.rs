use spillway_api::Refusal;
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_store::accounts::Device;
use spillway_types::DeviceAddress;

use crate::Role;
use crate::error;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ListDevicesError {
    #[error("the calling device has been removed")]
    CallerGone,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for ListDevicesError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::CallerGone => error::gone(),
            Self::Store(error) => error::store(error),
        }
    }
}

impl Role {
    pub(crate) async fn list_devices(&self, caller: DeviceAddress) -> Result<Vec<Device>, ListDevicesError> {
        let account = self.callers_account(caller).await?.ok_or(ListDevicesError::CallerGone)?;
        Ok(account.devices)
    }
}
