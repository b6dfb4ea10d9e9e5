//! A span for each call at debug level, so that it costs next to nothing in production.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::Request;
use pin_project_lite::pin_project;
use tower::Service;
use tracing::Span;

#[derive(Clone, Debug)]
pub(crate) struct Spanned<S> {
    inner: S,
}

impl<S> Spanned<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, R> Service<Request<R>> for Spanned<S>
where
    S: Service<Request<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = SpannedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let span = tracing::debug_span!("rpc", path = request.uri().path());
        let inner = span.in_scope(|| self.inner.call(request));
        SpannedFuture { inner, span }
    }
}

pin_project! {
    pub(crate) struct SpannedFuture<F> {
        #[pin]
        inner: F,
        span: Span,
    }
}

impl<F: Future> Future for SpannedFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.span.in_scope(|| this.inner.poll(cx))
    }
}
