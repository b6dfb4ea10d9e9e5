//! The frames between a session and its client's stream: a queue that counts bytes.
//!
//! The session never waits here. It looks at [`Outbound::is_full`] before it delivers, so what a client that does not
//! read can pile up is bounded; the few frames that are no deliveries go in regardless, because each is small and
//! rare. A channel would not do: when a slow reader is given up, what is queued must be freed although the stream is
//! still held by a connection that nobody reads.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use prost::Message as _;
use spillway_api::v1::session_response::Frame;
use spillway_api::v1::{Closing, SessionResponse, closing};
use tokio_stream::Stream;
use tonic::Status;

/// The session's end.
#[derive(Debug)]
pub(crate) struct Outbound {
    shared: Arc<Mutex<Shared>>,
    bytes_max: usize,
}

/// The client's end: the answer of `Messages.Session`.
#[derive(Debug)]
pub struct Outgoing(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    frames: VecDeque<SessionResponse>,
    bytes: usize,
    ended: bool,
    /// Why, after the frames, if it is not a clean end.
    status: Option<Box<Status>>,
    client_left: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

pub(crate) fn outbound(bytes_max: usize) -> (Outbound, Outgoing) {
    let shared = Arc::new(Mutex::default());
    (Outbound { shared: Arc::clone(&shared), bytes_max }, Outgoing(shared))
}

impl Outbound {
    pub(crate) fn push(&self, frame: Frame) {
        let frame = SessionResponse { frame: Some(frame) };
        let mut shared = lock(&self.shared);
        if shared.client_left {
            return;
        }
        shared.bytes += frame.encoded_len();
        shared.frames.push_back(frame);
        wake(shared.reader.take(), shared);
    }

    pub(crate) fn is_full(&self) -> bool {
        lock(&self.shared).bytes >= self.bytes_max
    }

    /// Resolves when the client has left, or, if `watch_drain`, when half of what fits has been read. Cancel-safe.
    pub(crate) async fn progress(&self, watch_drain: bool) -> Progress {
        poll_fn(|cx| {
            let mut shared = lock(&self.shared);
            if shared.client_left {
                return Poll::Ready(Progress::ClientLeft);
            }
            if watch_drain && shared.bytes <= self.bytes_max / 2 {
                return Poll::Ready(Progress::Drained);
            }
            register(&mut shared.writer, cx);
            Poll::Pending
        })
        .await
    }

    /// The stream ends after what is queued.
    pub(crate) fn end(&self, ending: Ending) {
        let mut shared = lock(&self.shared);
        match ending {
            Ending::Closing(reason) => {
                let closing = Closing { reason: reason.into() };
                shared.frames.push_back(SessionResponse { frame: Some(Frame::Closing(closing)) });
            }
            Ending::Status(status) => shared.status = Some(Box::new(status)),
            Ending::Clean => {}
        }
        shared.ended = true;
        wake(shared.reader.take(), shared);
    }

    /// Frees what is queued. What was never read is still in the mailbox.
    pub(crate) fn clear(&self) {
        let mut shared = lock(&self.shared);
        shared.bytes = 0;
        let frames = std::mem::take(&mut shared.frames);
        drop(shared);
        drop(frames);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    ClientLeft,
    Drained,
}

/// What the client sees last.
#[derive(Debug)]
pub(crate) enum Ending {
    Closing(closing::Reason),
    Status(Status),
    Clean,
}

impl Drop for Outbound {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.ended = true;
        wake(shared.reader.take(), shared);
    }
}

impl Stream for Outgoing {
    type Item = Result<SessionResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shared = lock(&self.0);
        if let Some(frame) = shared.frames.pop_front() {
            shared.bytes = shared.bytes.saturating_sub(frame.encoded_len());
            if shared.frames.is_empty() {
                // A session is idle most of its life and should not keep the room of its last backlog.
                shared.frames = VecDeque::new();
            }
            wake(shared.writer.take(), shared);
            return Poll::Ready(Some(Ok(frame)));
        }
        if shared.ended {
            return Poll::Ready(shared.status.take().map(|status| Err(*status)));
        }
        register(&mut shared.reader, cx);
        Poll::Pending
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let mut shared = lock(&self.0);
        shared.client_left = true;
        let frames = std::mem::take(&mut shared.frames);
        wake(shared.writer.take(), shared);
        drop(frames);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // No panic can happen half way through a change of the counts.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *slot = Some(cx.waker().clone());
    }
}

/// Without the lock: a waker may run, or drop, whatever it belongs to.
fn wake(waker: Option<Waker>, shared: MutexGuard<'_, Shared>) {
    drop(shared);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use spillway_api::v1::{Delivery, Envelope, QueueEmpty};
    use tokio_stream::StreamExt as _;

    use super::*;

    fn delivery(bytes: usize) -> Frame {
        let envelope = Envelope { content: vec![1; bytes].into(), ..Default::default() };
        Frame::Delivery(Delivery { envelope: Some(envelope), ..Default::default() })
    }

    #[tokio::test]
    async fn fills_by_bytes_and_drains_at_half() {
        let (outbound, mut outgoing) = outbound(1_000);
        outbound.push(delivery(400));
        assert!(!outbound.is_full());
        outbound.push(delivery(400));
        outbound.push(delivery(400));
        assert!(outbound.is_full());
        outgoing.next().await.unwrap().unwrap();
        assert!(!outbound.is_full());
        assert_eq!(outbound.progress(true).now_or_never(), None);
        outgoing.next().await.unwrap().unwrap();
        assert_eq!(outbound.progress(true).now_or_never(), Some(Progress::Drained));
        assert_eq!(outbound.progress(false).now_or_never(), None);
        drop(outgoing);
        assert_eq!(outbound.progress(false).now_or_never(), Some(Progress::ClientLeft));
    }

    #[tokio::test]
    async fn a_cleared_queue_still_says_why_it_ended() {
        let (outbound, mut outgoing) = outbound(1_000);
        outbound.push(delivery(400));
        outbound.clear();
        outbound.end(Ending::Closing(closing::Reason::SlowReader));
        let last = outgoing.next().await.unwrap().unwrap();
        let closing = Closing { reason: closing::Reason::SlowReader.into() };
        assert_eq!(last.frame, Some(Frame::Closing(closing)));
        assert!(outgoing.next().await.is_none());
    }

    #[tokio::test]
    async fn a_status_comes_after_the_frames() {
        let (outbound, mut outgoing) = outbound(1_000);
        outbound.push(Frame::QueueEmpty(QueueEmpty {}));
        outbound.end(Ending::Status(Status::aborted("x")));
        drop(outbound);
        assert!(outgoing.next().await.unwrap().is_ok());
        assert_eq!(outgoing.next().await.unwrap().unwrap_err().code(), tonic::Code::Aborted);
        assert!(outgoing.next().await.is_none());
    }
}
