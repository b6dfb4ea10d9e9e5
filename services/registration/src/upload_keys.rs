use spillway_api::Refusal;
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_store::keys::KeyUpload;
use spillway_types::DeviceAddress;

use crate::Role;
use crate::error;

#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadKeysError {
    #[error("the calling device has been removed")]
    CallerGone,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for UploadKeysError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::CallerGone => error::gone(),
            Self::Store(error) => error::store(error),
        }
    }
}

impl Role {
    /// Answers with the number of one-time keys that are stored for the device now.
    pub(crate) async fn upload_keys(
        &self,
        caller: DeviceAddress,
        keys: &KeyUpload,
    ) -> Result<usize, UploadKeysError> {
        let account = self.callers_account(caller).await?.ok_or(UploadKeysError::CallerGone)?;
        let device = account.devices.iter().find(|device| device.id == caller.device);
        let device = device.ok_or(UploadKeysError::CallerGone)?;
        Ok(self.keys.upload(device.mailbox, keys, self.config.keys.one_time_max).await?)
    }
}
