use spillway_api::{Reason, Refusal};
use spillway_rpc::ServiceError;
use spillway_store::accounts::{Account, Device};
use spillway_store::{Cas, StoreError};
use spillway_types::{DeviceAddress, DeviceId, MailboxId, Secret, random_bytes};

use crate::Role;
use crate::create_account::{Enrolled, NewDevice};
use crate::credential::Credential;
use crate::error;
use crate::link_token::LinkToken;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// Not ours, expired, or used: the same to the caller, who gets a new one in any case.
    #[error("the link token is not good")]
    Token,
    #[error("the account has as many devices as it may")]
    TooManyDevices,
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ServiceError for LinkError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Token => {
                Refusal::new(Reason::LinkTokenInvalid, "get a new link token from the primary device")
            }
            Self::TooManyDevices => Refusal::new(Reason::TooManyDevices, "remove a device first"),
            Self::Store(error) => error::store(error),
        }
    }
}

impl Role {
    /// Adds a device. Its keys are stored before it is, so no sender ever finds it without.
    pub(crate) async fn link(&self, token: &str, new: NewDevice) -> Result<Enrolled, LinkError> {
        let token = LinkToken::open(token, &self.secrets).ok_or(LinkError::Token)?;
        if token.expires_at <= self.clock.now() {
            return Err(LinkError::Token);
        }
        let _turn = self.turns.take(token.account).await;
        let account = self.accounts.get(token.account).await?;
        let mut account =
            account.filter(|account| account.version == token.version).ok_or(LinkError::Token)?;
        let id = self.free_device(&account).ok_or(LinkError::TooManyDevices)?;

        let mailbox = MailboxId::minted(self.clock.now(), random_bytes());
        self.keys.upload(mailbox, &new.keys, self.config.keys.one_time_max).await?;
        let credential = Credential {
            device: DeviceAddress { account: account.id, device: id },
            secret: Secret::random(),
        };
        account.devices.push(Device {
            id,
            mailbox,
            credential: self.secrets.credential_hash(credential.device, &credential.secret),
            registration_id: new.registration_id,
            name: new.name,
            linked_at: self.clock.now(),
        });
        account.devices.sort_unstable_by_key(|device| device.id);
        account.version = token.version.next();
        if self.accounts.put(&account, Some(token.version)).await? == Cas::Conflict {
            self.keys.clear(mailbox).await?;
            return Err(LinkError::Token);
        }
        self.announce(account.id).await;
        Ok(Enrolled { credential, mailbox, reregistered: false })
    }

    /// The lowest id that no device of the account has.
    fn free_device(&self, account: &Account) -> Option<DeviceId> {
        if account.devices.len() >= usize::from(self.config.devices.devices_max.get()) {
            return None;
        }
        (1..=u32::from(DeviceId::MAX))
            .filter_map(|id| DeviceId::try_from(id).ok())
            .find(|id| account.devices.iter().all(|device| device.id != *id))
    }
}
