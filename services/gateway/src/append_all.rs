//! Stores one message for each device of an account.
//!
//! Rule 2 of the mailbox design: a try that got no answer may have been stored, so it is repeated with the same id,
//! which makes it the same message. An id has to be young, though, for the receiver's reads to find it; when it is
//! not, or the mailbox says so, the message gets a new one. A second copy may then exist, and the guid gives it away.
//!
//! A send to several devices runs on a task of its own, so that a sender who hangs up half way leaves either all or
//! none of it to be tried again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use rand::Rng as _;
use spillway_api::Reason;
use spillway_api::internal::v1::mailbox_client::MailboxClient;
use spillway_api::internal::v1::{AppendRequest, AppendResponse, append_response::Outcome};
use spillway_chassis::Tasks;
use spillway_rpc::{Channel, Class, Deadline};
use spillway_types::{DeviceId, Guid, MailboxId, MessageId, MessageIdGenerator};
use tokio::time::Instant;
use tonic::Request;

use crate::config::SendConfig;
use crate::inner::InnerError;
use crate::metrics::{Metrics, RetryCause};

/// Pauses between tries: doubled from the first to the last, each shortened by up to a half at random, so that the
/// senders of a worker that died do not come back together.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// One device's copy.
#[derive(Clone, Debug)]
pub(crate) struct DeviceCopy {
    pub(crate) device: DeviceId,
    pub(crate) mailbox: MailboxId,
    /// An encoded `v1::Envelope`.
    pub(crate) envelope: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    Stored { near_full: bool },
    Full,
}

#[derive(Clone, Debug)]
pub(crate) struct Appender {
    pub(crate) mailbox: MailboxClient<Channel>,
    pub(crate) ids: Arc<MessageIdGenerator>,
    pub(crate) config: SendConfig,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Arc<Metrics>,
}

impl Appender {
    /// What became of each copy, in their order.
    ///
    /// # Errors
    ///
    /// When a copy could not be stored in time. Others may have been.
    pub(crate) async fn append_all(
        &self,
        guid: Guid,
        copies: Vec<DeviceCopy>,
        deadline: Option<Deadline>,
    ) -> Result<Vec<Appended>, InnerError> {
        let patience = Instant::now() + self.config.give_up_after;
        let give_up_at = deadline.map_or(patience, |deadline| deadline.instant().min(patience));
        if let [copy] = copies.as_slice() {
            return Ok(vec![self.append(guid, copy, give_up_at).await?]);
        }
        let appender = self.clone();
        let fan_out = async move {
            let appends = copies.iter().map(|copy| appender.append(guid, copy, give_up_at));
            join_all(appends).await.into_iter().collect()
        };
        let ended = match Class::current() {
            Some(class) => self.tasks.spawn("send", class.scope(fan_out)).await,
            None => self.tasks.spawn("send", fan_out).await,
        };
        ended
            .unwrap_or_else(|_| Err(InnerError::mailbox(tonic::Status::internal("the send's task panicked"))))
    }

    async fn append(
        &self,
        guid: Guid,
        copy: &DeviceCopy,
        give_up_at: Instant,
    ) -> Result<Appended, InnerError> {
        let mut id = self.ids.mint();
        let mut minted_at = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.try_append(guid, copy, id, give_up_at).await {
                Ok(appended) => return Ok(appended),
                Err(error) => error,
            };
            let out_of_window = error.reason() == Some(Reason::IdOutOfWindow);
            let retry_at = Instant::now() + pause.mul_f64(rand::rng().random_range(0.5..1.0));
            if !(out_of_window || error.is_transient()) || retry_at >= give_up_at {
                return Err(error);
            }
            tokio::time::sleep_until(retry_at).await;
            pause = (pause * 2).min(LAST_PAUSE);
            let too_old = minted_at.elapsed() >= self.config.same_id_for;
            if out_of_window || too_old {
                id = self.ids.mint();
                minted_at = Instant::now();
            }
            self.metrics.append_retries.count(match (out_of_window, too_old) {
                (true, _) => RetryCause::OutOfWindow,
                (false, true) => RetryCause::IdTooOld,
                (false, false) => RetryCause::Unanswered,
            });
        }
    }

    async fn try_append(
        &self,
        guid: Guid,
        copy: &DeviceCopy,
        id: MessageId,
        give_up_at: Instant,
    ) -> Result<Appended, InnerError> {
        let left = give_up_at.saturating_duration_since(Instant::now());
        let mut request = Request::new(AppendRequest {
            mailbox_id: Bytes::copy_from_slice(copy.mailbox.as_bytes()),
            id: Bytes::copy_from_slice(&id.to_bytes()),
            guid: Bytes::copy_from_slice(guid.as_bytes()),
            envelope: copy.envelope.clone(),
        });
        request.set_timeout(self.config.try_timeout.min(left));
        let answer = self.mailbox.clone().append(request).await.map_err(InnerError::mailbox)?;
        appended(answer.get_ref())
    }
}

fn appended(answer: &AppendResponse) -> Result<Appended, InnerError> {
    match answer.outcome() {
        Outcome::Stored => Ok(Appended::Stored { near_full: answer.near_full }),
        Outcome::Full => Ok(Appended::Full),
        Outcome::Unspecified => {
            Err(InnerError::mailbox(tonic::Status::internal("an append was answered without an outcome")))
        }
    }
}
