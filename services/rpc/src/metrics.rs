//! Counts and latencies of calls, by method, from one layer for every service.
//!
//! Labels come from the descriptors; a path that is not in them counts as `other`. A call's code starts as
//! `cancelled`, so that one which its caller dropped is counted too. The length of a stream is no latency: streams are
//! started, in flight and handled like other calls, but not in the histogram.

mod metered;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use spillway_chassis::exemplars::{Exemplars, Slots};
use spillway_chassis::metrics::{LATENCY_SECONDS, register};
use tokio::time::Instant;
use tonic::Code;

use crate::methods::Methods;

pub(crate) use metered::{CallError, Metered, MeteredBody, status_code};

/// Of the trace that a call belongs to, in the extensions of its response.
#[derive(Clone, Debug)]
pub(crate) struct TraceId(pub(crate) String);

/// What servers count. One for each registry, shared by all servers of the process.
#[derive(Clone, Debug)]
pub struct ServerMetrics {
    calls: Arc<CallMetrics>,
    connections: IntGaugeVec,
    connections_refused: IntCounterVec,
}

/// The connections of one port.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionMetrics {
    pub(crate) open: IntGauge,
    pub(crate) refused_limit: IntCounter,
    pub(crate) refused_tls: IntCounter,
    pub(crate) refused_silent: IntCounter,
    pub(crate) refused_unread: IntCounter,
}

/// What callers count. One for each registry.
#[derive(Clone, Debug)]
pub struct ClientMetrics {
    calls: Arc<CallMetrics>,
}

impl ServerMetrics {
    pub fn new(registry: &Registry) -> Self {
        Self::with_exemplars(registry, &Exemplars::default())
    }

    /// The same, and latencies of calls that are followed are noted in `exemplars`.
    pub fn with_exemplars(registry: &Registry, exemplars: &Exemplars) -> Self {
        Self {
            calls: CallMetrics::new(registry, "spillway_rpc_server", exemplars),
            connections: register(
                registry,
                gauge_vec("spillway_rpc_server_connections", "Open connections.", &["server"]),
            ),
            connections_refused: register(
                registry,
                counter_vec(
                    "spillway_rpc_server_connections_refused_total",
                    "Connections closed before their first call, or because what lay unread was too late.",
                    &["server", "reason"],
                ),
            ),
        }
    }

    /// Unary calls of a service, such as `spillway.internal.v1.Mailbox`, that are being served.
    pub fn in_flight(&self, service: &str) -> u64 {
        let in_flight = |method: &MethodMetrics| u64::try_from(method.in_flight.get()).unwrap_or(0);
        self.calls.unary_methods(service).map(in_flight).sum()
    }

    /// Unary calls of a service that have ended with `code`, since the start of the process.
    pub fn ended_with(&self, service: &str, code: Code) -> u64 {
        let ended =
            |method: &MethodMetrics| method.handled_by_code[code as usize].get().map_or(0, IntCounter::get);
        self.calls.unary_methods(service).map(ended).sum()
    }

    pub(crate) fn calls(&self) -> Arc<CallMetrics> {
        Arc::clone(&self.calls)
    }

    pub(crate) fn connections(&self, server: &str) -> ConnectionMetrics {
        let refused = |reason| self.connections_refused.with_label_values(&[server, reason]);
        ConnectionMetrics {
            open: self.connections.with_label_values(&[server]),
            refused_limit: refused("limit"),
            refused_tls: refused("tls"),
            refused_silent: refused("silent"),
            refused_unread: refused("unread"),
        }
    }
}

impl ClientMetrics {
    pub fn new(registry: &Registry) -> Self {
        Self::with_exemplars(registry, &Exemplars::default())
    }

    /// The same, and latencies of calls that are followed are noted in `exemplars`.
    pub fn with_exemplars(registry: &Registry, exemplars: &Exemplars) -> Self {
        Self { calls: CallMetrics::new(registry, "spillway_rpc_client", exemplars) }
    }

    pub(crate) fn calls(&self) -> Arc<CallMetrics> {
        Arc::clone(&self.calls)
    }
}

#[derive(Debug)]
pub(crate) struct CallMetrics {
    by_path: HashMap<String, Arc<MethodMetrics>>,
    other: Arc<MethodMetrics>,
}

/// The series of one method, looked up once.
#[derive(Debug)]
struct MethodMetrics {
    service: String,
    method: String,
    started: IntCounter,
    in_flight: IntGauge,
    /// None for streams.
    duration: Option<Histogram>,
    exemplars: Option<Slots>,
    handled: IntCounterVec,
    /// By code; made by the first call that ends with it, because most methods know few codes.
    handled_by_code: [OnceLock<IntCounter>; CODES],
}

/// Codes are 0 to 16.
const CODES: usize = 17;

impl CallMetrics {
    fn new(registry: &Registry, prefix: &str, exemplars: &Exemplars) -> Arc<Self> {
        let families = Families { exemplars: exemplars.clone(), ..Families::register(registry, prefix) };
        let by_path = Methods::all()
            .iter()
            .map(|(path, method)| {
                let metrics = families.method(&method.service, &method.name, method.streaming);
                (path.to_owned(), Arc::new(metrics))
            })
            .collect();
        Arc::new(Self { by_path, other: Arc::new(families.method("other", "other", false)) })
    }

    fn unary_methods(&self, service: &str) -> impl Iterator<Item = &MethodMetrics> {
        let methods = self.by_path.values().map(Arc::as_ref);
        methods.filter(move |method| method.service == service && method.duration.is_some())
    }

    pub(crate) fn start(&self, path: &str) -> Call {
        let method = Arc::clone(self.by_path.get(path).unwrap_or(&self.other));
        method.started.inc();
        method.in_flight.inc();
        Call { method, started: Instant::now(), code: Code::Cancelled, trace: None }
    }
}

/// One call, from its headers to the end of its response or the moment it is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    method: Arc<MethodMetrics>,
    started: Instant,
    code: Code,
    trace: Option<Box<TraceId>>,
}

impl Call {
    pub(crate) fn is_of(&mut self, trace: Option<&TraceId>) {
        self.trace = trace.cloned().map(Box::new);
    }

    pub(crate) fn ended_with(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let method = &self.method;
        method.in_flight.dec();
        method.handled_by_code[self.code as usize]
            .get_or_init(|| {
                let labels = [method.service.as_str(), method.method.as_str(), code_label(self.code)];
                method.handled.with_label_values(&labels)
            })
            .inc();
        if let Some(duration) = &method.duration {
            let seconds = self.started.elapsed().as_secs_f64();
            duration.observe(seconds);
            if let (Some(trace), Some(exemplars)) = (self.trace.take(), &method.exemplars) {
                exemplars.note(seconds, trace.0);
            }
        }
    }
}

struct Families {
    duration_name: String,
    exemplars: Exemplars,
    started: IntCounterVec,
    in_flight: IntGaugeVec,
    handled: IntCounterVec,
    duration: HistogramVec,
}

impl Families {
    fn register(registry: &Registry, prefix: &str) -> Self {
        let method = ["service", "method"];
        let duration_name = format!("{prefix}_duration_seconds");
        let duration = HistogramOpts::new(
            duration_name.clone(),
            "From a unary call's headers to the end of its response.",
        )
        .buckets(LATENCY_SECONDS.to_vec());
        Self {
            duration_name,
            exemplars: Exemplars::default(),
            started: register(
                registry,
                counter_vec(&format!("{prefix}_started_total"), "Calls and streams begun.", &method),
            ),
            in_flight: register(
                registry,
                gauge_vec(&format!("{prefix}_in_flight"), "Calls and streams that have not ended.", &method),
            ),
            handled: register(
                registry,
                counter_vec(
                    &format!("{prefix}_requests_total"),
                    "Calls and streams ended, by gRPC code; cancelled when the caller left.",
                    &["service", "method", "code"],
                ),
            ),
            duration: register(registry, defined(HistogramVec::new(duration, &method))),
        }
    }

    fn method(&self, service: &str, method: &str, streaming: bool) -> MethodMetrics {
        let labels = [service, method];
        MethodMetrics {
            service: service.to_owned(),
            method: method.to_owned(),
            started: self.started.with_label_values(&labels),
            in_flight: self.in_flight.with_label_values(&labels),
            duration: (!streaming).then(|| self.duration.with_label_values(&labels)),
            exemplars: (!streaming).then(|| {
                let labels = [("service", service), ("method", method)];
                self.exemplars.slots(&self.duration_name, &labels, LATENCY_SECONDS)
            }),
            handled: self.handled.clone(),
            handled_by_code: [const { OnceLock::new() }; CODES],
        }
    }
}

/// Registers what servers and callers count, as if there had been a call and a port `server`, so that everything can be described.
pub fn describe_metrics(registry: &Registry, server: &str) {
    let metrics = ServerMetrics::new(registry);
    metrics.connections(server);
    // A call that is dropped has ended.
    drop(metrics.calls().start(""));
    drop(ClientMetrics::new(registry).calls().start(""));
}

fn counter_vec(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    defined(IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauge_vec(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    defined(IntGaugeVec::new(Opts::new(name, help), labels))
}

fn defined<C: Collector>(metric: prometheus::Result<C>) -> C {
    metric.expect("names and labels are constants that Prometheus accepts")
}

/// The names of the gRPC specification, in lower case.
pub(crate) fn code_label(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}
