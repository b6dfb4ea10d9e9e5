//! What the quotas decided, and how full their tables are.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::quota::table::{LIMITS, Limit};

/// How a decision is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Allowed,
    Refused,
    Shadowed,
    OverflowOpen,
    OverflowClosed,
}

const OUTCOMES: [(Outcome, &str); 5] = [
    (Outcome::Allowed, "allowed"),
    (Outcome::Refused, "refused"),
    (Outcome::Shadowed, "shadowed"),
    (Outcome::OverflowOpen, "overflow_open"),
    (Outcome::OverflowClosed, "overflow_closed"),
];

/// Series are resolved once, by index, so that counting a decision is one atomic addition.
#[derive(Clone, Debug)]
pub struct QuotaMetrics {
    decisions: [[IntCounter; OUTCOMES.len()]; Limit::COUNT],
    keys: [IntGauge; Limit::COUNT],
}

impl QuotaMetrics {
    /// # Errors
    ///
    /// When the registry already has these metrics.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let decisions = IntCounterVec::new(
            Opts::new("spillway_quota_decisions_total", "Quota checks by limit and outcome."),
            &["limit", "outcome"],
        )?;
        let keys = IntGaugeVec::new(
            Opts::new(
                "spillway_quota_keys",
                "Keys a limit remembers, those at rest included until their place is needed.",
            ),
            &["limit"],
        )?;
        registry.register(Box::new(decisions.clone()))?;
        registry.register(Box::new(keys.clone()))?;
        Ok(Self {
            decisions: LIMITS
                .each_ref()
                .map(|spec| OUTCOMES.map(|(_, outcome)| decisions.with_label_values(&[spec.name, outcome]))),
            keys: LIMITS.each_ref().map(|spec| keys.with_label_values(&[spec.name])),
        })
    }

    pub(crate) fn count(&self, limit: Limit, outcome: Outcome) {
        self.decisions[limit as usize][outcome as usize].inc();
    }

    pub(crate) fn keys(&self, limit: Limit) -> IntGauge {
        self.keys[limit as usize].clone()
    }
}

const _: () = {
    let mut i = 0;
    while i < OUTCOMES.len() {
        assert!(OUTCOMES[i].0 as usize == i, "OUTCOMES must be in the order of Outcome");
        i += 1;
    }
};
