//! How many calls of a connection are open, so that one without any can be closed.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Status;

#[derive(Debug, Default)]
pub(super) struct Activity {
    begun: AtomicU32,
    ended: AtomicU32,
}

/// Calls begun so far. Wraps after 2^32, which is harmless because it is only compared for equality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Begun(u32);

impl Activity {
    pub(super) fn begin(self: &Arc<Self>) -> OpenCall {
        self.begun.fetch_add(1, Ordering::Relaxed);
        OpenCall(Arc::clone(self))
    }

    pub(super) fn begun(&self) -> Begun {
        Begun(self.begun.load(Ordering::Relaxed))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.ended.load(Ordering::Relaxed) == self.begun().0
    }
}

/// Ends the call when dropped.
#[derive(Debug)]
pub(super) struct OpenCall(Arc<Activity>);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

pin_project! {
    /// A call that stays open until its response body is dropped. A guard in the response future alone would be
    /// released with the headers, and not count open streams.
    pub(super) struct OpenCallFuture<F> {
        #[pin]
        inner: F,
        call: Option<OpenCall>,
    }
}

impl<F> OpenCallFuture<F> {
    pub(super) const fn new(inner: F, call: OpenCall) -> Self {
        Self { inner, call: Some(call) }
    }
}

impl<F, B> Future for OpenCallFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<OpenCallBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.inner.poll(cx));
        let call = this.call.take();
        Poll::Ready(Ok(response.map(|inner| OpenCallBody { inner, _call: call })))
    }
}

pin_project! {
    pub(super) struct OpenCallBody<B> {
        #[pin]
        inner: B,
        _call: Option<OpenCall>,
    }
}

impl<B> Body for OpenCallBody<B>
where
    B: Body<Data = Bytes, Error = Status>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
