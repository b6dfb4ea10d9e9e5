//! The admin port: health, metrics, log level, drain, and what the binary mounts beside them.
//!
//! **It has no authentication.** Whoever reaches it can stop the process, so it listens on loopback by default. A
//! deployment that must open it (for probes, or a scraper on another host) restricts it by network policy.
//!
//! It takes a listener that is bound already, so a port in use is found before anything starts. It answers throughout
//! the drain and ends when its own group of [`Tasks`] is cancelled; stop that group in the last step.

mod process;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{self, MethodRouter};
use axum::{Extension, Router};
use prometheus::{Registry, TextEncoder};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::exemplars::{self, Exemplars};
use crate::telemetry::{LogLevel, LogLevelError};
use crate::{DrainHandle, Health, HealthReport, Tasks};

/// A log filter is the largest body that is accepted.
const BODY_BYTES_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Loopback by default, because the admin port has no authentication.
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        // 9464 is the port that OpenTelemetry's exporters for Prometheus use.
        Self { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464) }
    }
}

#[derive(Debug)]
pub struct AdminServer {
    router: Router,
    exemplars: Exemplars,
}

#[derive(Clone, Debug)]
struct Admin {
    health: Health,
    drain: DrainHandle,
    registry: Registry,
    log_level: LogLevel,
}

/// Registers the `process_*` metrics, so that they can be described.
///
/// # Errors
///
/// When the registry has them already.
pub fn describe_metrics(registry: &Registry) -> prometheus::Result<()> {
    registry.register(Box::new(process::ProcessCollector::new()))
}

impl AdminServer {
    /// Serves what `registry` holds and adds the `process_*` metrics to it.
    ///
    /// # Panics
    ///
    /// When `registry` has `process_*` metrics already.
    pub fn new(health: Health, drain: DrainHandle, registry: Registry, log_level: LogLevel) -> Self {
        let process = Box::new(process::ProcessCollector::new());
        registry.register(process).expect("one admin server per registry");
        let router = Router::new()
            .route("/health/live", routing::get(live))
            .route("/health/ready", routing::get(ready))
            .route("/metrics", routing::get(metrics))
            .route("/log-level", routing::get(log_level_get).put(log_level_put))
            .route("/drain", routing::post(drain_post))
            .with_state(Admin { health, drain, registry, log_level });
        Self { router, exemplars: Exemplars::default() }
    }

    /// Shows these to a scraper that accepts OpenMetrics.
    #[must_use]
    pub fn with_exemplars(mut self, exemplars: &Exemplars) -> Self {
        self.exemplars = exemplars.clone();
        self
    }

    /// Adds a route, in the syntax of `axum` (`/limits`, `/users/{id}`).
    ///
    /// # Panics
    ///
    /// When the path is malformed or taken.
    #[must_use]
    pub fn route(mut self, path: &str, method_router: MethodRouter) -> Self {
        self.router = self.router.route(path, method_router);
        self
    }

    /// Serves until `tasks` is cancelled, then lets the requests in hand finish. Returns the address it listens on.
    ///
    /// # Errors
    ///
    /// When the listener has no address.
    pub fn serve(self, listener: TcpListener, tasks: &Tasks) -> io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        let limit = DefaultBodyLimit::max(BODY_BYTES_MAX);
        let router = self.router.layer(limit).layer(Extension(self.exemplars));
        let server = axum::serve(listener, router).with_graceful_shutdown(tasks.cancelled());
        tasks.spawn("admin", async move {
            if let Err(error) = server.await {
                tracing::error!(error = &error as &dyn std::error::Error, "admin port failed");
            }
        });
        Ok(address)
    }
}

async fn live(State(admin): State<Admin>) -> (StatusCode, Json<HealthReport>) {
    let report = admin.health.report();
    (status(report.live), Json(report))
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, Json<HealthReport>) {
    let report = admin.health.report();
    (status(report.ready), Json(report))
}

fn status(healthy: bool) -> StatusCode {
    if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// The classic text, or OpenMetrics with exemplars for who accepts it, as Prometheus does where exemplars are switched on.
async fn metrics(
    State(admin): State<Admin>,
    Extension(exemplars): Extension<Exemplars>,
    headers: HeaderMap,
) -> Response {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepted.flat_map(|value| value.split(',')).any(is_open_metrics) {
        let text = exemplars::encode(&admin.registry.gather(), &exemplars);
        return ([(header::CONTENT_TYPE, exemplars::CONTENT_TYPE)], text).into_response();
    }
    match TextEncoder::new().encode_to_string(&admin.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "metrics cannot be encoded");
            (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be encoded\n").into_response()
        }
    }
}

fn is_open_metrics(accepted: &str) -> bool {
    let mut parts = accepted.split(';').map(str::trim);
    parts.next() == Some("application/openmetrics-text") && !parts.any(|part| matches!(part, "q=0" | "q=0.0"))
}

async fn log_level_get(State(admin): State<Admin>) -> String {
    format!("{}\n", admin.log_level.get())
}

async fn log_level_put(State(admin): State<Admin>, directives: String) -> (StatusCode, String) {
    match admin.log_level.set(&directives) {
        Ok(()) => (StatusCode::OK, format!("{}\n", admin.log_level.get())),
        Err(error @ LogLevelError::Invalid { .. }) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
        Err(error @ LogLevelError::Gone(_)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

async fn drain_post(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    admin.drain.begin();
    (StatusCode::ACCEPTED, "draining\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::telemetry::{self, TelemetryConfig};
    use crate::{Component, Drain};

    struct Served {
        address: SocketAddr,
        tasks: Tasks,
        drain: Drain,
        store: Component,
        // Keeps the log filter alive; never installed.
        _subscriber: Box<dyn std::any::Any>,
    }

    async fn serve() -> Served {
        let tasks = Tasks::new();
        let drain = Drain::new(&tasks);
        let health = Health::new(drain.handle());
        let store = health.component("store", "replaying journal");
        let (subscriber, log_level) =
            telemetry::subscriber(&TelemetryConfig::default(), std::io::sink, false).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = AdminServer::new(health, drain.handle(), Registry::new(), log_level)
            .route("/limits", routing::get(async || "none\n"))
            .serve(listener, &tasks)
            .unwrap();
        Served { address, tasks, drain, store, _subscriber: Box::new(subscriber) }
    }

    impl Served {
        /// Status and body of one request.
        async fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
            let length = body.len();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            (status, body.to_owned())
        }
    }

    #[tokio::test]
    async fn ready_follows_components_and_drain_while_live_stays() {
        let served = serve().await;
        let (status, body) = served.call("GET", "/health/ready", "").await;
        assert_eq!(status, 503);
        let report: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(report["components"]["store"]["reason"], "replaying journal");

        served.store.ready();
        assert_eq!(served.call("GET", "/health/ready", "").await.0, 200);

        assert_eq!(served.call("POST", "/drain", "").await.0, 202);
        assert!(served.drain.handle().is_draining());
        let (status, body) = served.call("GET", "/health/ready", "").await;
        assert_eq!(status, 503);
        assert!(body.contains("draining"), "{body}");
        assert_eq!(served.call("GET", "/health/live", "").await.0, 200);

        served.drain.handle().fatal("fsync failed");
        assert_eq!(served.call("GET", "/health/live", "").await.0, 503);
    }

    #[tokio::test]
    async fn log_level_is_read_changed_and_defended() {
        let served = serve().await;
        assert_eq!(served.call("GET", "/log-level", "").await, (200, "info\n".to_owned()));
        assert_eq!(served.call("PUT", "/log-level", "debug\n").await, (200, "debug\n".to_owned()));
        let (status, body) = served.call("PUT", "/log-level", "loud").await;
        assert_eq!(status, 400);
        assert!(body.contains("\"loud\" is not a log filter; give a level (off, error"), "{body}");
        assert_eq!(served.call("PUT", "/log-level", &"x".repeat(BODY_BYTES_MAX + 1)).await.0, 413);
        assert_eq!(served.call("GET", "/log-level", "").await.1, "debug\n");
    }

    #[tokio::test]
    async fn metrics_and_mounted_routes_are_served_until_the_group_is_stopped() {
        let served = serve().await;
        let (status, body) = served.call("GET", "/metrics", "").await;
        assert_eq!(status, 200);
        assert!(body.contains("process_start_time_seconds"), "{body}");
        assert_eq!(served.call("GET", "/limits", "").await, (200, "none\n".to_owned()));
        assert_eq!(served.call("GET", "/nothing", "").await.0, 404);
        assert!(!body.contains("# EOF"), "the classic text");
        let accepted = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6";
        assert!(is_open_metrics(accepted) && is_open_metrics(" application/openmetrics-text"));
        assert!(!is_open_metrics("application/openmetrics-text;q=0") && !is_open_metrics("text/plain;q=0.5"));

        served.tasks.close_and_wait(Duration::from_secs(10)).await.unwrap();
        TcpStream::connect(served.address).await.unwrap_err();
    }
}
