//! How often calls were made, and how often again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts the attempts of everybody who has a clone. Attempts over first attempts is what retries add to the load.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    first: AtomicU64,
    again: AtomicU64,
}

impl Meter {
    /// Calls that were made, each counted once however often it was repeated.
    pub fn first_attempts(&self) -> u64 {
        self.0.first.load(Relaxed)
    }

    /// All attempts, the first ones among them.
    pub fn attempts(&self) -> u64 {
        self.first_attempts() + self.0.again.load(Relaxed)
    }

    /// An attempt of a call that had `tries` before.
    pub fn attempt(&self, tries: u32) {
        let count = if tries == 0 { &self.0.first } else { &self.0.again };
        count.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_count_together() {
        let meter = Meter::default();
        let same = meter.clone();
        same.attempt(0);
        meter.attempt(1);
        same.attempt(2);
        assert_eq!((meter.first_attempts(), meter.attempts()), (1, 3));
    }
}
