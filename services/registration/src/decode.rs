//! Requests to domain types, and answers back. A field that fails is named.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use spillway_api::internal::v1 as internal;
use spillway_api::{FieldError, account_id, device_id, v1, verification_secret};
use spillway_store::accounts::Device;
use spillway_store::keys::{KeyUpload, OneTimePreKey, SignedPreKey};
use spillway_store::verifications::Transport;
use spillway_types::{AccountId, DeviceId, PhoneNumber};

use crate::create_account::{Enrolled, NewAccount, NewDevice};
use crate::fetch_keys::AccountKeys;
use crate::secrets::NetworkTag;
use crate::verification::View;

const IDENTITY_KEY_BYTES: RangeInclusive<usize> = 32..=2_048;
const KEY_BYTES: RangeInclusive<usize> = 1..=2_048;
const NAME_BYTES: RangeInclusive<usize> = 0..=256;
const ONE_TIME_KEYS_PER_CALL: usize = 100;

pub(crate) fn number(text: &str) -> Result<PhoneNumber, FieldError> {
    PhoneNumber::parse(text).map_err(|error| FieldError::new("number", error))
}

pub(crate) fn network(bytes: &[u8]) -> Result<Option<NetworkTag>, FieldError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    bytes.try_into().map(Some).map_err(|_| FieldError::new("network", "must have 8 bytes or none"))
}

pub(crate) fn transport(transport: i32) -> Result<Transport, FieldError> {
    match v1::Transport::try_from(transport) {
        Ok(v1::Transport::Unspecified | v1::Transport::Sms) => Ok(Transport::Sms),
        Ok(v1::Transport::Voice) => Ok(Transport::Voice),
        Err(_) => Err(FieldError::new("transport", "is not a known transport")),
    }
}

pub(crate) fn new_account(request: v1::CreateAccountRequest) -> Result<NewAccount, FieldError> {
    Ok(NewAccount {
        session: verification_secret("session_id", &request.session_id)?,
        identity_key: sized("identity_key", request.identity_key, IDENTITY_KEY_BYTES)?,
        device: new_device(request.registration_id, request.device_name, request.prekeys)?,
        discoverable: request.discoverable,
    })
}

pub(crate) fn new_device(
    registration_id: u32,
    name: Bytes,
    prekeys: Option<v1::PreKeys>,
) -> Result<NewDevice, FieldError> {
    let keys = key_upload(prekeys.ok_or_else(|| FieldError::missing("prekeys"))?)?;
    if keys.signed.is_none() {
        return Err(FieldError::missing("prekeys.signed"));
    }
    Ok(NewDevice { registration_id, name: sized("device_name", name, NAME_BYTES)?, keys })
}

pub(crate) fn key_upload(keys: v1::PreKeys) -> Result<KeyUpload, FieldError> {
    if keys.one_time.len() > ONE_TIME_KEYS_PER_CALL {
        let problem = format!("at most {ONE_TIME_KEYS_PER_CALL} in one call, got {}", keys.one_time.len());
        return Err(FieldError::new("prekeys.one_time", problem));
    }
    let one_time = keys.one_time.into_iter().map(|key| {
        let public_key = sized("prekeys.one_time.public_key", key.public_key, KEY_BYTES)?;
        Ok(OneTimePreKey { key_id: key.key_id, public_key })
    });
    Ok(KeyUpload {
        signed: keys.signed.map(|key| signed_key("prekeys.signed", key)).transpose()?,
        last_resort: keys.last_resort.map(|key| signed_key("prekeys.last_resort", key)).transpose()?,
        one_time: one_time.collect::<Result<_, _>>()?,
    })
}

fn signed_key(field: &'static str, key: v1::SignedPreKey) -> Result<SignedPreKey, FieldError> {
    Ok(SignedPreKey {
        key_id: key.key_id,
        public_key: sized(field, key.public_key, KEY_BYTES)?,
        signature: sized(field, key.signature, KEY_BYTES)?,
    })
}

/// The bytes in a buffer of their own: a slice would keep the whole request in memory.
fn sized(field: &'static str, bytes: Bytes, range: RangeInclusive<usize>) -> Result<Bytes, FieldError> {
    if range.contains(&bytes.len()) {
        return Ok(Bytes::copy_from_slice(&bytes));
    }
    let problem = format!("must have {} to {} bytes, has {}", range.start(), range.end(), bytes.len());
    Err(FieldError::new(field, problem))
}

pub(crate) fn keys_wanted(
    request: &internal::FetchKeysRequest,
) -> Result<(AccountId, Option<DeviceId>), FieldError> {
    let only = match request.device_id {
        0 => None,
        id => Some(device_id("device_id", id)?),
    };
    Ok((account_id("account_id", &request.account_id)?, only))
}

impl From<View> for v1::VerificationSession {
    fn from(view: View) -> Self {
        Self {
            session_id: Bytes::copy_from_slice(view.session.expose()),
            verified: view.verified,
            next_sms: view.next_sms.map(duration),
            next_voice: view.next_voice.map(duration),
            next_check: view.next_check.map(duration),
            checks_left: view.checks_left,
            expires_in: Some(duration(view.expires_in)),
            code_expires_in: view.code_expires_in.map(duration),
            delivery_estimate: view.delivery_estimate.map(duration),
        }
    }
}

/// Saturates at what the wire can say, 10,000 years.
pub(crate) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration)
        .unwrap_or(prost_types::Duration { seconds: 315_576_000_000, nanos: 0 })
}

impl From<Enrolled> for internal::Enrolled {
    fn from(enrolled: Enrolled) -> Self {
        Self {
            device: Some(enrolled.credential.device.into()),
            mailbox_id: Bytes::copy_from_slice(enrolled.mailbox.as_bytes()),
            credential: enrolled.credential.expose(),
            reregistered: enrolled.reregistered,
        }
    }
}

pub(crate) fn device_mailbox(device: Device) -> internal::DeviceMailbox {
    internal::DeviceMailbox {
        device_id: device.id.into(),
        registration_id: device.registration_id,
        mailbox_id: Bytes::copy_from_slice(device.mailbox.as_bytes()),
    }
}

pub(crate) fn listed_device(device: Device) -> v1::Device {
    let micros = device.linked_at.as_micros();
    v1::Device {
        device_id: device.id.into(),
        name: device.name,
        linked_at: Some(prost_types::Timestamp {
            seconds: (micros / 1_000_000) as i64,
            nanos: (micros % 1_000_000 * 1_000) as i32,
        }),
        registration_id: device.registration_id,
    }
}

impl From<AccountKeys> for v1::FetchKeysResponse {
    fn from(keys: AccountKeys) -> Self {
        let devices = keys.devices.into_iter().map(|(device, bundle)| v1::DeviceKeys {
            device_id: device.id.into(),
            registration_id: device.registration_id,
            signed: Some(wire_key(bundle.signed)),
            one_time: bundle
                .one_time
                .map(|key| v1::OneTimePreKey { key_id: key.key_id, public_key: key.public_key }),
            last_resort: bundle.last_resort.map(wire_key),
        });
        Self { identity_key: keys.identity_key, devices: devices.collect() }
    }
}

fn wire_key(key: SignedPreKey) -> v1::SignedPreKey {
    v1::SignedPreKey { key_id: key.key_id, public_key: key.public_key, signature: key.signature }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> v1::CreateAccountRequest {
        let key =
            v1::SignedPreKey { key_id: 1, public_key: vec![1; 32].into(), signature: vec![2; 64].into() };
        v1::CreateAccountRequest {
            session_id: vec![7; 32].into(),
            identity_key: vec![5; 32].into(),
            prekeys: Some(v1::PreKeys { signed: Some(key), ..v1::PreKeys::default() }),
            ..v1::CreateAccountRequest::default()
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        new_account(request()).unwrap();
        let wrong = |change: fn(&mut v1::CreateAccountRequest)| {
            let mut request = request();
            change(&mut request);
            new_account(request).unwrap_err().field
        };
        assert_eq!(wrong(|r| r.session_id = Bytes::from_static(b"short")), "session_id");
        assert_eq!(wrong(|r| r.identity_key = vec![0; 31].into()), "identity_key");
        assert_eq!(wrong(|r| r.identity_key = vec![0; 2_049].into()), "identity_key");
        assert_eq!(wrong(|r| r.device_name = vec![0; 257].into()), "device_name");
        assert_eq!(wrong(|r| r.prekeys = None), "prekeys");
        assert_eq!(wrong(|r| r.prekeys.as_mut().unwrap().signed = None), "prekeys.signed");
        assert_eq!(
            wrong(|r| r.prekeys.as_mut().unwrap().one_time = vec![v1::OneTimePreKey::default()]),
            "prekeys.one_time.public_key"
        );
        assert_eq!(
            wrong(|r| r.prekeys.as_mut().unwrap().one_time = vec![v1::OneTimePreKey::default(); 101]),
            "prekeys.one_time"
        );
    }
}
