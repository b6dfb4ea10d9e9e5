//! What the members of one cohort asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use spillway_client::Meter;

/// Counts things that were wanted, and how often they were asked for. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    meter: Meter,
    /// First attempts to the meter that were repetitions to the person.
    again: Arc<AtomicU64>,
}

impl Tally {
    /// An attempt of something that had `tries` before.
    pub(crate) fn attempt(&self, tries: u32) {
        self.meter.attempt(tries);
    }

    /// What a client took for something new was asked for before.
    pub(crate) fn again(&self) {
        self.again.fetch_add(1, Relaxed);
    }

    /// For a client that counts by itself.
    pub(crate) fn meter(&self) -> Meter {
        self.meter.clone()
    }

    pub fn first_attempts(&self) -> u64 {
        self.meter.first_attempts().saturating_sub(self.again.load(Relaxed))
    }

    pub fn attempts(&self) -> u64 {
        self.meter.attempts()
    }

    /// Attempts for each thing that was wanted; `None` when nothing was.
    pub fn amplification(&self) -> Option<f64> {
        let wanted = self.first_attempts();
        (wanted > 0).then(|| self.attempts() as f64 / wanted as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amplification_is_attempts_for_each_thing_that_was_wanted() {
        let tally = Tally::default();
        assert_eq!(tally.amplification(), None);
        for tries in [0, 1, 2, 0] {
            tally.attempt(tries);
        }
        assert_eq!((tally.first_attempts(), tally.attempts()), (2, 4));
        assert_eq!(tally.amplification(), Some(2.0));
        tally.attempt(0);
        tally.again();
        assert_eq!((tally.first_attempts(), tally.attempts()), (2, 5));
    }
}
