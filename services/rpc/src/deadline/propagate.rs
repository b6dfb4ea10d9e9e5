//! Gives a call that is made while another is served what remains of that one's time.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use tonic::body::Body;
use tower::Service;

use super::{Deadline, wire};
use crate::methods::Methods;

#[derive(Clone, Debug)]
pub(crate) struct PropagateDeadline<S> {
    inner: S,
    methods: Arc<Methods>,
    unary_default: Duration,
}

impl<S> PropagateDeadline<S> {
    pub(crate) const fn new(inner: S, methods: Arc<Methods>, unary_default: Duration) -> Self {
        Self { inner, methods, unary_default }
    }

    /// The shortest of what the call says itself, what surrounds it, and, for want of both, the default.
    fn timeout(&self, request: &Request<Body>) -> Option<Duration> {
        // A malformed value is left for the server to refuse.
        let own = wire::read(request.headers()).ok()?;
        let surrounding = Deadline::current().map(Deadline::remaining);
        let shortest = own.into_iter().chain(surrounding).min();
        // A stream lives as long as both sides like.
        shortest.or_else(|| (!self.methods.is_streaming(request.uri().path())).then_some(self.unary_default))
    }
}

impl<S> Service<Request<Body>> for PropagateDeadline<S>
where
    S: Service<Request<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(timeout) = self.timeout(&request) {
            wire::write(request.headers_mut(), timeout);
        }
        self.inner.call(request)
    }
}
