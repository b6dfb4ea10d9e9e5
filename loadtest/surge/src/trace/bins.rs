//! Counts over a time whose end is not known before it is reached.

use std::time::Duration;

use crate::curve::{Curve, CurveError};

/// Doubles the width of its bins when there are too many of them.
#[derive(Clone, Debug)]
pub(super) struct Bins {
    width: Duration,
    counts: Vec<u64>,
}

const BINS_MAX: usize = 4_096;
const FIRST_WIDTH: Duration = Duration::from_millis(100);

impl Default for Bins {
    fn default() -> Self {
        Self { width: FIRST_WIDTH, counts: Vec::new() }
    }
}

impl Bins {
    pub(super) fn add(&mut self, at: Duration) {
        loop {
            let bin = (at.as_nanos() / self.width.as_nanos()) as usize;
            if bin < BINS_MAX {
                self.counts.resize(self.counts.len().max(bin + 1), 0);
                self.counts[bin] += 1;
                return;
            }
            self.counts = self.counts.chunks(2).map(|pair| pair.iter().sum()).collect();
            self.width *= 2;
        }
    }

    /// With the mean rate of each bin; the last one may be cut short.
    pub(super) fn curve(&self, duration: Duration) -> Result<Curve, CurveError> {
        let mut curve = Curve::default();
        for (bin, count) in self.counts.iter().enumerate() {
            let from = self.width * bin as u32;
            let length = self.width.min(duration.saturating_sub(from)).max(Duration::from_micros(1));
            curve = curve.then_step(*count as f64 / length.as_secs_f64(), length)?;
        }
        Ok(curve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_when_bins_grow() {
        let mut bins = Bins::default();
        for second in 0..10_000 {
            bins.add(Duration::from_secs(second));
        }
        let curve = bins.curve(Duration::from_secs(10_000)).unwrap();
        assert!((curve.total() - 10_000.0).abs() < 1e-3, "{}", curve.total());
        assert!((curve.rate_at(Duration::from_secs(5_000)) - 1.0).abs() < 0.1);
        assert!(bins.counts.len() <= BINS_MAX);
    }
}
