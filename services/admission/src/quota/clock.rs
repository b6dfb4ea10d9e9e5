//! The time that quotas are counted in.

use std::ops::Add;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::nanos::Nanos;
use tokio::time::Instant;

/// Tokio's monotonic time: a step of the wall clock neither refills nor freezes a quota, and paused test time moves it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioClock;

/// A reading of [`TokioClock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokioInstant(Instant);

impl Clock for TokioClock {
    type Instant = TokioInstant;

    fn now(&self) -> TokioInstant {
        TokioInstant(Instant::now())
    }
}

impl Add<Nanos> for TokioInstant {
    type Output = Self;

    fn add(self, nanos: Nanos) -> Self {
        Self(self.0 + Duration::from(nanos))
    }
}

impl Reference for TokioInstant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        self.0.checked_sub(duration.into()).map_or(*self, Self)
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use spillway_types::AccountId;

    use super::*;
    use crate::{Decision, Key, Limit, QuotaConfig, QuotaMetrics, Quotas};

    #[tokio::test(start_paused = true)]
    async fn quotas_follow_paused_time() {
        let metrics = QuotaMetrics::register(&Registry::new()).unwrap();
        let quotas = Quotas::new(&QuotaConfig::default(), TokioClock, metrics).unwrap();
        let user = Key::User(AccountId::random());
        assert_eq!(quotas.check(Limit::Discover, &user, 50_000), Decision::Allowed);
        tokio::time::advance(Duration::from_secs(599)).await;
        assert!(quotas.check(Limit::Discover, &user, 1).refusal().is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(quotas.check(Limit::Discover, &user, 1), Decision::Allowed);
    }
}
