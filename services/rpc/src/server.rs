//! A port: its services, its limits, its connections.
//!
//! Stopping is the drain's business: cancelling the `tasks` that a server was given stops accepting and tells every
//! connection to go away, and waiting for them waits for the calls in flight. A drain that has only begun changes
//! nothing here, because clients still arrive until their balancers have noticed.

mod activity;
mod config;
mod connection;
mod first_poll;
mod health;
mod quiet;
mod reflection;
mod socket;
mod span;
mod stack;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use spillway_chassis::{Health, Tasks};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::{Routes, RoutesBuilder};
use tower::Service;

pub use config::ServerConfig;
pub(crate) use span::{SpannedFuture, call_span};
pub(crate) use stack::{Stack, StackBody, stack};

use crate::{Channel, Hop, ServerMetrics, ServerTls, in_process};
use connection::Port;
pub(crate) use quiet::{Awaited, Quiet, Unheard};

/// After a failed accept, which is nearly always a lack of file descriptors: time for some to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const HEALTH: &str = "grpc.health.v1.Health";

/// Who calls over a socket.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) peer: SocketAddr,
    pub(crate) quiet: Quiet,
}

/// Where a call came from, for quotas of networks. Only the public edge may use it: calls in process have none.
pub fn peer_address<T>(request: &tonic::Request<T>) -> Option<SocketAddr> {
    request.extensions().get().map(|caller: &Caller| caller.peer)
}

/// The services of one port, before it opens.
pub struct Server {
    config: ServerConfig,
    name: &'static str,
    metrics: ServerMetrics,
    hop: Option<Hop>,
    routes: RoutesBuilder,
    service_names: Vec<&'static str>,
}

impl Server {
    /// `name` tells ports apart in metrics and logs, such as `public`.
    pub fn new(config: ServerConfig, name: &'static str, metrics: &ServerMetrics) -> Self {
        Self {
            config,
            name,
            metrics: metrics.clone(),
            hop: None,
            routes: RoutesBuilder::default(),
            service_names: Vec::new(),
        }
    }

    /// Adds a generated server, which should have been given `max_decoding_message_size` from
    /// [`ServerConfig::request_bytes_max`].
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible, Future: Send>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.routes.add_service(service);
        self.service_names.push(S::NAME);
        self
    }

    /// Puts calls that come over a socket or the bus under overload control.
    pub fn admit(mut self, hop: Hop) -> Self {
        self.hop = Some(hop);
        self
    }

    /// Adds `grpc.health.v1`. The process and each service added so far are serving while `health` is ready.
    pub fn add_health(mut self, health: &Health, tasks: &Tasks) -> Self {
        let mut names = self.service_names.clone();
        // The empty name is the whole server.
        names.push("");
        let service = health::follow(health, names, tasks);
        self.routes.add_service(service);
        self.service_names.push(HEALTH);
        self
    }

    /// Adds server reflection of the services added so far: v1, and v1alpha for tools from before 2023.
    pub fn add_reflection(mut self) -> Self {
        self.routes.add_service(reflection::v1(&self.service_names));
        self.routes.add_service(reflection::v1alpha(&self.service_names));
        self
    }

    /// A channel that reaches the same services without a socket.
    pub fn in_process(&self) -> Channel {
        in_process(self.routes(), &self.metrics)
    }

    /// Starts to accept, in tasks of `tasks`, until that is cancelled.
    pub fn serve(self, listener: TcpListener, tls: Option<ServerTls>, tasks: &Tasks) {
        let port = Port {
            stack: stack(self.routes(), self.hop.clone(), &self.metrics),
            metrics: self.metrics.connections(self.name),
            tasks: tasks.clone(),
            config: self.config,
            tls,
        };
        tasks.spawn_critical("rpc accept", accept(listener, Arc::new(port), self.name));
    }

    pub(crate) fn routes(&self) -> Routes {
        self.routes.clone().routes()
    }

    pub(crate) fn hop(&self) -> Option<Hop> {
        self.hop.clone()
    }

    pub(crate) const fn metrics(&self) -> &ServerMetrics {
        &self.metrics
    }

    pub(crate) fn service_names(&self) -> &[&'static str] {
        &self.service_names
    }
}

async fn accept(listener: TcpListener, port: Arc<Port>, server: &'static str) {
    let permits = Arc::new(Semaphore::new(port.config.connections_max.min(Semaphore::MAX_PERMITS)));
    let mut cancelled = std::pin::pin!(port.tasks.cancelled());
    loop {
        let accepted = tokio::select! {
            () = cancelled.as_mut() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(server, %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => {
                port.tasks.spawn("rpc connection", Arc::clone(&port).serve(stream, peer, permit));
            }
            // Closed at once, so that the client tries another server, not left in the backlog until it gives up.
            Err(_full) => port.metrics.refused_limit.inc(),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("services", &self.service_names)
            .finish_non_exhaustive()
    }
}
