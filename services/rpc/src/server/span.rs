//! A span for each call: of the trace, where the call is followed, and otherwise one of the log at debug level, so that it costs next to
//! nothing in production.
//!
//! Who comes over a socket is from outside: his call is followed by chance, and what he says of a trace is believed only then. Who comes
//! over the bus or from within the process is one of us, and his call is followed if he says so.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use spillway_chassis::traces::{self, TraceParent};
use tonic::Code;
use tower::Service;
use tracing::Span;
use tracing::field::Empty;

use crate::methods::Methods;
use crate::metrics::{CallError, TraceId, code_label, status_code};
use crate::server::Caller;

#[derive(Clone, Debug)]
pub(crate) struct Spanned<S> {
    inner: S,
    methods: Arc<Methods>,
}

impl<S> Spanned<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, methods: Methods::all() }
    }
}

impl<S, R, B> Service<Request<R>> for Spanned<S>
where
    S: Service<Request<R>, Response = Response<B>, Error: CallError>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = SpannedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let path = request.uri().path();
        let span = match followed(&request) {
            None => tracing::debug_span!("rpc", path),
            Some(parent) => {
                let span = call_span(self.methods.name(path), "server");
                if let Some(parent) = parent {
                    parent.adopt(&span);
                }
                span
            }
        };
        let inner = span.in_scope(|| self.inner.call(request));
        SpannedFuture { inner, span }
    }
}

/// Whether the call is followed, and where it comes from.
fn followed<R>(request: &Request<R>) -> Option<Option<TraceParent>> {
    if !traces::is_on() {
        return None;
    }
    let told = || TraceParent::parse(request.headers().get(traces::TRACEPARENT)?.to_str().ok()?);
    let is_from_outside = request.extensions().get::<Caller>().is_some();
    if is_from_outside { traces::is_chosen(rand::random::<f64>).then(told) } else { told().map(Some) }
}

/// The span of one side of a call.
pub(crate) fn call_span(method: &str, kind: &'static str) -> Span {
    tracing::debug_span!(
        target: traces::TARGET,
        "rpc",
        otel.name = method,
        otel.kind = kind,
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.status_code = Empty,
    )
}

pin_project! {
    pub(crate) struct SpannedFuture<F> {
        #[pin]
        pub(crate) inner: F,
        pub(crate) span: Span,
    }
}

impl<F, B, E> Future for SpannedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: CallError,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut outcome = ready!(this.span.in_scope(|| this.inner.poll(cx)));
        if let Some(place) = TraceParent::of(this.span) {
            match &mut outcome {
                Ok(response) => {
                    // Only a call that failed has its status there.
                    record(this.span, status_code(response.headers()));
                    // For the histograms further out.
                    response.extensions_mut().insert(TraceId(place.trace_id()));
                }
                Err(error) => record(this.span, Some(error.code())),
            }
        }
        Poll::Ready(outcome)
    }
}

fn record(span: &Span, code: Option<Code>) {
    let Some(code) = code else { return };
    span.record("rpc.status_code", code_label(code));
    // What the caller did wrong is no error of the server.
    let ours = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if ours {
        span.record("otel.status_code", "ERROR");
    }
}
