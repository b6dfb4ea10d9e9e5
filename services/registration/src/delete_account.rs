use spillway_api::Refusal;
use spillway_rpc::ServiceError;
use spillway_store::accounts::NumberClaim;
use spillway_store::{Cas, StoreError};
use spillway_types::DeviceAddress;

use crate::Role;
use crate::accounts::{CAS_ATTEMPTS, has_device, mailboxes};
use crate::error;
use crate::metrics::AccountEvent;
use crate::sessions::Contended;

#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteAccountError {
    #[error("not the primary device")]
    NotPrimary,
    #[error("the calling device has been removed")]
    CallerGone,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for DeleteAccountError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::NotPrimary => error::not_primary(),
            Self::CallerGone => error::gone(),
            Self::Store(error) => error::store(error),
        }
    }
}

impl Role {
    /// Deletes an account; one that is gone already is deleted.
    ///
    /// Order: out of the directory, then the account itself, then its claim of the number, then keys and mail. A stop
    /// after the first leaves an account that nobody finds, and repeating deletes it. A stop after the second leaves
    /// a claim without an account, which the number's next sign-up takes over, and mail that expires.
    pub(crate) async fn delete_account(&self, caller: DeviceAddress) -> Result<(), DeleteAccountError> {
        if !caller.device.is_primary() {
            return Err(DeleteAccountError::NotPrimary);
        }
        for _ in 0..CAS_ATTEMPTS {
            let Some(account) = self.accounts.get(caller.account).await? else { return Ok(()) };
            if !has_device(&account, caller) {
                return Err(DeleteAccountError::CallerGone);
            }
            let _turn = self.turns.take(account.number).await;
            self.directory.remove(account.number, account.id).await?;
            if self.accounts.delete(account.id, account.version).await? == Cas::Conflict {
                continue;
            }
            let claim = NumberClaim { number: account.number, account: account.id };
            self.accounts.release(claim).await?;
            if self.accounts.get(account.id).await?.is_some() {
                // A sign-up for the number saw the claim before it was released, and made the account anew.
                self.accounts.claim(claim).await?;
            }
            self.announce(account.id).await;
            self.retire(mailboxes(&account.devices));
            self.metrics.account(AccountEvent::Deleted);
            return Ok(());
        }
        Err(StoreError::from(Contended).into())
    }
}
