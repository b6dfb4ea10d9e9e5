//! From a phone number to an identity.

use std::time::Duration;

use bytes::Bytes;
use spillway_admission::Tier;
use spillway_api::{device_address, v1};
use spillway_types::PhoneNumber;
use tonic::Status;

use crate::call::CallError;
use crate::connect::Client;
use crate::door::Admission;
use crate::identity::Identity;

/// A verification session as the service last described it.
#[derive(Clone, Debug)]
pub struct Verification {
    session: v1::VerificationSession,
}

/// What a new device tells about itself.
#[derive(Clone, Debug, Default)]
pub struct NewDevice {
    pub identity_key: Bytes,
    pub registration_id: u32,
    pub name: Bytes,
    pub prekeys: v1::PreKeys,
    pub discoverable: bool,
}

/// A device that has just come to be.
#[derive(Debug)]
pub struct Enrolled {
    pub identity: Identity,
    pub reregistered: bool,
}

impl Verification {
    pub fn is_verified(&self) -> bool {
        self.session.verified
    }

    pub fn checks_left(&self) -> u32 {
        self.session.checks_left
    }

    pub fn next_sms(&self) -> Option<Duration> {
        duration(self.session.next_sms)
    }

    pub fn next_voice(&self) -> Option<Duration> {
        duration(self.session.next_voice)
    }

    pub fn next_check(&self) -> Option<Duration> {
        duration(self.session.next_check)
    }

    pub fn delivery_estimate(&self) -> Option<Duration> {
        duration(self.session.delivery_estimate)
    }

    pub fn session_id(&self) -> Bytes {
        self.session.session_id.clone()
    }
}

fn duration(wire: Option<prost_types::Duration>) -> Option<Duration> {
    wire.and_then(|wire| Duration::try_from(wire).ok())
}

impl Client {
    /// Without an admission, where the service requires none.
    pub async fn start_verification(
        &self,
        number: &PhoneNumber,
        transport: v1::Transport,
    ) -> Result<Verification, CallError> {
        self.start(number, transport, None).await
    }

    /// Repeating it with the same admission and number gives the same session.
    pub async fn start_admitted_verification(
        &self,
        number: &PhoneNumber,
        transport: v1::Transport,
        admission: &Admission,
    ) -> Result<Verification, CallError> {
        self.start(number, transport, Some(admission.of(number)?)).await
    }

    async fn start(
        &self,
        number: &PhoneNumber,
        transport: v1::Transport,
        admission: Option<v1::Admission>,
    ) -> Result<Verification, CallError> {
        let request = v1::StartVerificationRequest {
            number: number.as_e164().to_owned(),
            transport: transport.into(),
            admission,
        };
        let calls = self.sign_up();
        let session = self
            .call(Tier::StartSignUp, None, request, |request| {
                let mut calls = calls.clone();
                async move { calls.start_verification(request).await }
            })
            .await?;
        Ok(Verification { session })
    }

    pub async fn resend_code(
        &self,
        verification: &Verification,
        transport: v1::Transport,
    ) -> Result<Verification, CallError> {
        let request =
            v1::ResendCodeRequest { session_id: verification.session_id(), transport: transport.into() };
        let calls = self.sign_up();
        let session = self
            .call(Tier::FinishSignUp, None, request, |request| {
                let mut calls = calls.clone();
                async move { calls.resend_code(request).await }
            })
            .await?;
        Ok(Verification { session })
    }

    /// A wrong code is no error: see [`Verification::is_verified`].
    pub async fn check_code(
        &self,
        verification: &Verification,
        code: &str,
    ) -> Result<Verification, CallError> {
        let request = v1::CheckCodeRequest { session_id: verification.session_id(), code: code.to_owned() };
        let calls = self.sign_up();
        let session = self
            .call(Tier::FinishSignUp, None, request, |request| {
                let mut calls = calls.clone();
                async move { calls.check_code(request).await }
            })
            .await?;
        Ok(Verification { session })
    }

    pub async fn create_account(
        &self,
        verification: &Verification,
        device: NewDevice,
    ) -> Result<Enrolled, CallError> {
        let request = v1::CreateAccountRequest {
            session_id: verification.session_id(),
            identity_key: device.identity_key,
            registration_id: device.registration_id,
            device_name: device.name,
            prekeys: Some(device.prekeys),
            discoverable: device.discoverable,
        };
        let calls = self.sign_up();
        let created = self
            .call(Tier::FinishSignUp, None, request, |request| {
                let mut calls = calls.clone();
                async move { calls.create_account(request).await }
            })
            .await?;
        let reregistered = created.reregistered;
        let identity = identity(&created.account_id, created.device_id, created.credential, &created.token)?;
        Ok(Enrolled { identity, reregistered })
    }

    /// Links this device to the account whose primary device made the token.
    pub async fn link(&self, link_token: &str, device: NewDevice) -> Result<Identity, CallError> {
        let request = v1::LinkRequest {
            link_token: link_token.to_owned(),
            registration_id: device.registration_id,
            device_name: device.name,
            prekeys: Some(device.prekeys),
        };
        let calls = self.devices();
        let linked = self
            .call(Tier::Lookup, None, request, |request| {
                let mut calls = calls.clone();
                async move { calls.link(request).await }
            })
            .await?;
        identity(&linked.account_id, linked.device_id, linked.credential, &linked.token)
    }

    pub async fn start_link(&self, identity: &Identity) -> Result<String, CallError> {
        let calls = self.devices();
        let started = self
            .call(Tier::Lookup, Some(identity), v1::StartLinkRequest {}, |request| {
                let mut calls = calls.clone();
                async move { calls.start_link(request).await }
            })
            .await?;
        Ok(started.link_token)
    }
}

fn identity(account: &Bytes, device: u32, credential: String, token: &str) -> Result<Identity, CallError> {
    let wire = v1::DeviceAddress { account_id: account.clone(), device_id: device };
    let address = device_address("device", Some(&wire))
        .map_err(|error| CallError::from(Status::internal(error.to_string())))?;
    Ok(Identity::new(address, credential).with_token(token))
}
