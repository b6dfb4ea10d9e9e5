//! `Messages.Send`.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;
use prost::Message as _;
use spillway_admission::{Key, Limit, Tier};
use spillway_api::internal::v1::WhisperRequest;
use spillway_api::{FieldError, Reason, Refusal, account_id, device_id, guid, v1};
use spillway_rpc::{Class, Deadline, ServiceError};
use spillway_types::{AccountId, DeviceId, Guid, Timestamp};
use tonic::Request;

use crate::Parts;
use crate::append_all::{Appended, DeviceCopy};
use crate::auth::Caller;
use crate::config::SendConfig;
use crate::device_cache::Device;
use crate::inner::InnerError;
use crate::metrics::SendOutcome;
use crate::quota::QuotaError;
use crate::wire::wire_timestamp;

/// From this rung of the brownout ladder on, presence and typing go nowhere.
const BACKGROUND_OFF: u8 = 1;

/// A well-formed request to send.
#[derive(Debug)]
pub(crate) struct NewMessage {
    to: AccountId,
    guid: Guid,
    /// What the sender believes about each device, and what is for it.
    envelopes: BTreeMap<DeviceId, Addressed>,
    ephemeral: bool,
    urgent: bool,
}

#[derive(Debug)]
struct Addressed {
    registration_id: u32,
    content: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the sender may not send more now")]
    Quota(#[source] QuotaError),
    #[error("the sender's list of devices is out of date")]
    StaleDevices(v1::StaleDevices),
    #[error("every mailbox is full")]
    MailboxFull,
    #[error("the receiver's devices could not be looked up")]
    Devices(#[source] InnerError),
    #[error("the message could not be stored")]
    Append(#[source] InnerError),
}

impl ServiceError for SendError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Quota(error) => error.refusal(),
            Self::StaleDevices(stale) => {
                Refusal::new(Reason::StaleDevices, self.to_string()).with_detail(stale)
            }
            Self::MailboxFull => Refusal::new(Reason::MailboxFull, self.to_string()),
            Self::Devices(error) | Self::Append(error) => error.refusal(),
        }
    }
}

impl NewMessage {
    pub(crate) fn decode(request: v1::SendRequest, config: &SendConfig) -> Result<Self, FieldError> {
        let count = request.envelopes.len();
        if !(1..=config.envelopes_max).contains(&count) {
            let problem = format!("must have 1 to {} entries, got {count}", config.envelopes_max);
            return Err(FieldError::new("envelopes", problem));
        }
        let mut envelopes = BTreeMap::new();
        for envelope in request.envelopes {
            let device = device_id("envelopes.device_id", envelope.device_id)?;
            let bytes = envelope.content.len();
            if !(1..=config.content_bytes_max).contains(&bytes) {
                let problem = format!("must be 1 to {} bytes, got {bytes}", config.content_bytes_max);
                return Err(FieldError::new("envelopes.content", problem));
            }
            let addressed =
                Addressed { registration_id: envelope.registration_id, content: envelope.content };
            if envelopes.insert(device, addressed).is_some() {
                return Err(FieldError::new("envelopes", format!("device {device} occurs twice")));
            }
        }
        Ok(Self {
            to: account_id("account_id", &request.account_id)?,
            guid: guid("guid", &request.guid)?,
            envelopes,
            ephemeral: request.ephemeral,
            urgent: request.urgent,
        })
    }
}

impl Parts {
    pub(crate) async fn send(
        &self,
        caller: &Caller,
        send: NewMessage,
        deadline: Option<Deadline>,
    ) -> Result<v1::SendResponse, SendError> {
        let outcome = self.try_send(caller, send, deadline).await;
        self.metrics.sends.count(match &outcome {
            Ok((SendOutcome::Stored, answer)) if !answer.full_devices.is_empty() => SendOutcome::PartlyFull,
            Ok((outcome, _)) => *outcome,
            Err(SendError::Quota(_)) => SendOutcome::Quota,
            Err(SendError::StaleDevices(_)) => SendOutcome::StaleDevices,
            Err(SendError::MailboxFull) => SendOutcome::Full,
            Err(SendError::Devices(error)) if error.reason() == Some(Reason::AccountNotFound) => {
                SendOutcome::NotFound
            }
            Err(SendError::Devices(_) | SendError::Append(_)) => SendOutcome::Failed,
        });
        outcome.map(|(_, answer)| answer)
    }

    async fn try_send(
        &self,
        caller: &Caller,
        send: NewMessage,
        deadline: Option<Deadline>,
    ) -> Result<(SendOutcome, v1::SendResponse), SendError> {
        self.charge(caller, &send)?;
        let devices = self.devices.of(send.to).await.map_err(SendError::Devices)?;
        let accepted_at = self.clock.now();
        let copies = address(caller, &send, &devices, accepted_at)?;
        let mut answer =
            v1::SendResponse { accepted_at: Some(wire_timestamp(accepted_at)), ..Default::default() };
        if send.ephemeral {
            // Nobody was promised one.
            if self.hop.admission().rung() < BACKGROUND_OFF {
                self.whisper(send.guid, copies).await;
            }
            return Ok((SendOutcome::Whispered, answer));
        }
        let reached: Vec<DeviceId> = copies.iter().map(|copy| copy.device).collect();
        let appended =
            self.appender.append_all(send.guid, copies, deadline).await.map_err(SendError::Append)?;
        for (device, appended) in reached.iter().zip(appended) {
            match appended {
                Appended::Stored { near_full: false } => {}
                Appended::Stored { near_full: true } => answer.near_full_devices.push((*device).into()),
                Appended::Full => answer.full_devices.push((*device).into()),
            }
        }
        if answer.full_devices.len() == reached.len() {
            return Err(SendError::MailboxFull);
        }
        Ok((SendOutcome::Stored, answer))
    }

    fn charge(&self, caller: &Caller, send: &NewMessage) -> Result<(), SendError> {
        let key = Key::User(caller.address.account);
        let bytes: usize = send.envelopes.values().map(|envelope| envelope.content.len()).sum();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        for (limit, permits) in [(Limit::Messages, 1), (Limit::MessageBytes, bytes)] {
            QuotaError::check(limit, self.quotas.check(limit, &key, permits)).map_err(SendError::Quota)?;
        }
        Ok(())
    }

    /// Tells those who listen. Whoever does not hear it was not promised to.
    async fn whisper(&self, guid: Guid, copies: Vec<DeviceCopy>) {
        match Class::current() {
            Some(class) => class.with_tier(Tier::Background).scope(self.whisper_all(guid, copies)).await,
            None => self.whisper_all(guid, copies).await,
        }
    }

    async fn whisper_all(&self, guid: Guid, copies: Vec<DeviceCopy>) {
        let whispers = copies.into_iter().map(|copy| async move {
            let mut request = Request::new(WhisperRequest {
                mailbox_id: Bytes::copy_from_slice(copy.mailbox.as_bytes()),
                guid: Bytes::copy_from_slice(guid.as_bytes()),
                envelope: copy.envelope,
            });
            request.set_timeout(self.config.send.try_timeout);
            if let Err(status) = self.mailbox.clone().whisper(request).await {
                tracing::debug!(code = ?status.code(), "an ephemeral message was dropped");
            }
        });
        join_all(whispers).await;
    }
}

/// One copy for each device, if the sender knows them all and no other.
fn address(
    caller: &Caller,
    send: &NewMessage,
    devices: &[Device],
    accepted_at: Timestamp,
) -> Result<Vec<DeviceCopy>, SendError> {
    // A device that sends to its own account has the message already.
    let own = (send.to == caller.address.account).then_some(caller.address.device);
    let mut stale = v1::StaleDevices::default();
    let mut copies = Vec::with_capacity(send.envelopes.len());
    for device in devices.iter().filter(|device| Some(device.id) != own) {
        match send.envelopes.get(&device.id) {
            None => stale.missing.push(device.id.into()),
            Some(addressed) if addressed.registration_id != device.registration_id => {
                stale.stale.push(device.id.into());
            }
            Some(addressed) => copies.push(DeviceCopy {
                device: device.id,
                mailbox: device.mailbox,
                envelope: envelope(caller, send, addressed, accepted_at),
            }),
        }
    }
    let reachable = |id: DeviceId| Some(id) != own && devices.iter().any(|device| device.id == id);
    stale.extra = send.envelopes.keys().filter(|id| !reachable(**id)).map(|id| (*id).into()).collect();
    if stale == v1::StaleDevices::default() { Ok(copies) } else { Err(SendError::StaleDevices(stale)) }
}

fn envelope(caller: &Caller, send: &NewMessage, addressed: &Addressed, accepted_at: Timestamp) -> Bytes {
    let envelope = v1::Envelope {
        source: Some(caller.address.into()),
        content: addressed.content.clone(),
        accepted_at: Some(wire_timestamp(accepted_at)),
        urgent: send.urgent,
    };
    envelope.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use spillway_types::{DeviceAddress, MailboxId};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_610_722_800_000);

    fn request(devices: &[(u32, u32)]) -> v1::SendRequest {
        let envelopes = devices.iter().map(|(device_id, registration_id)| v1::DeviceEnvelope {
            device_id: *device_id,
            registration_id: *registration_id,
            content: Bytes::from_static(b"x"),
        });
        v1::SendRequest {
            account_id: vec![7; 16].into(),
            guid: vec![8; 16].into(),
            envelopes: envelopes.collect(),
            ..Default::default()
        }
    }

    fn decode(request: v1::SendRequest) -> Result<NewMessage, String> {
        NewMessage::decode(request, &SendConfig::default()).map_err(|error| error.field.to_owned())
    }

    fn caller(account: [u8; 16]) -> Caller {
        let address = DeviceAddress { account: AccountId::from_bytes(account), device: DeviceId::PRIMARY };
        Caller { address, mailbox: MailboxId::random() }
    }

    fn devices(devices: &[(u32, u32)]) -> Vec<Device> {
        let device = |(id, registration_id): &(u32, u32)| Device {
            id: DeviceId::try_from(*id).unwrap(),
            registration_id: *registration_id,
            mailbox: MailboxId::random(),
        };
        devices.iter().map(device).collect()
    }

    #[test]
    fn a_bad_field_is_named() {
        let with = |change: fn(&mut v1::SendRequest)| {
            let mut request = request(&[(1, 0)]);
            change(&mut request);
            decode(request).unwrap_err()
        };
        assert_eq!(with(|r| r.guid = Bytes::new()), "guid");
        assert_eq!(with(|r| r.account_id = Bytes::from_static(b"short")), "account_id");
        assert_eq!(with(|r| r.envelopes.clear()), "envelopes");
        assert_eq!(with(|r| r.envelopes.push(r.envelopes[0].clone())), "envelopes");
        assert_eq!(with(|r| r.envelopes[0].device_id = 128), "envelopes.device_id");
        assert_eq!(with(|r| r.envelopes[0].content = Bytes::new()), "envelopes.content");
        assert_eq!(with(|r| r.envelopes[0].content = vec![0; (256 << 10) + 1].into()), "envelopes.content");
    }

    #[test]
    fn the_difference_to_the_real_devices_is_told() {
        let send = decode(request(&[(1, 10), (3, 30), (4, 40)])).unwrap();
        let real = devices(&[(1, 10), (2, 20), (4, 41)]);
        let Err(SendError::StaleDevices(stale)) = address(&caller([1; 16]), &send, &real, NOW) else {
            panic!("not stale")
        };
        assert_eq!(stale, v1::StaleDevices { missing: vec![2], extra: vec![3], stale: vec![4] });
    }

    #[test]
    fn a_device_that_sends_to_its_own_account_leaves_itself_out() {
        let real = devices(&[(1, 10), (2, 20)]);
        let own = caller([7; 16]);
        let copies = address(&own, &decode(request(&[(2, 20)])).unwrap(), &real, NOW).unwrap();
        assert_eq!(copies.iter().map(|copy| copy.device.get()).collect::<Vec<_>>(), [2]);
        let with_itself = decode(request(&[(1, 10), (2, 20)])).unwrap();
        let Err(SendError::StaleDevices(stale)) = address(&own, &with_itself, &real, NOW) else {
            panic!("not stale")
        };
        assert_eq!(stale.extra, [1]);
    }
}
