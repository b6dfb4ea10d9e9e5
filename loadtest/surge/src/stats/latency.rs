//! A histogram of durations with three significant digits from 1 µs to 10 minutes.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

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

    pub fn mean_ms(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.mean() / 1_000.0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn max_ms(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.max().min(MICROS_MAX) as f64 / 1_000.0)
    }

    /// Records that are not longer than this.
    pub fn count_within(&self, at_most: Duration) -> u64 {
        self.0.count_between(0, u64::try_from(at_most.as_micros()).unwrap_or(MICROS_MAX).min(MICROS_MAX))
    }

    /// The histogram as interval logs hold it: encoding V2, deflated, in base64. Values are microseconds.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::new();
        let written = V2DeflateSerializer::new().serialize(&self.0, &mut bytes);
        written.expect("a histogram with these bounds fits, and memory takes what is written");
        STANDARD.encode(bytes)
    }

    /// What [`encode`](Self::encode) wrote, or another tool with bounds that are not wider.
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).ok()?;
        let mut latency = Self::default();
        for bucket in read.iter_recorded() {
            let count = u32::try_from(bucket.count_at_value()).ok()?;
            latency.0.saturating_record_n(bucket.value_iterated_to(), count);
        }
        Some(latency)
    }

    /// The values that were recorded, in microseconds, each with how often.
    pub fn to_sparse(&self) -> Sparse {
        let buckets = self.0.iter_recorded();
        Sparse(
            buckets.map(|bucket| (bucket.value_iterated_to(), u64::from(bucket.count_at_value()))).collect(),
        )
    }

    pub fn add_sparse(&mut self, other: &Sparse) {
        for (micros, count) in &other.0 {
            self.0.saturating_record_n(*micros, u32::try_from(*count).unwrap_or(u32::MAX));
        }
    }
}

/// The same as a list of what occurred: a second of a run has some hundred values, and a histogram room for 20,000.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sparse(Vec<(u64, u64)>);

impl Sparse {
    /// Microseconds and counts, in ascending order.
    pub fn buckets(&self) -> &[(u64, u64)] {
        &self.0
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_to_the_last_count(micros in prop::collection::vec(0u64..700_000_000, 0..200)) {
            let mut latency = Latency::default();
            for micros in micros {
                latency.record(Duration::from_micros(micros));
            }
            let read = Latency::decode(&latency.encode()).unwrap();
            prop_assert_eq!(read.to_sparse(), latency.to_sparse());
            let mut again = Latency::default();
            again.add_sparse(&latency.to_sparse());
            prop_assert_eq!(again.0, latency.0);
        }
    }

    #[test]
    fn damage_is_noticed() {
        let text = Latency::default().encode();
        assert!(Latency::decode("").is_none() && Latency::decode("AAAA").is_none());
        assert!(Latency::decode(text.get(..text.len() / 2).unwrap()).is_none());
    }
}
