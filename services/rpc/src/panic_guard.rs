//! Turns a panic of a handler, or of the stream it returned, into an `INTERNAL` refusal of that one call.
//!
//! Without it a panic would end the caller's task in process, and reset the stream without a status on a socket.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use spillway_api::{Reason, Refusal};
use tonic::Status;
use tower::Service;

use crate::deadline::trailers;

#[derive(Clone, Debug)]
pub(crate) struct PanicGuard<S> {
    inner: S,
}

impl<S> PanicGuard<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, R, B> Service<Request<R>> for PanicGuard<S>
where
    S: Service<Request<R>, Response = Response<B>>,
{
    type Response = Response<GuardedBody<B>>;
    type Error = S::Error;
    type Future = PanicGuardFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let path = request.uri().path_and_query().cloned();
        // A handler's state may be half changed after a panic. It is shared between calls behind locks that poison,
        // and the process must keep serving its other sessions.
        let inner = catch_unwind(AssertUnwindSafe(|| self.inner.call(request))).ok();
        PanicGuardFuture { inner, path }
    }
}

pin_project! {
    pub(crate) struct PanicGuardFuture<F> {
        // None after a panic.
        #[pin]
        inner: Option<F>,
        path: Option<PathAndQuery>,
    }
}

impl<F, B, E> Future for PanicGuardFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<GuardedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(inner) = this.inner.as_mut().as_pin_mut() {
            if let Ok(poll) = catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
                let path = this.path;
                return poll.map_ok(|response| {
                    response.map(|body| GuardedBody { inner: Some(body), path: path.take() })
                });
            }
            this.inner.set(None);
        }
        let status = refusal(this.path.take()).into_status();
        Poll::Ready(Ok(status.into_http::<()>().map(|()| GuardedBody { inner: None, path: None })))
    }
}

pin_project! {
    pub(crate) struct GuardedBody<B> {
        #[pin]
        inner: Option<B>,
        path: Option<PathAndQuery>,
    }
}

impl<B> Body for GuardedBody<B>
where
    B: Body<Data = Bytes, Error = Status>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        if let Ok(poll) = catch_unwind(AssertUnwindSafe(|| inner.poll_frame(cx))) {
            return poll;
        }
        this.inner.set(None);
        Poll::Ready(Some(Ok(trailers(refusal(this.path.take())))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// The panic hook has logged what and where; this says which call.
fn refusal(path: Option<PathAndQuery>) -> Refusal {
    tracing::error!(path = path.as_ref().map(PathAndQuery::path), "handler panicked");
    Refusal::new(Reason::Internal, "the service failed; the cause was logged")
}
