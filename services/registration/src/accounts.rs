//! What operations on accounts share.

use std::time::Duration;

use prost::Message;
use spillway_api::internal::v1 as internal;
use spillway_bus::Subject;
use spillway_rpc::Chain;
use spillway_store::accounts::{Account, Device};
use spillway_store::{Cas, StoreError};
use spillway_types::{AccountId, DeviceAddress, MailboxId, NumberMac};
use tonic::Request;

use crate::Role;
use crate::sessions::{Contended, Step};

/// Changes of one account come from its few devices, and take turns within a process.
pub(crate) const CAS_ATTEMPTS: usize = 8;

const PURGE_ATTEMPTS: u32 = 4;
const PURGE_TIMEOUT: Duration = Duration::from_secs(10);
const PURGE_PAUSE: Duration = Duration::from_secs(1);

pub(crate) fn has_device(account: &Account, caller: DeviceAddress) -> bool {
    account.devices.iter().any(|device| device.id == caller.device)
}

pub(crate) fn mailboxes(devices: &[Device]) -> Vec<MailboxId> {
    devices.iter().map(|device| device.mailbox).collect()
}

impl Role {
    /// The account of a device, if it still is one of its devices.
    pub(crate) async fn callers_account(&self, caller: DeviceAddress) -> Result<Option<Account>, StoreError> {
        let account = self.accounts.get(caller.account).await?;
        Ok(account.filter(|account| has_device(account, caller)))
    }

    /// Changes an account by `decide`, which is called again on what it has become when another change came between.
    /// `None`: there is no such account. The version is counted here.
    pub(crate) async fn change_account<T, E>(
        &self,
        id: AccountId,
        mut decide: impl FnMut(&mut Account) -> Result<Step<T>, E> + Send,
    ) -> Result<Option<(Account, T)>, E>
    where
        T: Send,
        E: From<StoreError> + Send,
    {
        for _ in 0..CAS_ATTEMPTS {
            let Some(mut account) = self.accounts.get(id).await? else { return Ok(None) };
            let outcome = match decide(&mut account)? {
                Step::Keep(outcome) => return Ok(Some((account, outcome))),
                Step::Write(outcome) => outcome,
            };
            let expected = account.version;
            account.version = expected.next();
            if self.accounts.put(&account, Some(expected)).await? == Cas::Applied {
                return Ok(Some((account, outcome)));
            }
        }
        Err(StoreError::from(Contended).into())
    }

    /// Makes the directory say what the account says, and what whoever changes the account meanwhile makes of it.
    /// Where two accounts believe to have a number, the number's claim decides.
    pub(crate) async fn index(&self, account: &Account) -> Result<(), StoreError> {
        let mut account = account.clone();
        for _ in 0..CAS_ATTEMPTS {
            let claim = self.accounts.claimed(&account.number).await?;
            let is_claimed = claim.is_some_and(|claim| claim.account == account.id);
            if account.discoverable && is_claimed {
                // Before it is true: who believes it too early looks and finds nothing, who hears it too late denies.
                self.announce_listed(account.number).await;
                self.directory.put(account.number, account.id).await?;
            } else {
                self.directory.remove(account.number, account.id).await?;
            }
            match self.accounts.get(account.id).await? {
                Some(current) if current.version == account.version => return Ok(()),
                Some(current) => {
                    self.directory.remove(account.number, account.id).await?;
                    account = current;
                }
                None => return self.directory.remove(account.number, account.id).await,
            }
        }
        Err(Contended.into())
    }

    /// Tells whoever caches the account to forget it. A lost hint is healed by the cache's own lifetime.
    pub(crate) async fn announce(&self, account: AccountId) {
        let changed = internal::AccountChanged { account_id: account.as_bytes().to_vec().into() };
        if let Err(error) = self.bus.publish(Subject::AccountChanged, changed.encode_to_vec().into()).await {
            tracing::warn!(%account, error = %Chain(&error), "a change of an account was not announced");
        }
    }

    /// Tells whoever keeps in memory which numbers can be found. A lost hint is healed by the directory's log.
    async fn announce_listed(&self, number: NumberMac) {
        let listed = internal::NumberListed { number: number.as_bytes().to_vec().into() };
        if let Err(error) = self.bus.publish(Subject::NumberListed, listed.encode_to_vec().into()).await {
            tracing::debug!(error = %Chain(&error), "a new entry of the directory was not announced");
        }
    }

    /// Deletes the keys and mail of devices that are gone, in the background: nothing can reach them any more.
    pub(crate) fn retire(&self, mailboxes: Vec<MailboxId>) {
        if mailboxes.is_empty() {
            return;
        }
        let (keys, mailbox) = (std::sync::Arc::clone(&self.keys), self.mailbox.clone());
        self.tasks.spawn("retire devices", async move {
            for device in &mailboxes {
                if let Err(error) = keys.clear(*device).await {
                    tracing::warn!(error = %Chain(&error), "keys of a removed device were not deleted");
                }
            }
            purge(mailbox, mailboxes).await;
        });
    }
}

async fn purge(
    mut mailbox: internal::mailbox_client::MailboxClient<spillway_rpc::Channel>,
    ids: Vec<MailboxId>,
) {
    let mailbox_ids: Vec<_> = ids.iter().map(|id| id.as_bytes().to_vec().into()).collect();
    for attempt in 1..=PURGE_ATTEMPTS {
        let mut request = Request::new(internal::PurgeRequest { mailbox_ids: mailbox_ids.clone() });
        request.set_timeout(PURGE_TIMEOUT);
        match mailbox.purge(request).await {
            Ok(_) => return,
            Err(status) if attempt == PURGE_ATTEMPTS => {
                tracing::warn!(code = ?status.code(), "mail of removed devices stays until it expires");
            }
            Err(_) => tokio::time::sleep(PURGE_PAUSE * attempt).await,
        }
    }
}
