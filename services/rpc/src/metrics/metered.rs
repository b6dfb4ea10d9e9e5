//! The layer that counts.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Code, Status};
use tower::Service;

use super::{Call, CallMetrics, TraceId};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

#[derive(Clone, Debug)]
pub(crate) struct Metered<S> {
    inner: S,
    metrics: Arc<CallMetrics>,
}

impl<S> Metered<S> {
    pub(crate) const fn new(inner: S, metrics: Arc<CallMetrics>) -> Self {
        Self { inner, metrics }
    }
}

/// The code that a failed call counts as.
pub(crate) trait CallError {
    fn code(&self) -> Code;
}

impl CallError for Status {
    fn code(&self) -> Code {
        Self::code(self)
    }
}

impl CallError for Infallible {
    fn code(&self) -> Code {
        match *self {}
    }
}

impl<S, R, B> Service<Request<R>> for Metered<S>
where
    S: Service<Request<R>, Response = Response<B>, Error: CallError>,
{
    type Response = Response<MeteredBody<B>>;
    type Error = S::Error;
    type Future = MeteredFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let call = self.metrics.start(request.uri().path());
        MeteredFuture { inner: self.inner.call(request), call: Some(call) }
    }
}

pin_project! {
    pub(crate) struct MeteredFuture<F> {
        #[pin]
        inner: F,
        // Moves on to the body.
        call: Option<Call>,
    }
}

impl<F, B, E> Future for MeteredFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: CallError,
{
    type Output = Result<Response<MeteredBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.inner.poll(cx));
        let mut call = this.call.take();
        let code = match &outcome {
            // Only a response without messages has its status in the headers.
            Ok(response) => status_code(response.headers()),
            Err(error) => Some(error.code()),
        };
        if let (Some(call), Some(code)) = (&mut call, code) {
            call.ended_with(code);
        }
        if let (Some(call), Ok(response)) = (&mut call, &outcome) {
            call.is_of(response.extensions().get::<TraceId>());
        }
        Poll::Ready(outcome.map(|response| response.map(|inner| MeteredBody { inner, call })))
    }
}

pub(crate) fn status_code(headers: &HeaderMap) -> Option<Code> {
    headers.get(GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

pin_project! {
    pub(crate) struct MeteredBody<B> {
        #[pin]
        inner: B,
        call: Option<Call>,
    }
}

impl<B> Body for MeteredBody<B>
where
    B: Body<Data = Bytes, Error = Status>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        let code = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().and_then(status_code),
            Some(Err(status)) => Some(status.code()),
            None => None,
        };
        if let (Some(call), Some(code)) = (this.call.as_mut(), code) {
            call.ended_with(code);
        }
        // Counted when the response ends, not when somebody gets round to dropping it.
        if code.is_some() || frame.is_none() {
            *this.call = None;
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
