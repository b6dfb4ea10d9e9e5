//! The server's side: the same stack as in front of a socket.

use std::time::Duration;

use http::{HeaderMap, Request, Uri, header};
use serde::{Deserialize, Serialize};
use spillway_bus::nats::{AnswerError, Group, Headers, Incoming, Limits, Responders};
use spillway_chassis::Tasks;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::{subjects, wire};
use crate::Server;
use crate::server::{Stack, stack};

/// Limits of one service on the bus.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BusServerConfig {
    /// Calls of one service that this process handles at a time; one more is refused as BUSY at once, so that its
    /// caller can try another process. A call between roles mostly waits for the store, and holds at most 512 kB.
    pub concurrency_max: usize,
    /// When callers that were refused should come back.
    #[serde(with = "humantime_serde")]
    pub busy_retry_after: Duration,
    /// How long calls may take to end once the service stops to take any.
    #[serde(with = "humantime_serde")]
    pub drain_max: Duration,
}

impl Default for BusServerConfig {
    fn default() -> Self {
        Self {
            concurrency_max: 1_024,
            busy_retry_after: Duration::from_millis(100),
            drain_max: Duration::from_secs(5),
        }
    }
}

impl Server {
    /// Serves the unary methods of the internal services added so far to the fleet, until `tasks` is cancelled.
    /// Then it leaves the queue groups first, and waiting for `tasks` waits for the calls in flight.
    pub async fn serve_bus(self, responders: &Responders, config: &BusServerConfig, tasks: &Tasks) {
        let stack = stack(self.routes(), self.hop(), self.metrics());
        for service in self.service_names() {
            let below = |tail: &str| responders.nats().subject(tail);
            let Some(subjects) = subjects::of_service(service, below) else {
                continue;
            };
            let group =
                Group { subject: subjects.calls, name: subjects.name, cancel_subject: subjects.cancels };
            let limits = Limits {
                concurrency_max: config.concurrency_max,
                retry_after: config.busy_retry_after,
                drain_max: config.drain_max,
            };
            let methods = subjects.paths;
            let stack = stack.clone();
            let handler = move |incoming: Incoming| {
                let method = subjects::method(incoming.subject());
                let uri = method.and_then(|token| methods.get(token)).cloned();
                handle(stack.clone(), uri, incoming)
            };
            responders.join(group, limits, tasks, handler).await;
        }
    }
}

async fn handle(stack: Stack, uri: Option<Uri>, incoming: Incoming) {
    let outcome = match uri {
        Some(uri) => call(stack, uri, &incoming).await,
        None => Err(Status::unimplemented("no such method on the bus")),
    };
    let (headers, frame) = outcome.unwrap_or_else(|status| (of_status(&status), bytes::Bytes::new()));
    match incoming.answer(headers, frame).await {
        Ok(()) => {}
        // The caller has been told, or is gone with the connection.
        Err(error @ (AnswerError::TooLarge | AnswerError::Disconnected)) => {
            tracing::debug!(%error, "an answer did not arrive");
        }
    }
}

/// The headers and the frame to answer with.
async fn call(mut stack: Stack, uri: Uri, incoming: &Incoming) -> Result<(Headers, bytes::Bytes), Status> {
    let mut request = Request::post(uri)
        .body(Body::new(wire::OneFrame::request(incoming.payload())))
        .expect("a method and a path make a request");
    *request.headers_mut() = wire::read(incoming.headers());
    request.headers_mut().insert(header::CONTENT_TYPE, wire::CONTENT_TYPE);
    let Ok(response) = stack.call(request).await;
    let (head, body) = response.into_parts();
    let whole = wire::collect(body).await?;
    let trailers = whole.trailers.unwrap_or_default();
    let has_status = |headers: &HeaderMap| headers.contains_key(wire::GRPC_STATUS);
    if !has_status(&head.headers) && !has_status(&trailers) {
        return Err(Status::internal("the response has no status"));
    }
    let mut headers = Headers::default();
    let written =
        wire::write(&head.headers, &mut headers).and_then(|()| wire::write(&trailers, &mut headers));
    written.map_err(|_| Status::internal("metadata of the response cannot be sent over the bus"))?;
    Ok((headers, whole.frame))
}

fn of_status(status: &Status) -> Headers {
    let mut headers = Headers::default();
    let mut map = HeaderMap::new();
    if status.add_header(&mut map).is_err() || wire::write(&map, &mut headers).is_err() {
        // The callers of this give texts that fit.
        tracing::debug!("a status cannot be sent over the bus");
    }
    headers
}
