//! When a client may repeat a call: the throttle of gRFC A6, with full jitter.
//!
//! A retry is load that nobody asked for, and most when there is least room for it. The budget bounds it whatever fails: each
//! failure takes a token, each success gives back a tenth, and with half of the tokens or fewer nothing is
//! repeated. So calls cost at most 1.1 attempts each in the long run, and at most five attempts more than that at any
//! time, at any rate and any order of failures: a retry is only granted against a token above the half, tokens
//! come from successes, a tenth each, and from the five above the half that a client begins with.

use std::time::Duration;

use rand::Rng;

use crate::pushback::InCall;

/// Settings of a client's retries. The defaults are those of gRFC A6's example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// All attempts of a call together, the first included.
    pub attempts_max: u32,
    /// Before attempt n + 1 a client waits up to `base * 2^(n-1)`, and up to `cap`.
    pub base: Duration,
    pub cap: Duration,
    pub tokens_max: f64,
    /// Tokens that a success gives back. Hence the share of retries among the attempts.
    pub gain: f64,
    /// Tokens that a timeout takes. More than other failures, because the server has probably done the work.
    pub timeout_cost: f64,
}

/// The tokens of one client and one server.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    policy: RetryPolicy,
    tokens: f64,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server refused, and told when to come back.
    Told(InCall),
    /// It may be repeated, says the status.
    Retryable,
    Timeout,
    /// Repeating does not help or is not safe. Takes no token: it is no sign of overload.
    Final,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(60),
            tokens_max: 10.0,
            gain: 0.1,
            timeout_cost: 2.0,
        }
    }
}

impl RetryBudget {
    pub fn new(policy: RetryPolicy) -> Self {
        Self { policy, tokens: policy.tokens_max }
    }

    pub fn succeeded(&mut self) {
        self.tokens = (self.tokens + self.policy.gain).min(self.policy.tokens_max);
    }

    /// Counts the failure of attempt number `attempt`, from 1; answers how long to wait before the next, `None` when there
    /// must be none. A pause that the server told is kept exactly: it has added the jitter.
    pub fn failed(&mut self, attempt: u32, failure: Failure, rng: &mut impl Rng) -> Option<Duration> {
        let cost = match failure {
            Failure::Final => return None,
            Failure::Timeout => self.policy.timeout_cost,
            Failure::Told(_) | Failure::Retryable => 1.0,
        };
        self.tokens = (self.tokens - cost).max(0.0);
        if attempt >= self.policy.attempts_max || self.tokens <= self.policy.tokens_max / 2.0 {
            return None;
        }
        match failure {
            Failure::Told(InCall::DoNotRetry) => None,
            Failure::Told(InCall::RetryAfter(pause)) => Some(pause),
            _ => {
                let doubled = self.policy.base.saturating_mul(1 << attempt.saturating_sub(1).min(20));
                Some(doubled.min(self.policy.cap).mul_f64(rng.random::<f64>()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Attempts that so many calls take when `fails` decides about each attempt.
    fn attempts(
        calls: u32,
        rng: &mut SmallRng,
        mut fails: impl FnMut(&mut SmallRng) -> Option<Failure>,
    ) -> u32 {
        let mut budget = RetryBudget::new(RetryPolicy::default());
        let mut attempts = 0;
        for _ in 0..calls {
            for attempt in 1.. {
                attempts += 1;
                let Some(failure) = fails(rng) else {
                    budget.succeeded();
                    break;
                };
                if budget.failed(attempt, failure, rng).is_none() {
                    break;
                }
            }
        }
        attempts
    }

    fn failure(timeout: bool) -> Failure {
        if timeout { Failure::Timeout } else { Failure::Retryable }
    }

    proptest! {
        #[test]
        fn a_call_costs_at_most_1_1_attempts_at_any_rate_of_failure(rate in 0.0..=1.0, timeouts in 0.0..=1.0, seed: u64) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let calls = 5_000;
            let attempts = attempts(calls, &mut rng, |rng: &mut SmallRng| {
                rng.random_bool(rate).then(|| failure(rng.random_bool(timeouts)))
            });
            prop_assert!(f64::from(attempts) <= 1.1 * f64::from(calls) + 5.0, "{attempts}");
        }

        /// Also when an adversary decides which attempts fail, and after any number of calls.
        #[test]
        fn in_any_order_of_failures(fails in prop::collection::vec(prop::option::of(any::<bool>()), 1..2_000)) {
            let mut rng = SmallRng::seed_from_u64(1);
            for calls in [1, 10, 100, 1_000] {
                let mut next = fails.iter().cycle();
                let attempts = attempts(calls, &mut rng, |_: &mut SmallRng| next.next().unwrap().map(failure));
                prop_assert!(f64::from(attempts) <= 1.1 * f64::from(calls) + 5.0, "{attempts} for {calls}");
            }
        }

        #[test]
        fn pauses_are_anything_up_to_the_growing_ceiling(attempt in 1u32..40, seed: u64) {
            let policy = RetryPolicy { attempts_max: 100, ..RetryPolicy::default() };
            let mut rng = SmallRng::seed_from_u64(seed);
            let pause = RetryBudget::new(policy).failed(attempt, Failure::Retryable, &mut rng).unwrap();
            prop_assert!(pause <= policy.base.saturating_mul(1 << (attempt - 1).min(20)).min(policy.cap));
        }
    }

    #[test]
    fn the_servers_word_is_kept() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut budget = RetryBudget::new(RetryPolicy::default());
        let pause = Duration::from_millis(1_234);
        assert_eq!(budget.failed(1, Failure::Told(InCall::RetryAfter(pause)), &mut rng), Some(pause));
        assert_eq!(budget.failed(1, Failure::Told(InCall::DoNotRetry), &mut rng), None);
        assert_eq!(budget.failed(1, Failure::Final, &mut rng), None);
        assert_eq!(budget.failed(3, Failure::Retryable, &mut rng), None, "three attempts are enough");
    }

    #[test]
    fn timeouts_end_it_sooner() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut granted = |failure| {
            let mut budget = RetryBudget::new(RetryPolicy::default());
            (0..100).filter(|_| budget.failed(1, failure, &mut rng).is_some()).count()
        };
        assert_eq!((granted(Failure::Retryable), granted(Failure::Timeout)), (4, 2));
    }
}
