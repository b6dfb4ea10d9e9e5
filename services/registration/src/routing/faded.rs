use std::time::Duration;

use tokio::time::Instant;

/// A sum in which each amount counts half after `half_life`, a quarter after two of them, and so on. It needs no
/// window of samples, and what has stopped happening is forgotten.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faded {
    sum: f64,
    at: Instant,
    half_life: Duration,
}

impl Faded {
    pub(super) fn new(half_life: Duration, now: Instant) -> Self {
        Self { sum: 0.0, at: now, half_life }
    }

    pub(super) fn add(&mut self, amount: f64, now: Instant) {
        self.sum = self.get(now) + amount;
        self.at = self.at.max(now);
    }

    /// What is left of the sum.
    pub(super) fn get(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at);
        self.sum * (-age.as_secs_f64() / self.half_life.as_secs_f64()).exp2()
    }

    pub(super) fn clear(&mut self, now: Instant) {
        *self = Self::new(self.half_life, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_count_half_after_their_half_life() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut faded = Faded::new(Duration::from_secs(10), start);
        faded.add(8.0, start);
        faded.add(4.0, after(10));
        assert!((faded.get(after(10)) - 8.0).abs() < 1e-9);
        assert!((faded.get(after(40)) - 1.0).abs() < 1e-9);
        faded.clear(after(40));
        assert!(faded.get(after(40)).abs() < 1e-9);
    }
}
