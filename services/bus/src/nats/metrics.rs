//! What connections to NATS, and requests over them, count.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use spillway_chassis::metrics::register;

/// One for each registry, shared by all connections of the process.
#[derive(Clone, Debug)]
pub(crate) struct NatsMetrics {
    connected: IntGaugeVec,
    disconnects: IntCounterVec,
    lame_duck: IntCounterVec,
    dropped: IntCounterVec,
    server_errors: IntCounterVec,
    requests_waiting: IntGauge,
    requests: IntCounterVec,
    calls: IntGaugeVec,
    refused: IntCounterVec,
}

/// Of one connection.
#[derive(Clone, Debug)]
pub(crate) struct LinkMetrics {
    pub(crate) connected: IntGauge,
    pub(crate) disconnects: IntCounter,
    pub(crate) lame_duck: IntCounter,
    pub(crate) dropped: IntCounter,
    pub(crate) server_errors: IntCounter,
}

/// Of all requests that this process makes.
#[derive(Clone, Debug)]
pub(crate) struct RequestMetrics {
    pub(crate) waiting: IntGauge,
    pub(crate) answered: IntCounter,
    pub(crate) deadline: IntCounter,
    pub(crate) no_responders: IntCounter,
    pub(crate) disconnected: IntCounter,
    pub(crate) abandoned: IntCounter,
}

/// Of one queue group that this process is a member of.
#[derive(Clone, Debug)]
pub(crate) struct ResponderMetrics {
    pub(crate) calls: IntGauge,
    pub(crate) busy: IntCounter,
    pub(crate) cancelled: IntCounter,
    pub(crate) unanswered: IntCounter,
}

impl NatsMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let connection = |name, help| register(registry, counter_vec(name, help, &["connection"]));
        Self {
            connected: register(
                registry,
                gauge_vec("spillway_nats_connected", "1 while the connection stands.", &["connection"]),
            ),
            disconnects: connection("spillway_nats_disconnects_total", "Connections that broke."),
            lame_duck: connection("spillway_nats_lame_duck_total", "Servers that said they will end."),
            dropped: connection("spillway_nats_dropped_total", "Messages dropped here: the reader was slow."),
            server_errors: connection(
                "spillway_nats_server_errors_total",
                "Errors reported by the server, such as missing permissions.",
            ),
            requests_waiting: register(
                registry,
                defined(IntGauge::new("spillway_nats_requests_waiting", "Requests without an answer yet.")),
            ),
            requests: register(
                registry,
                counter_vec("spillway_nats_requests_total", "Requests that ended.", &["outcome"]),
            ),
            calls: register(
                registry,
                gauge_vec("spillway_nats_calls", "Requests of others that are being served.", &["group"]),
            ),
            refused: register(
                registry,
                counter_vec(
                    "spillway_nats_calls_refused_total",
                    "Requests of others that got no answer of their handler.",
                    &["group", "reason"],
                ),
            ),
        }
    }

    pub(crate) fn link(&self, connection: &'static str) -> LinkMetrics {
        let labels = &[connection];
        LinkMetrics {
            connected: self.connected.with_label_values(labels),
            disconnects: self.disconnects.with_label_values(labels),
            lame_duck: self.lame_duck.with_label_values(labels),
            dropped: self.dropped.with_label_values(labels),
            server_errors: self.server_errors.with_label_values(labels),
        }
    }

    pub(crate) fn requests(&self) -> RequestMetrics {
        let outcome = |outcome| self.requests.with_label_values(&[outcome]);
        RequestMetrics {
            waiting: self.requests_waiting.clone(),
            answered: outcome("answered"),
            deadline: outcome("deadline"),
            no_responders: outcome("no_responders"),
            disconnected: outcome("disconnected"),
            abandoned: outcome("abandoned"),
        }
    }

    pub(crate) fn responder(&self, group: &str) -> ResponderMetrics {
        let refused = |reason| self.refused.with_label_values(&[group, reason]);
        ResponderMetrics {
            calls: self.calls.with_label_values(&[group]),
            busy: refused("busy"),
            cancelled: refused("cancelled"),
            unanswered: refused("unanswered"),
        }
    }
}

/// Registers what connections, requests and hints count, as if this process were a member of the queue group `group`, so that everything can be
/// described.
///
/// # Errors
///
/// When the registry has it already.
pub fn describe_metrics(registry: &Registry, group: &str) -> prometheus::Result<()> {
    let metrics = NatsMetrics::new(registry);
    for connection in ["calls", "requests", "work"] {
        metrics.link(connection);
    }
    metrics.requests();
    metrics.responder(group);
    super::hints::register_metrics(registry)
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
