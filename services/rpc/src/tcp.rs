//! The generated client over a socket: one HTTP/2 connection, made by the first call and again after it broke.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use spillway_api::{Reason, Refusal};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::transport::Endpoint;
use tonic::{Status, TimeoutExpired};
use tower::{Service, ServiceExt, service_fn};

use crate::deadline::EnforceDeadline;
use crate::{Channel, ClientTls};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TcpConfig {
    /// For TCP and TLS together. A call waits at most this long, or until its deadline, for a connection.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// A connection is pinged this often, calls or not, so that a dead peer is found before the next call needs it.
    #[serde(with = "humantime_serde")]
    pub keepalive_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum InvalidEndpoint {
    #[error("endpoint {0} must be http://host:port or https://host:port")]
    Form(Uri),
    #[error("endpoint {0} is https, but no roots of trust are configured")]
    NoRoots(Uri),
}

/// A channel to `endpoint`. Nothing is connected before the first call. Must be called inside a runtime.
///
/// # Errors
///
/// When the endpoint can never be connected to.
pub fn tcp(endpoint: Uri, config: &TcpConfig, tls: Option<&ClientTls>) -> Result<Channel, InvalidEndpoint> {
    let (Some(authority), Some(scheme)) = (endpoint.authority().cloned(), endpoint.scheme_str()) else {
        return Err(InvalidEndpoint::Form(endpoint));
    };
    let tls = match (scheme, tls) {
        ("http", _) => None,
        ("https", Some(tls)) => Some(tls.clone()),
        ("https", None) => return Err(InvalidEndpoint::NoRoots(endpoint)),
        _ => return Err(InvalidEndpoint::Form(endpoint)),
    };
    let default_port = if tls.is_some() { 443 } else { 80 };
    let peer = Arc::new(Peer {
        host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: authority.port_u16().unwrap_or(default_port),
        tls,
    });
    let channel = Endpoint::from(endpoint)
        .connect_timeout(config.connect_timeout)
        .http2_keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(service_fn(move |_: Uri| Arc::clone(&peer).connect()));
    // The deadline is enforced here as well as at the server: it covers connecting, and a server that went silent.
    let timed = EnforceDeadline::new(Socket { channel });
    Ok(Channel::new(ServiceExt::<Request<Body>>::map_response(timed, |response: Response<_>| {
        response.map(Body::new)
    })))
}

struct Peer {
    host: String,
    port: u16,
    tls: Option<ClientTls>,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Peer {
    async fn connect(self: Arc<Self>) -> io::Result<TokioIo<Box<dyn Io>>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // Calls are small and each waits for its answer.
        stream.set_nodelay(true)?;
        let io: Box<dyn Io> = match &self.tls {
            Some(tls) => Box::new(tls.connect(&self.host, stream).await?),
            None => Box::new(stream),
        };
        Ok(TokioIo::new(io))
    }
}

/// The library's channel, with its errors made ours.
#[derive(Clone)]
struct Socket {
    channel: tonic::transport::Channel,
}

impl Service<Request<Body>> for Socket {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    /// Always ready: waiting for a connection is part of the call, so that the deadline covers it.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let channel = self.channel.clone();
        Box::pin(async move {
            let response = channel.oneshot(request).await.map_err(transport_status)?;
            // An error here is the transport's too: the server's own status comes as trailers.
            Ok(response.map(|body| Body::new(body.map_err(transport_status))))
        })
    }
}

/// The library reports its own timeout as `CANCELLED`, and a broken connection as one of several codes.
fn transport_status(error: impl Error + Send + Sync + 'static) -> Status {
    let timed_out = has_source::<TimeoutExpired>(&error);
    let refusal = if timed_out {
        Refusal::new(Reason::Deadline, "the call's deadline has passed")
    } else {
        Refusal::new(Reason::Unavailable, "the connection failed")
    };
    let mut status = refusal.into_status();
    status.set_source(Arc::new(error));
    status
}

fn has_source<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    error.is::<E>() || error.source().is_some_and(has_source::<E>)
}
