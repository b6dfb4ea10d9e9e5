//! The devices of accounts that were sent to lately.
//!
//! An account that many send to at once is looked up once. A list is dropped when registration says that the account
//! changed, and after a minute in any case, because that word is a hint and may be lost; a sender that holds an old
//! list meanwhile writes to a mailbox that nobody reads, or is told STALE_DEVICES once too often. That an account does
//! not exist is not remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;
use spillway_api::internal::v1::registration_client::RegistrationClient;
use spillway_api::internal::v1::{DeviceMailbox, GetDevicesRequest};
use spillway_api::{FieldError, device_id, mailbox_id};
use spillway_rpc::Channel;
use spillway_types::{AccountId, DeviceId, MailboxId};
use tokio::time::Instant;
use tonic::Request;

use crate::config::DeviceCacheConfig;
use crate::inner::InnerError;
use crate::metrics::{Lookup, Metrics};

/// A device that a send must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) registration_id: u32,
    pub(crate) mailbox: MailboxId,
}

#[derive(Clone, Debug)]
struct Entry {
    devices: Arc<[Device]>,
    loaded_at: Instant,
}

#[derive(Debug)]
pub(crate) struct DeviceCache {
    config: DeviceCacheConfig,
    registration: RegistrationClient<Channel>,
    entries: Cache<AccountId, Entry>,
    /// Grows with every change that is heard of, so that a load notices one that happened under it.
    changes: AtomicU64,
    metrics: Arc<Metrics>,
}

impl DeviceCache {
    pub(crate) fn new(
        config: &DeviceCacheConfig,
        registration: RegistrationClient<Channel>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let entries = Cache::new(config.accounts_max);
        Self { config: config.clone(), registration, entries, changes: AtomicU64::new(0), metrics }
    }

    pub(crate) async fn of(&self, account: AccountId) -> Result<Arc<[Device]>, InnerError> {
        match self.entries.get(&account) {
            Some(entry) if entry.loaded_at.elapsed() < self.config.ttl => {
                self.metrics.device_lookups.count(Lookup::Hit);
                return Ok(entry.devices);
            }
            Some(old) => {
                self.entries.remove_if(&account, |entry| entry.loaded_at == old.loaded_at);
            }
            None => {}
        }
        self.metrics.device_lookups.count(Lookup::Miss);
        let changes = self.changes.load(Ordering::SeqCst);
        let entry = Box::pin(self.entries.get_or_insert_async(&account, self.load(account))).await?;
        if self.changes.load(Ordering::SeqCst) != changes {
            // The list may be from before the change, and the change may have come before the list was here.
            self.entries.remove(&account);
        }
        Ok(entry.devices)
    }

    pub(crate) fn forget(&self, account: AccountId) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.entries.remove(&account);
    }

    pub(crate) fn forget_all(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.entries.clear();
    }

    async fn load(&self, account: AccountId) -> Result<Entry, InnerError> {
        let loaded_at = Instant::now();
        let mut request = Request::new(GetDevicesRequest { account_id: account.as_bytes().to_vec().into() });
        request.set_timeout(self.config.load_timeout);
        let answer =
            self.registration.clone().get_devices(request).await.map_err(InnerError::registration)?;
        let devices =
            answer.into_inner().devices.iter().map(device).collect::<Result<_, _>>().map_err(|error| {
                let text = format!("the list of devices cannot be read: {error}");
                InnerError::registration(tonic::Status::internal(text))
            })?;
        Ok(Entry { devices, loaded_at })
    }
}

fn device(wire: &DeviceMailbox) -> Result<Device, FieldError> {
    Ok(Device {
        id: device_id("devices.device_id", wire.device_id)?,
        registration_id: wire.registration_id,
        mailbox: mailbox_id("devices.mailbox_id", &wire.mailbox_id)?,
    })
}
