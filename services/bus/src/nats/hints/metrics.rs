//! What the hints' connections did.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub(super) inward: LinkMetrics,
    pub(super) outward: LinkMetrics,
    /// Subjects that a server has been asked for.
    pub(super) interest: IntGauge,
    pub(super) dropped_disconnected: IntCounter,
    pub(super) dropped_full: IntCounter,
    pub(super) dropped_too_large: IntCounter,
    pub(super) dropped_refused: IntCounter,
    pub(super) dropped_unmatched: IntCounter,
}

/// Of all links of one direction.
#[derive(Clone, Debug)]
pub(super) struct LinkMetrics {
    pub(super) connected: IntGauge,
    pub(super) reconnects: IntCounter,
    pub(super) hints: IntCounter,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name, help, label| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let connected = IntGaugeVec::new(
            Opts::new("spillway_bus_hint_links_connected", "Connections for hints that are up."),
            &["direction"],
        )?;
        registry.register(Box::new(connected.clone()))?;
        let reconnects = counters(
            "spillway_bus_hint_reconnects_total",
            "Connections for hints that came back after a loss.",
            "direction",
        )?;
        let hints = counters(
            "spillway_bus_hints_total",
            "Hints that were given to a subscription (in) or taken for the server (out).",
            "direction",
        )?;
        let dropped = counters(
            "spillway_bus_hints_dropped_total",
            "Hints that went nowhere: not published, or arrived after the interest had ended.",
            "reason",
        )?;
        let interest = IntGauge::new("spillway_bus_interest", "Subjects with a subscription here.")?;
        registry.register(Box::new(interest.clone()))?;
        let link = |direction| LinkMetrics {
            connected: connected.with_label_values(&[direction]),
            reconnects: reconnects.with_label_values(&[direction]),
            hints: hints.with_label_values(&[direction]),
        };
        let reason = |reason| dropped.with_label_values(&[reason]);
        Ok(Self {
            inward: link("in"),
            outward: link("out"),
            interest,
            dropped_disconnected: reason("disconnected"),
            dropped_full: reason("full"),
            dropped_too_large: reason("too_large"),
            dropped_refused: reason("refused"),
            dropped_unmatched: reason("unmatched"),
        })
    }
}

/// So that they can be described.
pub(crate) fn register_metrics(registry: &Registry) -> prometheus::Result<()> {
    Metrics::register(registry).map(drop)
}
