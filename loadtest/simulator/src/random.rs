//! Chance, in separate streams, so that what one part draws does not move what another part sees: two policies under
//! the same seed meet the same arrivals.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::time::Nanos;

/// A stream of its own for each subject.
#[derive(Clone, Debug)]
pub(crate) struct Stream(SmallRng);

impl Stream {
    pub(crate) fn new(seed: u64, subject: u64) -> Self {
        Self(SmallRng::seed_from_u64(mix(seed ^ mix(subject))))
    }

    /// For code that draws by itself.
    pub(crate) fn rng(&mut self) -> &mut SmallRng {
        &mut self.0
    }

    /// From 0 up to, and not including, 1.
    pub(crate) fn share(&mut self) -> f64 {
        self.0.random()
    }

    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.0.random_range(0..end.max(1))
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.share() < probability
    }

    /// Exponentially distributed with this mean, in the mean's unit.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.share()).ln()
    }

    /// Anywhere from nothing to `span`.
    pub(crate) fn within(&mut self, span: Nanos) -> Nanos {
        Nanos((span.0 as f64 * self.share()) as u64)
    }
}

/// SplitMix64's finaliser: spreads consecutive numbers over all bits.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_the_mean() {
        let mut stream = Stream::new(1, 2);
        let sum: f64 = (0..100_000).map(|_| stream.exponential(3.0)).sum();
        assert!((sum / 100_000.0 - 3.0).abs() < 0.05, "{sum}");
    }

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, subject| Stream::new(seed, subject).below(u32::MAX);
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }
}
