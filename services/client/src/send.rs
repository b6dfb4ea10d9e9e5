//! Sending, with a guid so that repeating is safe.

use bytes::Bytes;
use spillway_admission::Tier;
use spillway_api::v1;
use spillway_types::{AccountId, Guid};
use tokio::time::Instant;

use crate::call::CallError;
use crate::connect::Client;
use crate::identity::Identity;

/// A message for every device of an account.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub to: AccountId,
    pub guid: Guid,
    pub envelopes: Vec<v1::DeviceEnvelope>,
    pub ephemeral: bool,
    pub urgent: bool,
}

/// The service has the message on disk.
#[derive(Clone, Debug)]
pub struct Sent {
    pub near_full_devices: Vec<u32>,
    pub full_devices: Vec<u32>,
}

impl Client {
    /// Sends, repeating under the same guid when no answer came.
    ///
    /// # Errors
    ///
    /// A refusal `STALE_DEVICES` carries a [`v1::StaleDevices`] detail: fetch keys, and send again.
    pub async fn send(&self, identity: &Identity, message: Outgoing) -> Result<Sent, CallError> {
        let request = v1::SendRequest {
            account_id: Bytes::copy_from_slice(message.to.as_bytes()),
            guid: Bytes::copy_from_slice(message.guid.as_bytes()),
            envelopes: message.envelopes,
            ephemeral: message.ephemeral,
            urgent: message.urgent,
        };
        let calls = self.messages();
        let sent = self
            .call(Tier::Send, Some(identity), request, |request| {
                let mut calls = calls.clone();
                async move { calls.send(request).await }
            })
            .await?;
        Ok(Sent { near_full_devices: sent.near_full_devices, full_devices: sent.full_devices })
    }

    /// Which of the numbers have an account that may be found, as far as the service knows now: under overload it leaves
    /// some for later, see [`discovery`](Self::discovery).
    pub async fn discover(
        &self,
        identity: &Identity,
        numbers: Vec<String>,
    ) -> Result<Vec<v1::Match>, CallError> {
        Ok(self.discovery(identity, numbers).await?.matches)
    }

    /// The same, with what is left of the quota, and with the numbers to ask about again later.
    pub async fn discovery(
        &self,
        identity: &Identity,
        numbers: Vec<String>,
    ) -> Result<v1::DiscoverResponse, CallError> {
        let calls = self.contacts();
        self.call(Tier::Lookup, Some(identity), v1::DiscoverRequest { numbers }, |request| {
            let mut calls = calls.clone();
            async move { calls.discover(request).await }
        })
        .await
    }

    /// Takes a key bundle for each device of an account. Never repeated by itself: each call uses up one-time keys.
    pub async fn fetch_keys(
        &self,
        identity: &Identity,
        account: AccountId,
    ) -> Result<v1::FetchKeysResponse, CallError> {
        let message =
            v1::FetchKeysRequest { account_id: Bytes::copy_from_slice(account.as_bytes()), device_id: 0 };
        let deadline = Instant::now() + self.config.call_timeout;
        self.cooperation.hold(Tier::Lookup, deadline).await?;
        let mut request = tonic::Request::new(message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        identity.authorize(request.metadata_mut());
        if let Some(meter) = &self.config.meter {
            meter.attempt(0);
        }
        let response = self.keys().fetch(request).await.map_err(|status| self.failed(status).0)?;
        self.cooperation.learn(response.metadata());
        identity.learn(response.metadata());
        Ok(response.into_inner())
    }
}
