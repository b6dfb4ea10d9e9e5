use std::time::Duration;

use bytes::Bytes;
use spillway_api::Refusal;
use spillway_api::v1::session_response::Frame;
use spillway_api::v1::{self, SessionRequest, SessionResponse, hello::Identity, session_request};
use spillway_rpc::Channel;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Known, Node, refusal};

/// The client's end of a session.
pub(crate) struct Device {
    frames: mpsc::Sender<SessionRequest>,
    answers: Streaming<SessionResponse>,
}

impl Device {
    /// Opens a stream and says nothing.
    pub(crate) async fn connect(public: &Channel) -> Result<Self, Refusal> {
        let (frames, receiver) = mpsc::channel(64);
        let mut client = v1::messages_client::MessagesClient::new(public.clone());
        let answers = client.session(ReceiverStream::new(receiver)).await.map_err(refusal)?.into_inner();
        Ok(Self { frames, answers })
    }

    /// Opens a session and returns it with its welcome.
    pub(crate) async fn hello(public: &Channel, identity: Identity) -> Result<(Self, v1::Welcome), Refusal> {
        let mut device = Self::connect(public).await?;
        device.say_hello(identity).await;
        match device.next().await? {
            Some(Frame::Welcome(welcome)) => Ok((device, welcome)),
            other => panic!("expected a welcome, got {other:?}"),
        }
    }

    pub(crate) async fn open(node: &Node, known: &Known) -> Self {
        Self::hello(&node.public, Identity::Credential(known.credential.clone())).await.unwrap().0
    }

    /// Opens a session and reads until the queue is empty.
    pub(crate) async fn open_and_drain(node: &Node, known: &Known) -> Self {
        let mut device = Self::open(node, known).await;
        assert_eq!(device.frame().await, Frame::QueueEmpty(v1::QueueEmpty {}));
        device
    }

    pub(crate) async fn say_hello(&self, identity: Identity) {
        let hello = v1::Hello { identity: Some(identity) };
        self.say(session_request::Frame::Hello(hello)).await;
    }

    pub(crate) async fn ack(&self, ids: &[Bytes]) {
        self.say(session_request::Frame::Ack(v1::Ack { ids: ids.to_vec() })).await;
    }

    pub(crate) async fn say(&self, frame: session_request::Frame) {
        self.frames.send(SessionRequest { frame: Some(frame) }).await.unwrap();
    }

    /// The next frame; `None` at a clean end.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, Refusal> {
        let next = tokio::time::timeout(Duration::from_secs(3_600), self.answers.message());
        let answer = next.await.expect("a frame within the hour").map_err(refusal)?;
        Ok(answer.map(|answer| answer.frame.expect("a frame is never empty")))
    }

    /// The next frame, of a stream that goes on.
    pub(crate) async fn frame(&mut self) -> Frame {
        self.next().await.unwrap().expect("the stream goes on")
    }

    pub(crate) async fn delivery(&mut self) -> v1::Delivery {
        match self.frame().await {
            Frame::Delivery(delivery) => delivery,
            _ => panic!("expected a delivery"),
        }
    }

    /// Why the session ended, when the next frame says so.
    pub(crate) async fn closing(&mut self) -> v1::closing::Reason {
        match self.frame().await {
            Frame::Closing(closing) => {
                assert_eq!(self.next().await.unwrap(), None, "nothing comes after the closing");
                closing.reason()
            }
            _ => panic!("expected a closing"),
        }
    }

    /// Whatever comes within that time.
    pub(crate) async fn frames_within(&mut self, time: Duration) -> Vec<Frame> {
        let mut frames = Vec::new();
        let until = tokio::time::Instant::now() + time;
        while let Ok(answer) = tokio::time::timeout_at(until, self.answers.message()).await {
            frames.push(answer.unwrap().expect("the stream goes on").frame.unwrap());
        }
        frames
    }
}
