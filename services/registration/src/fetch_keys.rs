use bytes::Bytes;
use spillway_api::{Reason, Refusal};
use spillway_rpc::ServiceError;
use spillway_store::StoreError;
use spillway_store::accounts::Device;
use spillway_store::keys::KeyBundle;
use spillway_types::{AccountId, DeviceId, MailboxId};

use crate::Role;
use crate::error;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchKeysError {
    #[error("no such account")]
    AccountNotFound,
    #[error("no such device")]
    DeviceNotFound,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for FetchKeysError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::AccountNotFound => Refusal::new(Reason::AccountNotFound, "no such account"),
            Self::DeviceNotFound => Refusal::new(Reason::DeviceNotFound, "no such device"),
            Self::Store(error) => error::store(error),
        }
    }
}

#[derive(Debug)]
pub(crate) struct AccountKeys {
    pub(crate) identity_key: Bytes,
    pub(crate) devices: Vec<(Device, KeyBundle)>,
}

impl Role {
    /// Takes a bundle of each device, or of `only` one. A device without keys, which one that was removed just now can
    /// be, is left out.
    ///
    /// With `spare_one_time` a one-time key is taken only of a device that has no last-resort key: the store then writes
    /// nothing, and who sends first has a little less secrecy towards somebody who steals the receiver's keys later.
    pub(crate) async fn fetch_keys(
        &self,
        account: AccountId,
        only: Option<DeviceId>,
        spare_one_time: bool,
    ) -> Result<AccountKeys, FetchKeysError> {
        let account = self.accounts.get(account).await?.ok_or(FetchKeysError::AccountNotFound)?;
        let wanted = account.devices.into_iter().filter(|device| only.is_none_or(|id| id == device.id));
        let bundles = wanted.map(|device| async {
            let bundle = self.bundle(device.mailbox, spare_one_time).await?;
            Ok::<_, StoreError>(bundle.map(|bundle| (device, bundle)))
        });
        let bundles = futures::future::try_join_all(bundles).await?;
        let devices: Vec<_> = bundles.into_iter().flatten().collect();
        if only.is_some() && devices.is_empty() {
            return Err(FetchKeysError::DeviceNotFound);
        }
        Ok(AccountKeys { identity_key: account.identity_key, devices })
    }

    async fn bundle(&self, device: MailboxId, spare_one_time: bool) -> Result<Option<KeyBundle>, StoreError> {
        if spare_one_time {
            let signed = self.keys.signed(device).await?;
            if signed.as_ref().is_none_or(|bundle| bundle.last_resort.is_some()) {
                return Ok(signed);
            }
        }
        self.keys.take(device).await
    }
}
