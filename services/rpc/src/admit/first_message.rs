//! A request's body, until its first message is whole.
//!
//! Who was let in on the word of his headers holds a seat from then on. The rest of what he has to say must be heard, whatever has become of
//! other calls of the same connection meanwhile: otherwise the seat is his for as long as the silence lasts, and of use to nobody.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use crate::server::{Awaited, Quiet};

/// A compression flag and a length in front of each message, as gRPC over HTTP/2 has it.
const PREFIX_BYTES: usize = 5;

#[derive(Debug)]
pub(super) struct FirstMessage {
    inner: Body,
    /// Until it is there.
    awaited: Option<Awaited>,
    prefix: [u8; PREFIX_BYTES],
    received: usize,
}

impl FirstMessage {
    pub(super) fn of(body: Body, quiet: &Quiet) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Self { inner: body, awaited: Some(quiet.awaits()), prefix: [0; PREFIX_BYTES], received: 0 })
    }

    fn receive(&mut self, data: &[u8]) {
        if let Some(missing) = self.prefix.get_mut(self.received..) {
            let known = missing.len().min(data.len());
            missing[..known].copy_from_slice(&data[..known]);
        }
        self.received = self.received.saturating_add(data.len());
        let [_, length @ ..] = self.prefix;
        let whole = PREFIX_BYTES.saturating_add(u32::from_be_bytes(length) as usize);
        if self.received >= PREFIX_BYTES && self.received >= whole {
            self.awaited = None;
        }
    }
}

impl http_body::Body for FirstMessage {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
            Some(data) if self.awaited.is_some() => self.receive(data),
            Some(_) => {}
            // There will be no more of it.
            None => self.awaited = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    /// A body of these pieces; after which of them the caller is awaited no more.
    async fn heard_after(pieces: &[&'static [u8]]) -> Option<usize> {
        let quiet = Quiet::new();
        let frames = pieces.iter().map(|piece| Ok::<_, Status>(Frame::data(Bytes::from_static(piece))));
        let frames: Vec<_> = frames.collect();
        let body = StreamBody::new(futures::stream::iter(frames).chain(futures::stream::pending()));
        let mut body = FirstMessage::of(Body::new(body), &quiet);
        assert!(quiet.is_awaited());
        let mut heard = None;
        for number in 1..=pieces.len() {
            body.frame().await.unwrap().unwrap();
            if !quiet.is_awaited() {
                heard.get_or_insert(number);
            }
        }
        drop(body);
        assert!(!quiet.is_awaited(), "nobody waits for it any more");
        heard
    }

    #[tokio::test]
    async fn the_first_message_is_awaited_and_no_other() {
        assert_eq!(heard_after(&[&[0, 0, 0, 0, 2, 7, 7]]).await, Some(1));
        assert_eq!(heard_after(&[&[0, 0], &[0, 0, 2, 7], &[7], &[0]]).await, Some(3));
        assert_eq!(heard_after(&[&[0, 0, 0, 0, 0], &[0]]).await, Some(1), "it may be empty");
        assert_eq!(heard_after(&[&[0, 0, 0, 0], &[3, 7, 7]]).await, None);
        assert_eq!(heard_after(&[&[0, 0xFF, 0xFF, 0xFF, 0xFF, 7]]).await, None);
    }

    #[tokio::test]
    async fn a_body_that_ends_early_is_not_awaited() {
        let quiet = Quiet::new();
        let mut body =
            FirstMessage::of(Body::new(http_body_util::Full::new(Bytes::from_static(&[0]))), &quiet);
        while body.frame().await.is_some() {}
        assert!(!quiet.is_awaited());
        FirstMessage::of(Body::empty(), &quiet);
        assert!(!quiet.is_awaited());
    }
}
