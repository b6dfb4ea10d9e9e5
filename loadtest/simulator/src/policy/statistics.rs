//! Averages, quantiles and correlations that several laws use.

use std::collections::VecDeque;

/// An exponential average that begins as a plain one.
#[derive(Clone, Debug)]
pub(super) struct Average {
    value: f64,
    factor: f64,
    warmup: u32,
    count: u32,
}

impl Average {
    /// Weighs about `window` samples.
    pub(super) fn new(window: u32, warmup: u32) -> Self {
        Self { value: 0.0, factor: 2.0 / (f64::from(window) + 1.0), warmup, count: 0 }
    }

    pub(super) fn add(&mut self, sample: f64) -> f64 {
        self.count = self.count.saturating_add(1);
        let weight = if self.count <= self.warmup { 1.0 / f64::from(self.count) } else { self.factor };
        self.value += weight * (sample - self.value);
        self.value
    }

    pub(super) fn scale(&mut self, by: f64) {
        self.value *= by;
    }
}

/// The sample below which `share` of all lie; 0 without samples.
pub(super) fn quantile(samples: &mut [f64], share: f64) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    let index = ((samples.len() - 1) as f64 * share).round() as usize;
    *samples.select_nth_unstable_by(index, f64::total_cmp).1
}

/// The last pairs of two measurements.
#[derive(Clone, Debug)]
pub(super) struct Pairs {
    pairs: VecDeque<(f64, f64)>,
    kept: usize,
    warmup: usize,
}

/// What [`Pairs`] says; zero until it is warm.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Relation {
    /// Pearson's coefficient.
    pub(super) correlation: f64,
    /// Standard deviation of the second measurement over its mean.
    pub(super) variation: f64,
}

impl Pairs {
    pub(super) fn new(kept: usize, warmup: usize) -> Self {
        Self { pairs: VecDeque::with_capacity(kept), kept, warmup }
    }

    pub(super) fn add(&mut self, x: f64, y: f64) -> Relation {
        if self.pairs.len() == self.kept {
            self.pairs.pop_front();
        }
        self.pairs.push_back((x, y));
        if self.pairs.len() < self.warmup {
            return Relation::default();
        }
        let n = self.pairs.len() as f64;
        let (sum_x, sum_y) = self.pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        let (mean_x, mean_y) = (sum_x / n, sum_y / n);
        let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
        for (x, y) in &self.pairs {
            let (dx, dy) = (x - mean_x, y - mean_y);
            xx += dx * dx;
            yy += dy * dy;
            xy += dx * dy;
        }
        let variation = if mean_y == 0.0 { 0.0 } else { (yy / n).sqrt() / mean_y };
        let scale = (xx * yy).sqrt();
        let correlation = if scale < f64::EPSILON { 0.0 } else { xy / scale };
        Relation { correlation, variation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_warms_up_as_a_mean() {
        let mut average = Average::new(9, 2);
        assert_eq!([average.add(2.0), average.add(4.0)], [2.0, 3.0]);
        assert!((average.add(8.0) - 4.0).abs() < 1e-12, "a fifth of the way");
    }

    #[test]
    fn pairs_that_rise_together_correlate() {
        let mut pairs = Pairs::new(4, 3);
        assert_eq!(pairs.add(1.0, 10.0).correlation, 0.0);
        pairs.add(2.0, 20.0);
        assert!(pairs.add(3.0, 30.0).correlation > 0.999);
        pairs.add(4.0, 0.0);
        assert!(pairs.add(5.0, -20.0).correlation < 0.0);
    }

    #[test]
    fn a_quantile_is_a_sample() {
        assert_eq!(quantile(&mut [5.0, 1.0, 3.0], 0.5), 3.0);
        assert_eq!(quantile(&mut [], 0.5), 0.0);
    }
}
