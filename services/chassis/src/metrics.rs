//! What the crates' own `metrics.rs` share: registration and histogram buckets.

use prometheus::Registry;
use prometheus::core::Collector;

/// Seconds, for calls between a client and its answer. Each bucket is at most 2.5 times the one before, which bounds
/// the error of a quantile read off a graph. From 250 us (an in-process call) to 30 s (the longest deadline).
pub const LATENCY_SECONDS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Registers `collector` and returns it, for use in the definition of a metrics struct.
///
/// # Panics
///
/// When the registry has a metric of this name already. That is a mistake in the code, seen on the first start: two
/// parts of one process share a name, or one part was built twice on one registry.
pub fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect("every metric is registered once per registry");
    collector
}
