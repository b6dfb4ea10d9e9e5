//! Takes a trace along: a call that is made while another is followed is a part of that one's trace.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response};
use spillway_chassis::traces::{self, TraceParent};
use tonic::body::Body;
use tower::Service;
use tracing::Span;

use crate::methods::Methods;
use crate::metrics::CallError;
use crate::server::{SpannedFuture, call_span};

#[derive(Clone, Debug)]
pub(crate) struct Follow<S> {
    inner: S,
    methods: Arc<Methods>,
}

impl<S> Follow<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, methods: Methods::all() }
    }
}

impl<S, B> Service<Request<Body>> for Follow<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error: CallError>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = SpannedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let span = if traces::is_traced() {
            call_span(self.methods.name(request.uri().path()), "client")
        } else {
            Span::none()
        };
        if let Some(place) = TraceParent::of(&span) {
            let place = HeaderValue::try_from(place.to_string()).expect("digits and dashes are a header");
            request.headers_mut().insert(traces::TRACEPARENT, place);
        }
        let inner = span.in_scope(|| self.inner.call(request));
        SpannedFuture { inner, span }
    }
}
