//! When to repeat a call, and when not to.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rand::Rng;

/// Full jitter over an exponentially growing pause.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// All tries together, the first included.
    pub attempts_max: u32,
    pub base: Duration,
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        // A phone that tries three times is helped; one that tries ten times is part of the surge.
        Self { attempts_max: 3, base: Duration::from_millis(500), cap: Duration::from_secs(60) }
    }
}

impl RetryPolicy {
    /// How long to wait before try `tries + 1`; `None` when there must be none. A time that the server named is kept
    /// to exactly: the server has added the jitter.
    pub(crate) fn pause(&self, tries: u32, told: Option<Duration>, budget: &RetryBudget) -> Option<Duration> {
        if tries >= self.attempts_max || !budget.failed() {
            return None;
        }
        Some(told.unwrap_or_else(|| {
            let ceiling = self.base.saturating_mul(1 << tries.min(16)).min(self.cap);
            ceiling.mul_f64(rand::rng().random::<f64>())
        }))
    }
}

/// The retry throttle of gRFC A6: a failure costs a token, a success gives back a tenth, and below half of the
/// tokens nothing is retried. At a lasting failure rate retries therefore add at most a tenth to the load.
#[derive(Debug)]
pub struct RetryBudget {
    /// Thousandths of a token.
    millitokens: AtomicI64,
}

const MILLITOKENS_MAX: i64 = 10_000;
const FAILURE_COST: i64 = 1_000;
const SUCCESS_GAIN: i64 = 100;

impl Default for RetryBudget {
    fn default() -> Self {
        Self { millitokens: AtomicI64::new(MILLITOKENS_MAX) }
    }
}

impl RetryBudget {
    pub(crate) fn succeeded(&self) {
        self.change(SUCCESS_GAIN);
    }

    /// Counts a failure; answers whether it may be retried.
    pub(crate) fn failed(&self) -> bool {
        self.change(-FAILURE_COST) > MILLITOKENS_MAX / 2
    }

    fn change(&self, by: i64) -> i64 {
        let add = |tokens: i64| Some((tokens + by).clamp(0, MILLITOKENS_MAX));
        match self.millitokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(before) | Err(before) => (before + by).clamp(0, MILLITOKENS_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_failure_stops_retries_after_five() {
        let budget = RetryBudget::default();
        let retried = (0..100).filter(|_| budget.failed()).count();
        assert_eq!(retried, 4, "10 tokens: failures 1 to 4 leave more than 5");
    }

    #[test]
    fn ten_successes_pay_for_one_failure() {
        let budget = RetryBudget::default();
        while budget.failed() {}
        for _ in 0..20 {
            budget.succeeded();
        }
        assert!(budget.failed(), "7 tokens less one is above half");
        assert!(!budget.failed(), "5 is not above half");
    }

    #[test]
    fn the_servers_time_is_kept_exactly() {
        let policy = RetryPolicy::default();
        let told = Some(Duration::from_millis(1_234));
        assert_eq!(policy.pause(1, told, &RetryBudget::default()), told);
        assert_eq!(policy.pause(3, told, &RetryBudget::default()), None, "three tries are enough");
    }

    #[test]
    fn own_pauses_stay_under_the_growing_ceiling() {
        let policy = RetryPolicy { attempts_max: 20, ..RetryPolicy::default() };
        for tries in 1..12 {
            let ceiling = policy.base.saturating_mul(1 << tries).min(policy.cap);
            let pause = policy.pause(tries, None, &RetryBudget::default()).unwrap();
            assert!(pause <= ceiling, "try {tries}: {pause:?} over {ceiling:?}");
        }
    }
}
