use std::sync::atomic::{AtomicU64, Ordering};

/// Events for each that is logged.
const EACH: u64 = 1_000;

/// Which of many equal events are logged: the first, and then one in a thousand. Metrics count each.
#[derive(Debug, Default)]
pub(crate) struct Sample(AtomicU64);

impl Sample {
    /// How many there were before this one, when this one is to be logged.
    pub(crate) fn take(&self) -> Option<u64> {
        let earlier = self.0.fetch_add(1, Ordering::Relaxed);
        earlier.is_multiple_of(EACH).then_some(earlier)
    }
}
