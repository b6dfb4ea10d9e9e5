use spillway_api::{Reason, Refusal};
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_types::{DeviceAddress, DeviceId};

use crate::Role;
use crate::accounts::has_device;
use crate::error;
use crate::sessions::Step;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoveDeviceError {
    #[error("only the primary device may remove another device")]
    NotPrimary,
    #[error("the primary device goes only with its account")]
    Primary,
    #[error("the calling device has been removed")]
    CallerGone,
    #[error("no such device")]
    NotFound,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for RemoveDeviceError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::NotPrimary => error::not_primary(),
            Self::Primary => Refusal::new(
                Reason::InvalidArgument,
                "device_id: the primary device goes only with its account",
            ),
            Self::CallerGone => error::gone(),
            Self::NotFound => Refusal::new(Reason::DeviceNotFound, "no such device"),
            Self::Store(error) => error::store(error),
        }
    }
}

impl Role {
    pub(crate) async fn remove_device(
        &self,
        caller: DeviceAddress,
        device: DeviceId,
    ) -> Result<(), RemoveDeviceError> {
        if !caller.device.is_primary() && caller.device != device {
            return Err(RemoveDeviceError::NotPrimary);
        }
        if device.is_primary() {
            return Err(RemoveDeviceError::Primary);
        }
        let _turn = self.turns.take(caller.account).await;
        let removed = self
            .change_account(caller.account, |account| {
                if !has_device(account, caller) {
                    return Err(RemoveDeviceError::CallerGone);
                }
                let position = account.devices.iter().position(|found| found.id == device);
                let removed = account.devices.remove(position.ok_or(RemoveDeviceError::NotFound)?);
                Ok(Step::Write(removed.mailbox))
            })
            .await?;
        let (account, mailbox) = removed.ok_or(RemoveDeviceError::CallerGone)?;
        self.announce(account.id).await;
        self.retire(vec![mailbox]);
        Ok(())
    }
}
