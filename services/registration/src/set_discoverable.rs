use spillway_api::Refusal;
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_types::DeviceAddress;

use crate::Role;
use crate::accounts::has_device;
use crate::error;
use crate::sessions::Step;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SetDiscoverableError {
    #[error("the calling device has been removed")]
    CallerGone,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for SetDiscoverableError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::CallerGone => error::gone(),
            Self::Store(error) => error::store(error),
        }
    }
}

impl Role {
    /// The directory is brought into line also when nothing changes, so that a repetition mends a half-done call.
    pub(crate) async fn set_discoverable(
        &self,
        caller: DeviceAddress,
        discoverable: bool,
    ) -> Result<(), SetDiscoverableError> {
        let _turn = self.turns.take(caller.account).await;
        let changed = self
            .change_account(caller.account, |account| {
                if !has_device(account, caller) {
                    return Err(SetDiscoverableError::CallerGone);
                }
                if account.discoverable == discoverable {
                    return Ok(Step::Keep(()));
                }
                account.discoverable = discoverable;
                Ok(Step::Write(()))
            })
            .await?;
        let (account, ()) = changed.ok_or(SetDiscoverableError::CallerGone)?;
        self.index(&account).await?;
        Ok(())
    }
}
