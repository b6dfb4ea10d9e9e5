//! What the client says: acks.

use bytes::Bytes;
use futures::FutureExt as _;
use spillway_api::internal::v1::AcknowledgeRequest;
use spillway_api::v1::{self, session_request::Frame};
use spillway_api::{FieldError, message_id};
use spillway_types::MessageId;
use tokio::time::Instant;
use tonic::{Request, Status};

use crate::session::hello::broken_frame;
use crate::session::live::{Call, Live};
use crate::session::{SessionError, Stop};

/// Ids in one ack frame.
const ACK_IDS_MAX: usize = 256;

impl Live {
    pub(super) fn on_frame(&mut self, frame: Result<Option<v1::SessionRequest>, Status>) -> Result<(), Stop> {
        let bad =
            |field, problem: &str| Err(Stop::Failed(SessionError::Frame(FieldError::new(field, problem))));
        match frame {
            Ok(None) => Err(Stop::ClientLeft),
            Err(status) => Err(broken_frame(&status)),
            Ok(Some(request)) => match request.frame {
                Some(Frame::Ack(ack)) => self.on_ack(&ack),
                Some(Frame::Hello(_)) => bad("hello", "is the first frame only"),
                None => bad("frame", "is required"),
            },
        }
    }

    fn on_ack(&mut self, ack: &v1::Ack) -> Result<(), Stop> {
        let frame_error = |error| Stop::Failed(SessionError::Frame(error));
        if ack.ids.len() > ACK_IDS_MAX {
            let problem = format!("must have at most {ACK_IDS_MAX} entries");
            return Err(frame_error(FieldError::new("ack.ids", problem)));
        }
        let now = Instant::now();
        for id in &ack.ids {
            let id = message_id("ack.ids", id).map_err(frame_error)?;
            self.in_flight.acked(id);
            self.acks.push(id, now);
        }
        self.parts.metrics.acks.inc_by(ack.ids.len() as u64);
        Ok(())
    }

    pub(super) fn on_acknowledged(&mut self, answer: Result<(), Status>) {
        self.acking = None;
        let ids = std::mem::take(&mut self.acking_ids);
        match answer {
            Ok(()) => {
                self.in_flight.deleted(&ids);
                self.acks.succeeded();
            }
            Err(status) => {
                tracing::debug!(code = ?status.code(), acks = ids.len(), "acks go again");
                self.acks.failed(ids, Instant::now());
            }
        }
    }

    pub(super) fn acknowledge(&self, ids: &[MessageId]) -> Call<()> {
        let mut request = Request::new(AcknowledgeRequest {
            mailbox_id: Bytes::copy_from_slice(self.proof.caller.mailbox.as_bytes()),
            ids: ids.iter().map(|id| Bytes::copy_from_slice(&id.to_bytes())).collect(),
        });
        request.set_timeout(self.parts.config.session.call_timeout);
        let mut mailbox = self.parts.mailbox.clone();
        async move { mailbox.acknowledge(request).await.map(drop) }.boxed()
    }
}
