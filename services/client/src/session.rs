//! The stream on which a device receives.

use std::sync::Arc;

use bytes::Bytes;
use spillway_api::v1::session_request::Frame as Up;
use spillway_api::v1::session_response::Frame as Down;
use spillway_api::{guid, message_id, v1};
use spillway_types::{Guid, MessageId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::call::CallError;
use crate::connect::Client;
use crate::identity::Identity;

/// Acks that may wait to be written before the caller of [`SessionHandle::ack`] does.
const ACKS_QUEUED_MAX: usize = 8;

/// How a session was opened, for those who count look-ups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionOpen {
    Credential,
    ResumeTicket,
}

/// An open session. Poll [`Session::next`]; ack through the [`SessionHandle`].
#[derive(Debug)]
pub struct Session {
    identity: Arc<Identity>,
    frames: Streaming<v1::SessionResponse>,
    handle: SessionHandle,
    pub opened_with: SessionOpen,
}

/// The sending half of a session. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SessionHandle(mpsc::Sender<v1::SessionRequest>);

#[derive(Clone, Debug)]
pub struct Delivery {
    /// Absent for an ephemeral message, which is not acked.
    pub id: Option<MessageId>,
    pub guid: Guid,
    pub envelope: v1::Envelope,
}

#[derive(Clone, Debug)]
pub enum SessionEvent {
    Delivery(Delivery),
    /// Everything that was stored when the session opened has been delivered.
    QueueEmpty,
    /// Open another session after this long, then drop this one.
    Migrate(std::time::Duration),
    Closing(v1::closing::Reason),
}

impl SessionHandle {
    /// Queues an ack. Waits when the connection is slower than the acks. False: the session is over.
    pub async fn ack(&self, ids: impl IntoIterator<Item = MessageId>) -> bool {
        let ids = ids.into_iter().map(|id| Bytes::copy_from_slice(&id.to_bytes())).collect();
        self.0.send(v1::SessionRequest { frame: Some(Up::Ack(v1::Ack { ids })) }).await.is_ok()
    }
}

impl Client {
    /// Opens the device's session: with the resume ticket if there is one, else, or when the ticket is refused, with
    /// the credential.
    ///
    /// # Errors
    ///
    /// When the service refuses the identity or cannot be reached.
    pub async fn open_session(&self, identity: &Arc<Identity>) -> Result<Session, CallError> {
        if let Some(ticket) = identity.take_resume_ticket() {
            let hello = v1::hello::Identity::ResumeTicket(ticket.text());
            match self.open_with(identity, hello, SessionOpen::ResumeTicket).await {
                Ok(session) => {
                    ticket.spent();
                    return Ok(session);
                }
                Err(error) if is_unauthenticated(&error) => ticket.spent(),
                Err(error) => return Err(error),
            }
        }
        let hello = v1::hello::Identity::Credential(identity.credential().to_owned());
        self.open_with(identity, hello, SessionOpen::Credential).await
    }

    async fn open_with(
        &self,
        identity: &Arc<Identity>,
        hello: v1::hello::Identity,
        opened_with: SessionOpen,
    ) -> Result<Session, CallError> {
        let (up, queued) = mpsc::channel(ACKS_QUEUED_MAX);
        let hello = v1::SessionRequest { frame: Some(Up::Hello(v1::Hello { identity: Some(hello) })) };
        // The channel is new and has room; a send that fails would show as a stream that ends.
        let handle = SessionHandle(up);
        handle.0.send(hello).await.ok();
        let frames = self.messages().session(Request::new(ReceiverStream::new(queued))).await?.into_inner();
        let mut session = Session { identity: identity.clone(), frames, handle, opened_with };
        match session.frames.message().await? {
            Some(v1::SessionResponse { frame: Some(Down::Welcome(welcome)) }) => {
                session.keep(welcome.ticket);
                Ok(session)
            }
            _ => Err(Status::internal("the first frame was not a welcome").into()),
        }
    }
}

impl Session {
    pub fn handle(&self) -> SessionHandle {
        self.handle.clone()
    }

    /// The next event. Cancel-safe. `None`: the stream has ended without a reason.
    ///
    /// # Errors
    ///
    /// When the stream broke or the service ended it with a refusal.
    pub async fn next(&mut self) -> Result<Option<SessionEvent>, CallError> {
        loop {
            let Some(response) = self.frames.message().await? else { return Ok(None) };
            match response.frame {
                Some(Down::Delivery(delivery)) => {
                    return parse(delivery).map(|d| Some(SessionEvent::Delivery(d)));
                }
                Some(Down::QueueEmpty(_)) => return Ok(Some(SessionEvent::QueueEmpty)),
                Some(Down::Migrate(migrate)) => {
                    let after = migrate.after.and_then(|after| after.try_into().ok()).unwrap_or_default();
                    return Ok(Some(SessionEvent::Migrate(after)));
                }
                Some(Down::Closing(closing)) => return Ok(Some(SessionEvent::Closing(closing.reason()))),
                Some(Down::Ticket(ticket)) => self.keep(Some(ticket)),
                // A frame of a newer server: nothing that an older client must know.
                Some(Down::Welcome(_)) | None => {}
            }
        }
    }

    fn keep(&self, ticket: Option<v1::Ticket>) {
        if let Some(ticket) = ticket {
            self.identity.set_resume_ticket(ticket.resume_ticket);
            self.identity.set_token(&ticket.token);
        }
    }
}

fn is_unauthenticated(error: &CallError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.reason.code() == tonic::Code::Unauthenticated)
}

fn parse(delivery: v1::Delivery) -> Result<Delivery, CallError> {
    let wrong = |error: spillway_api::FieldError| CallError::from(Status::internal(error.to_string()));
    let id = match delivery.ephemeral {
        true => None,
        false => Some(message_id("id", &delivery.id).map_err(wrong)?),
    };
    Ok(Delivery {
        id,
        guid: guid("guid", &delivery.guid).map_err(wrong)?,
        envelope: delivery.envelope.unwrap_or_default(),
    })
}
