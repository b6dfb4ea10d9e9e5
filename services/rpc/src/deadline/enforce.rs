//! Ends a call at the instant its `grpc-timeout` says.
//!
//! Used where a call arrives, and again under a socket's client, where it also bounds connecting and a server that
//! has fallen silent. The response body is bounded too: a stream with a deadline ends at it. A refusal is told apart from
//! one that can be repeated in time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use spillway_api::{Reason, Refusal};
use tokio::time::Sleep;
use tonic::Status;
use tower::Service;

use super::{Deadline, pushback, wire, within};

#[derive(Clone, Debug)]
pub(crate) struct EnforceDeadline<S> {
    inner: S,
}

impl<S> EnforceDeadline<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, R, B> Service<Request<R>> for EnforceDeadline<S>
where
    S: Service<Request<R>, Response = Response<B>>,
{
    type Response = Response<TimedBody<B>>;
    type Error = S::Error;
    type Future = EnforceDeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        let timeout = match wire::read(request.headers()) {
            Ok(timeout) => timeout,
            Err(malformed) => {
                return EnforceDeadlineFuture::refused(Refusal::new(
                    Reason::InvalidArgument,
                    malformed.to_string(),
                ));
            }
        };
        // Since when it runs, if something before this kept the call waiting.
        let arrived_with = request.extensions().get().copied();
        let deadline = arrived_with.or_else(|| timeout.and_then(Deadline::after));
        if deadline.is_some_and(Deadline::has_passed) {
            return EnforceDeadlineFuture::refused(deadline_refusal());
        }
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        let inner = within(deadline, || self.inner.call(request));
        EnforceDeadlineFuture { inner: Some(inner), refusal: None, deadline, sleep: None }
    }
}

fn deadline_refusal() -> Refusal {
    Refusal::new(Reason::Deadline, "the call's deadline has passed")
}

pin_project! {
    pub(crate) struct EnforceDeadlineFuture<F> {
        #[pin]
        inner: Option<F>,
        refusal: Option<Refusal>,
        deadline: Option<Deadline>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<F> EnforceDeadlineFuture<F> {
    fn refused(refusal: Refusal) -> Self {
        Self { inner: None, refusal: Some(refusal), deadline: None, sleep: None }
    }
}

impl<F, B, E> Future for EnforceDeadlineFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<TimedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let deadline = *this.deadline;
        if let Some(inner) = this.inner.as_mut().as_pin_mut() {
            if let Poll::Ready(outcome) = within(deadline, || inner.poll(cx)) {
                return Poll::Ready(outcome.map(|mut response| {
                    pushback::fit(response.headers_mut(), deadline);
                    response.map(|body| TimedBody::new(body, deadline))
                }));
            }
            ready!(poll_deadline(this.sleep, deadline, cx));
            // The handler stops here, not when the caller drops the response.
            this.inner.set(None);
        }
        let status = this.refusal.take().unwrap_or_else(deadline_refusal).into_status();
        Poll::Ready(Ok(status.into_http::<()>().map(|()| TimedBody {
            inner: None,
            deadline: None,
            sleep: None,
        })))
    }
}

/// Ready once the deadline has passed. The timer is made by the first wait, because most calls never wait.
fn poll_deadline(
    mut sleep: Pin<&mut Option<Sleep>>,
    deadline: Option<Deadline>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let Some(deadline) = deadline else {
        return Poll::Pending;
    };
    if sleep.is_none() {
        sleep.set(Some(tokio::time::sleep_until(deadline.instant())));
    }
    sleep.as_pin_mut().expect("set above").poll(cx)
}

pin_project! {
    pub(crate) struct TimedBody<B> {
        #[pin]
        inner: Option<B>,
        deadline: Option<Deadline>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<B> TimedBody<B> {
    const fn new(inner: B, deadline: Option<Deadline>) -> Self {
        Self { inner: Some(inner), deadline, sleep: None }
    }
}

impl<B> Body for TimedBody<B>
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
        let deadline = *this.deadline;
        if let Poll::Ready(frame) = within(deadline, || inner.poll_frame(cx)) {
            return Poll::Ready(frame);
        }
        ready!(poll_deadline(this.sleep, deadline, cx));
        this.inner.set(None);
        Poll::Ready(Some(Ok(trailers(deadline_refusal()))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// The end of a response whose headers have gone out already.
pub(crate) fn trailers(refusal: Refusal) -> Frame<Bytes> {
    let mut headers = HeaderMap::new();
    refusal.into_status().add_header(&mut headers).expect("a refusal's text is encoded to fit a header");
    Frame::trailers(headers)
}
