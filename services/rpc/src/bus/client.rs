//! The caller's side.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, header};
use spillway_api::{Reason, Refusal};
use spillway_bus::nats::{Headers, Nats, Reply, RequestError, Requests};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tower::service_fn;

use super::subjects::MethodSubject;
use super::{Partition, subjects, wire};
use crate::Channel;
use crate::deadline::Deadline;

/// For a call that has no deadline: a request must end, whatever became of its responder.
const WITHOUT_DEADLINE: Duration = Duration::from_secs(60);

/// A channel to all internal services, wherever in the fleet they run.
pub fn over_bus(nats: &Nats, requests: Requests) -> Channel {
    let bus = Arc::new(Bus { methods: subjects::of_methods(|tail| nats.subject(tail)), requests });
    Channel::new(service_fn(move |request| {
        let bus = Arc::clone(&bus);
        async move { bus.call(request).await }
    }))
}

struct Bus {
    methods: HashMap<String, MethodSubject>,
    requests: Requests,
}

impl Bus {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (head, body) = request.into_parts();
        let method = match self.methods.get(head.uri.path()) {
            Some(method) if !method.streaming => method,
            _ => return Err(Status::unimplemented("only unary calls of internal services go over the bus")),
        };
        // A malformed value is left for the server to refuse.
        let deadline = Deadline::of_headers(&head.headers)
            .map_or_else(|| Instant::now() + WITHOUT_DEADLINE, Deadline::instant);
        let whole = wire::collect(body).await?;
        let mut headers = Headers::default();
        wire::write(&head.headers, &mut headers).map_err(|_| {
            Refusal::new(Reason::InvalidArgument, "metadata cannot be sent over the bus").into_status()
        })?;
        let partition = head.extensions.get::<Partition>().copied().unwrap_or_default();
        let request = spillway_bus::nats::Request {
            subject: format!("{}{partition}", method.stem),
            headers,
            payload: whole.frame,
            cancel_subject: Some(Arc::clone(&method.cancel)),
        };
        let reply = self.requests.send(request, deadline).await.map_err(status)?;
        Ok(response(reply))
    }
}

fn response(reply: Reply) -> Response<Body> {
    let mut headers = wire::read(&reply.headers);
    headers.insert(header::CONTENT_TYPE, wire::CONTENT_TYPE);
    let body = if headers.contains_key(wire::GRPC_STATUS) {
        // Only a call that failed has its status there.
        Body::empty()
    } else {
        Body::new(wire::OneFrame::response(reply.payload))
    };
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

fn status(error: RequestError) -> Status {
    let (reason, retry_after) = match &error {
        RequestError::NoResponders => (Reason::NoServer, None),
        RequestError::Deadline => (Reason::Deadline, None),
        RequestError::Busy { retry_after } => (Reason::Busy, Some(*retry_after)),
        RequestError::Unanswered | RequestError::Disconnected => (Reason::Unavailable, None),
        RequestError::RequestTooLarge | RequestError::ReplyTooLarge => {
            return Status::out_of_range(error.to_string());
        }
        RequestError::Subject => (Reason::Internal, None),
    };
    Refusal::new(reason, error.to_string()).retry_after(retry_after).into_status()
}
