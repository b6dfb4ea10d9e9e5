//! Turns tonic's answer to bytes that are no message, `INTERNAL`, into an `INVALID_ARGUMENT` refusal.
//!
//! The bytes are the caller's mistake, and must not count as the service's fault. A handler's own `INTERNAL` is not
//! concerned: handlers answer with refusals, which have details. Of a stream only the handler sees what is malformed.

use std::task::{Context, Poll};

use futures::TryFutureExt;
use futures::future::MapOk;
use http::{HeaderName, Request, Response};
use spillway_api::{Reason, Refusal};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

#[derive(Clone, Debug)]
pub(crate) struct NameMalformed<S> {
    inner: S,
}

impl<S> NameMalformed<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, R> Service<Request<R>> for NameMalformed<S>
where
    S: Service<Request<R>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = MapOk<S::Future, fn(Response<Body>) -> Response<Body>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        self.inner.call(request).map_ok(name)
    }
}

fn name(response: Response<Body>) -> Response<Body> {
    // Only an answer without a message has its status in the headers.
    if !response.headers().contains_key(GRPC_STATUS) {
        return response;
    }
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::Internal && status.details().is_empty() => {
            tracing::debug!(problem = status.message(), "a request cannot be read");
            Refusal::new(Reason::InvalidArgument, "the request cannot be decoded").into_status().into_http()
        }
        _ => response,
    }
}
