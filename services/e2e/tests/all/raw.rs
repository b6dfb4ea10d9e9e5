//! The public API without the reference client, for what that would never do.

use bytes::{Buf, BufMut, Bytes};
use spillway_api::{Refusal, v1, v1::hello, v1::session_request::Frame};
use spillway_client::{Client, Identity};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status, Streaming};

use super::support::PATIENCE;

/// A session stream, from before its hello.
pub(crate) struct RawSession {
    pub(crate) up: mpsc::Sender<v1::SessionRequest>,
    pub(crate) down: Streaming<v1::SessionResponse>,
}

impl RawSession {
    pub(crate) async fn open(client: &Client) -> Self {
        Self::try_open(client).await.unwrap()
    }

    pub(crate) async fn try_open(client: &Client) -> Result<Self, Status> {
        let (up, frames) = mpsc::channel(8);
        let down = client.messages().session(Request::new(ReceiverStream::new(frames))).await?.into_inner();
        Ok(Self { up, down })
    }

    pub(crate) async fn say(&self, frame: Frame) {
        self.up.send(v1::SessionRequest { frame: Some(frame) }).await.unwrap();
    }

    pub(crate) async fn hello(client: &Client, identity: hello::Identity) -> Self {
        let session = Self::open(client).await;
        session.say(Frame::Hello(v1::Hello { identity: Some(identity) })).await;
        session
    }

    pub(crate) async fn welcome(&mut self) -> v1::Ticket {
        match timeout(PATIENCE, self.down.message()).await.unwrap().unwrap().unwrap().frame {
            Some(v1::session_response::Frame::Welcome(welcome)) => welcome.ticket.unwrap(),
            other => panic!("{other:?} instead of a welcome"),
        }
    }

    /// Why the stream ended.
    pub(crate) async fn refusal(&mut self) -> Refusal {
        loop {
            match timeout(PATIENCE, self.down.message()).await.expect("the stream stays open") {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a reason"),
                Err(status) => return refusal(&status),
            }
        }
    }
}

pub(crate) fn refusal(status: &Status) -> Refusal {
    Refusal::from_status(status).unwrap_or_else(|| panic!("not Spillway's own: {status:?}"))
}

/// A call of a device that shows its credential.
pub(crate) fn request<T>(identity: &Identity, message: T) -> Request<T> {
    authorized(&format!("Device {}", identity.credential()), message)
}

pub(crate) fn authorized<T>(authorization: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    request
}

/// Puts bytes on the wire as they are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
