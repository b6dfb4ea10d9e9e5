//! The generated client directly on the generated server.
//!
//! Requests are encoded, sized and mapped to a status as on the wire; only HTTP/2 and the kernel are skipped. There is
//! no task for each call, so a call costs microseconds, and a caller that leaves drops the handler with it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use pin_project_lite::pin_project;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use crate::server::{Stack, StackBody, stack};
use crate::{Channel, ServerMetrics};

/// A channel to `routes`, through the stack that a socket would have in front of them. But for admission: whoever calls
/// within a process was admitted where he came into it, and would have to wait for his own seat.
pub fn in_process(routes: Routes, metrics: &ServerMetrics) -> Channel {
    Channel::new(InProcess { stack: stack(routes, None, metrics) })
}

#[derive(Clone)]
struct InProcess {
    stack: Stack,
}

impl Service<Request<Body>> for InProcess {
    type Response = Response<Body>;
    type Error = Status;
    type Future = InProcessFuture<<Stack as Service<Request<Body>>>::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Service::<Request<Body>>::poll_ready(&mut self.stack, cx).map_err(|never| match never {})
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // Extensions do not cross a socket. Code that relied on them would work here and fail once split.
        *request.extensions_mut() = Extensions::new();
        InProcessFuture { inner: self.stack.call(request) }
    }
}

pin_project! {
    struct InProcessFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F> Future for InProcessFuture<F>
where
    F: Future<Output = Result<Response<StackBody>, Infallible>>,
{
    type Output = Result<Response<Body>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx).map(|outcome| {
            let Ok(mut response) = outcome;
            *response.extensions_mut() = Extensions::new();
            Ok(response.map(Body::new))
        })
    }
}
