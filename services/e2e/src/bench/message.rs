//! One message to one device.

use anyhow::{Result, ensure};
use bytes::Bytes;
use spillway_api::v1;
use spillway_api::v1::messages_client::MessagesClient;
use spillway_client::Identity;
use spillway_types::Guid;
use tonic::Request;
use tonic::transport::Channel;

use super::ENVELOPE_BYTES;
use super::people::User;

pub(crate) const CONTENT: &[u8] = &[0x5A; ENVELOPE_BYTES];

pub(crate) fn to(receiver: &User) -> v1::SendRequest {
    let envelope = v1::DeviceEnvelope {
        device_id: 1,
        registration_id: surge::population::registration_id(receiver.index),
        content: Bytes::from_static(CONTENT),
    };
    v1::SendRequest {
        account_id: Bytes::copy_from_slice(receiver.identity.account().as_bytes()),
        guid: Bytes::copy_from_slice(Guid::random().as_bytes()),
        envelopes: vec![envelope],
        ephemeral: false,
        urgent: false,
    }
}

/// With the generated client, as floors are asked: what the reference client adds is not the service's cost.
pub(crate) fn send(
    mut calls: MessagesClient<Channel>,
    sender: &Identity,
    message: v1::SendRequest,
) -> impl Future<Output = Result<()>> + Send + use<> {
    let mut request = Request::new(message);
    sender.authorize(request.metadata_mut());
    async move {
        let sent = calls.send(request).await?.into_inner();
        ensure!(sent.full_devices.is_empty(), "a mailbox was full: the measurement is not of durable sends");
        Ok(())
    }
}
