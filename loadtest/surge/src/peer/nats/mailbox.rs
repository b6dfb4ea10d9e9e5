//! Publications and deliveries of one person.

use std::fmt;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, Message};
use async_trait::async_trait;
use spillway_types::Guid;
use tokio_stream::StreamExt;

use super::subject;
use crate::peer::{Cause, Incoming, Mail, Outgoing, PeerError};

#[derive(Debug)]
pub(super) struct Outbox {
    jetstream: Context,
    stream: String,
}

pub(super) struct Inbox {
    messages: pull::Stream,
    /// Handed over, and not acknowledged.
    last: Option<Message>,
}

impl Outbox {
    pub(super) fn new(jetstream: Context, stream: String) -> Self {
        Self { jetstream, stream }
    }
}

impl Inbox {
    pub(super) fn new(messages: pull::Stream) -> Self {
        Self { messages, last: None }
    }
}

#[async_trait]
impl Outgoing for Outbox {
    async fn send(&self, to: u32, id: Guid, content: Vec<u8>) -> Result<(), PeerError> {
        let message = PublishMessage::build().message_id(id.to_string()).payload(content.into());
        let sent = async {
            self.jetstream.send_publish(subject(&self.stream, to), message).await?.await.map(|_| ())
        };
        sent.await.map_err(|error| {
            let reason = reason(error.kind());
            PeerError::failed("publish", reason, error)
        })
    }
}

#[async_trait]
impl Incoming for Inbox {
    async fn next(&mut self) -> Result<Mail, PeerError> {
        let failed = |error: Cause| PeerError::failed("receive", "pull", error);
        let message = match self.messages.next().await {
            Some(message) => message.map_err(|error| failed(error.into()))?,
            None => return Err(failed("the stream of messages ended".into())),
        };
        let id =
            message.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID)?.as_str().parse().ok());
        let mail = Mail { id, content: message.payload.clone() };
        self.last = Some(message);
        Ok(mail)
    }

    async fn ack(&mut self) -> Result<(), PeerError> {
        let Some(message) = self.last.take() else { return Ok(()) };
        message.ack().await.map_err(|error| PeerError::failed("acknowledge", "ack", error))
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

const fn reason(kind: PublishErrorKind) -> &'static str {
    match kind {
        PublishErrorKind::TimedOut => "deadline_exceeded",
        PublishErrorKind::BrokenPipe => "broken_pipe",
        PublishErrorKind::StreamNotFound => "no_stream",
        _ => "publish",
    }
}
