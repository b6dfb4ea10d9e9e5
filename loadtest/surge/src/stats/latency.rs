//! A histogram of durations with three significant digits from 1 µs to 10 minutes.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Ten minutes: a storm's slowest answers must not disappear into an overflow bucket.
const MICROS_MAX: u64 = 600_000_000;

/// Durations, recorded without loss of the slow ones: what is longer than 10 minutes counts as 10 minutes.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u32>);

impl Default for Latency {
    fn default() -> Self {
        Self(
            Histogram::new_with_bounds(1, MICROS_MAX, 3)
                .expect("the bounds are constants that the crate accepts"),
        )
    }
}

impl Latency {
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(MICROS_MAX);
        self.0.saturating_record(micros.max(1));
    }

    pub fn add(&mut self, other: &Latency) {
        self.0.add(&other.0).expect("all latencies have the same bounds");
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The duration that the given share of records did not exceed, in milliseconds; `None` without records.
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile).min(MICROS_MAX) as f64 / 1_000.0)
    }

    pub fn max_ms(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.max().min(MICROS_MAX) as f64 / 1_000.0)
    }
}
