//! What the driver counts, as metrics of the process.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, IntCounter, IntGauge, Opts, Registry};
use scylla::observability::metrics::Metrics;
use tokio::sync::Semaphore;

/// Registers them without a driver, so that they can be described.
pub(super) fn describe(registry: &Registry) -> prometheus::Result<()> {
    registry.register(Box::new(Undriven(Copies::new()?)))
}

/// All of them at rest.
struct Undriven(Copies);

impl Collector for Undriven {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.all().into_iter().flat_map(Collector::collect).collect()
    }
}

/// Reads the driver's counters whenever metrics are collected.
pub(super) struct DriverMetrics {
    driver: Arc<Metrics>,
    in_flight: Arc<Semaphore>,
    in_flight_max: usize,
    /// Held while the copies are brought up to date.
    copies: Mutex<Copies>,
}

struct Copies {
    requests: IntCounter,
    errors: IntCounter,
    retries: IntCounter,
    request_timeouts: IntCounter,
    connection_timeouts: IntCounter,
    connections: IntGauge,
    in_flight: IntGauge,
    latency: GaugeVec,
    /// p50, p95, p99.
    quantiles: [Gauge; 3],
}

impl DriverMetrics {
    pub(super) fn new(
        driver: Arc<Metrics>,
        in_flight: Arc<Semaphore>,
        in_flight_max: usize,
    ) -> prometheus::Result<Self> {
        Ok(Self { driver, in_flight, in_flight_max, copies: Mutex::new(Copies::new()?) })
    }
}

impl Copies {
    fn new() -> prometheus::Result<Self> {
        let latency = GaugeVec::new(
            Opts::new(
                "spillway_cql_request_latency_seconds",
                "Time until the database answers a request, since the start of the process.",
            ),
            &["quantile"],
        )?;
        Ok(Self {
            requests: IntCounter::new("spillway_cql_requests_total", "Requests sent to the database.")?,
            errors: IntCounter::new(
                "spillway_cql_errors_total",
                "Requests that the database did not serve.",
            )?,
            retries: IntCounter::new("spillway_cql_retries_total", "Requests repeated by the driver.")?,
            request_timeouts: IntCounter::new(
                "spillway_cql_request_timeouts_total",
                "Requests given up because no answer came in time.",
            )?,
            connection_timeouts: IntCounter::new(
                "spillway_cql_connection_timeouts_total",
                "Connections to nodes that were not made in time.",
            )?,
            connections: IntGauge::new("spillway_cql_connections", "Open connections to nodes.")?,
            in_flight: IntGauge::new("spillway_cql_requests_in_flight", "Requests under way.")?,
            quantiles: ["0.5", "0.95", "0.99"].map(|quantile| latency.with_label_values(&[quantile])),
            latency,
        })
    }

    fn refresh(&self, driver: &Metrics) {
        let counters = [
            (&self.requests, driver.get_requests_unpaged_num() + driver.get_requests_manually_paged_num()),
            (&self.errors, driver.get_errors_unpaged_num() + driver.get_errors_manually_paged_num()),
            (&self.retries, driver.get_retries_num()),
            (&self.request_timeouts, driver.get_request_timeouts()),
            (&self.connection_timeouts, driver.get_connection_timeouts()),
        ];
        for (copy, total) in counters {
            copy.inc_by(total.saturating_sub(copy.get()));
        }
        self.connections.set(i64::try_from(driver.get_total_connections()).unwrap_or(i64::MAX));
        // There is none before the first request.
        if let Ok(latency) = driver.get_snapshot() {
            let quantiles_ms = [latency.median, latency.percentile_95, latency.percentile_99];
            for (copy, ms) in self.quantiles.iter().zip(quantiles_ms) {
                copy.set(ms as f64 / 1_000.0);
            }
        }
    }

    fn all(&self) -> [&dyn Collector; 8] {
        [
            &self.requests,
            &self.errors,
            &self.retries,
            &self.request_timeouts,
            &self.connection_timeouts,
            &self.connections,
            &self.in_flight,
            &self.latency,
        ]
    }
}

impl Collector for DriverMetrics {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        copies.refresh(&self.driver);
        let in_flight = self.in_flight_max.saturating_sub(self.in_flight.available_permits());
        copies.in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        copies.all().into_iter().flat_map(Collector::collect).collect()
    }
}
