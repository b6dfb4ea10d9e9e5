//! How the providers do. Their names come from the settings, so labels are bounded.

use std::time::Duration;

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use spillway_chassis::metrics::{LATENCY_SECONDS, register};
use spillway_store::verifications::Transport;

use super::{labels, transport_name};
use crate::routing::{BreakerState, Scope, Standing, Why};

#[derive(Clone, Debug)]
pub(super) struct ProviderMetrics {
    calls: HistogramVec,
    spent: IntCounterVec,
    conversion: GaugeVec,
    arrived: GaugeVec,
    receipts: IntCounterVec,
    delay: GaugeVec,
    rate: GaugeVec,
    breaker: IntGaugeVec,
    budget: IntGaugeVec,
    budget_left: IntGaugeVec,
    guard: IntCounterVec,
    waits: IntCounterVec,
}

/// What the guard against pumping said about a code.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GuardVerdict {
    Send,
    Hold,
    Pretend,
}

/// What a receipt said.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReceiptOutcome {
    Arrived,
    Failed,
    Unknown,
    /// Of no message that is waited for: a second one, one from before a restart, or one that came before the answer and counts again with it.
    OfNobody,
}

labels!(GuardVerdict { Send = "send", Hold = "hold", Pretend = "pretend", });
labels!(ReceiptOutcome {
    Arrived = "arrived",
    Failed = "failed",
    Unknown = "unknown",
    OfNobody = "of_nobody",
});

const fn reason(why: Why) -> &'static str {
    match why {
        Why::Breaker => "breaker",
        Why::Rate => "rate",
        Why::Borrowing(_) => "borrowing",
        Why::Budget(Scope::Hour) => "budget_hour",
        Why::Budget(Scope::Day) => "budget_day",
        Why::Budget(Scope::Country(_)) => "budget_country",
        Why::Guard => "guard",
    }
}

impl ProviderMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let constants = "the name and labels are constants";
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels).expect(constants))
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            register(registry, GaugeVec::new(Opts::new(name, help), labels).expect(constants))
        };
        let integers = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntGaugeVec::new(Opts::new(name, help), labels).expect(constants))
        };
        let calls = HistogramOpts::new(
            "spillway_provider_call_seconds",
            "Calls that handed a code over, by provider.",
        );
        let calls = HistogramVec::new(calls.buckets(LATENCY_SECONDS.to_vec()), &["provider"]);
        Self {
            calls: register(registry, calls.expect(constants)),
            spent: counters(
                "spillway_provider_spent_micros_total",
                "Millionths of the currency's unit that codes cost, those that timed out included.",
                &["provider"],
            ),
            conversion: gauges(
                "spillway_provider_conversion_ratio",
                "Share of codes that were typed, of those of the last hours whose time for that is over.",
                &["provider", "transport"],
            ),
            arrived: gauges(
                "spillway_provider_arrived_ratio",
                "Share of messages that reached their phone, as receipts of the last minutes say.",
                &["provider", "transport"],
            ),
            receipts: counters(
                "spillway_provider_receipts_total",
                "Receipts by what they said; of_nobody: of no message that is waited for then.",
                &["provider", "outcome"],
            ),
            delay: gauges(
                "spillway_provider_delay_seconds",
                "Mean time from asking for a code to the phone, as far as the provider tells.",
                &["provider", "transport"],
            ),
            rate: gauges(
                "spillway_provider_rate_limit",
                "Codes a second that the provider is given at most, as configured or learnt.",
                &["provider"],
            ),
            breaker: integers(
                "spillway_provider_breaker_state",
                "0: in use. 1: tried with one code at a time. 2: left alone.",
                &["provider", "transport"],
            ),
            budget: integers(
                "spillway_verification_budget_micros",
                "Millionths of the currency's unit that all processes together may spend in the window.",
                &["window"],
            ),
            budget_left: integers(
                "spillway_verification_budget_left_micros",
                "Millionths of the currency's unit that this process has borrowed and not spent, and that no process has borrowed.",
                &["window"],
            ),
            guard: counters(
                "spillway_verification_guard_total",
                "Codes by what the guard against pumping said about them.",
                &["verdict"],
            ),
            waits: counters(
                "spillway_verification_waits_total",
                "Codes that stayed queued because nobody could have them yet, by the reason.",
                &["reason"],
            ),
        }
    }

    /// Series of a provider of the settings, and those of all, begin at 0.
    pub(super) fn expect(&self, provider: &str) {
        self.calls.with_label_values(&[provider]);
        self.spent.with_label_values(&[provider]);
        for outcome in ReceiptOutcome::ALL {
            self.receipts.with_label_values(&[provider, outcome.label()]);
        }
        for verdict in GuardVerdict::ALL {
            self.guard.with_label_values(&[verdict.label()]);
        }
        let scopes = [Scope::Hour, Scope::Day, Scope::Country(0)];
        let reasons = scopes.map(Why::Budget).into_iter().chain([
            Why::Borrowing(Scope::Hour),
            Why::Breaker,
            Why::Rate,
            Why::Guard,
        ]);
        reasons.for_each(|why| drop(self.waits.with_label_values(&[reason(why)])));
    }

    pub(super) fn call(&self, provider: &str, took: Duration) {
        self.calls.with_label_values(&[provider]).observe(took.as_secs_f64());
    }

    pub(super) fn spent(&self, provider: &str, cost: u64) {
        self.spent.with_label_values(&[provider]).inc_by(cost);
    }

    pub(super) fn guard(&self, verdict: GuardVerdict) {
        self.guard.with_label_values(&[verdict.label()]).inc();
    }

    pub(super) fn receipt(&self, provider: &str, outcome: ReceiptOutcome) {
        self.receipts.with_label_values(&[provider, outcome.label()]).inc();
    }

    pub(super) fn wait(&self, why: Why) {
        self.waits.with_label_values(&[reason(why)]).inc();
    }

    pub(super) fn standing(&self, provider: &str, transport: Transport, standing: Standing) {
        let labels = [provider, transport_name(transport)];
        if let Some(conversion) = standing.conversion {
            self.conversion.with_label_values(&labels).set(conversion);
        }
        if let Some(arrived) = standing.arrived {
            self.arrived.with_label_values(&labels).set(arrived);
        }
        if let Some(delay) = standing.delay {
            self.delay.with_label_values(&labels).set(delay.as_secs_f64());
        }
        self.rate.with_label_values(&[provider]).set(standing.rate);
        self.breaker.with_label_values(&labels).set(match standing.breaker {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
    }

    pub(super) fn budget(&self, size: (Option<u64>, Option<u64>), left: (Option<u64>, Option<u64>)) {
        let set = |gauges: &IntGaugeVec, window: &str, amount: Option<u64>| {
            if let Some(amount) = amount {
                gauges.with_label_values(&[window]).set(i64::try_from(amount).unwrap_or(i64::MAX));
            }
        };
        for (gauges, (hour, day)) in [(&self.budget, size), (&self.budget_left, left)] {
            set(gauges, "hour", hour);
            set(gauges, "day", day);
        }
    }
}
