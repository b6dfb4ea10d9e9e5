mod providers;

use std::time::Duration;

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use spillway_chassis::metrics::register;
use spillway_store::verifications::Transport;

use providers::ProviderMetrics;
pub(crate) use providers::{GuardVerdict, ReceiptOutcome};

use crate::routing::{BreakerState, Standing, Why};

/// In place of a provider's name, which it cannot be, for what became of a code without one.
pub(crate) const NO_PROVIDER: &str = "";

/// Seconds from asking for a code to its hand-over: from at once to longer than a session lives.
const DISPATCH_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0,
];

/// What the registration role counts.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    verifications: IntCounterVec,
    pub(crate) sessions_expired: IntCounter,
    codes: IntCounterVec,
    pub(crate) dispatch_seconds: Histogram,
    pub(crate) queue_oldest_seconds: Gauge,
    pub(crate) queue_depth: IntGauge,
    work: IntCounterVec,
    checks: IntCounterVec,
    accounts: IntCounterVec,
    providers: ProviderMetrics,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum VerificationEvent {
    Started,
    Resent,
    Verified,
}

/// What became of one queued code, or of one call to the provider for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeOutcome {
    Accepted,
    Throttled,
    Failed,
    TimedOut,
    Refused,
    /// Dropped after the last attempt.
    GivenUp,
    /// Dropped because nobody waits for it any more.
    Stale,
}

/// What happened to items of the work queue.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WorkEvent {
    Offered,
    /// The queue was full or out of reach; the reaper brings the code.
    OfferFailed,
    /// A request took the place of one that waited.
    Replaced,
    /// The reaper found it missing from the queue.
    Restored,
    /// Given out again: after a pause, or because its worker did not finish it.
    Redelivered,
    /// Nothing was left to do for it.
    Stale,
    /// Another worker had claimed the code, or its pause was running: a code not sent twice.
    Held,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum CheckOutcome {
    Right,
    Wrong,
    Refused,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum AccountEvent {
    Created,
    Reregistered,
    Deleted,
    NumberChanged,
}

/// The values of a label: all of them, and how they are written.
macro_rules! labels {
    ($name:ident { $($variant:ident = $text:literal,)* }) => {
        impl $name {
            pub(crate) const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];

            pub(crate) const fn label(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}
use labels;

labels!(VerificationEvent { Started = "started", Resent = "resent", Verified = "verified", });
labels!(CodeOutcome {
    Accepted = "accepted",
    Throttled = "throttled",
    Failed = "failed",
    TimedOut = "timed_out",
    Refused = "refused",
    GivenUp = "given_up",
    Stale = "stale",
});
labels!(WorkEvent {
    Offered = "offered",
    OfferFailed = "offer_failed",
    Replaced = "replaced",
    Restored = "restored",
    Redelivered = "redelivered",
    Stale = "stale",
    Held = "held",
});
labels!(CheckOutcome { Right = "right", Wrong = "wrong", Refused = "refused", });
labels!(AccountEvent {
    Created = "created",
    Reregistered = "reregistered",
    Deleted = "deleted",
    NumberChanged = "number_changed",
});

const TRANSPORTS: [Transport; 2] = [Transport::Sms, Transport::Voice];

/// Registers what the role counts, as if it had one provider with the name `provider`, so that everything can be described.
pub fn describe_metrics(registry: &Registry, provider: &str) {
    let metrics = Metrics::new(registry);
    metrics.expect_provider(provider);
    let (share, some) = (Some(0.0), Some(0));
    let standing = Standing {
        breaker: BreakerState::Closed,
        conversion: share,
        arrived: share,
        delay: Some(Duration::ZERO),
        rate: 0.0,
    };
    for transport in TRANSPORTS {
        metrics.standing(provider, transport, standing);
    }
    metrics.budget((some, some), (some, some));
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels);
            register(registry, counters.expect("the name and labels are constants"))
        };
        Self {
            verifications: counters(
                "spillway_verifications_total",
                "Verification sessions by event and transport.",
                &["event", "transport"],
            ),
            sessions_expired: register(
                registry,
                IntCounter::new(
                    "spillway_verification_sessions_expired_total",
                    "Verification sessions forgotten at the end of their life, finished ones included.",
                )
                .expect("the name is a constant"),
            ),
            codes: counters(
                "spillway_verification_codes_total",
                "Queued codes by what became of each attempt to hand them over.",
                &["provider", "outcome"],
            ),
            dispatch_seconds: register(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "spillway_verification_dispatch_seconds",
                        "From asking for a code to the provider taking it.",
                    )
                    .buckets(DISPATCH_SECONDS.to_vec()),
                )
                .expect("the name and buckets are constants"),
            ),
            queue_oldest_seconds: register(
                registry,
                Gauge::new(
                    "spillway_verification_queue_oldest_seconds",
                    "Age of the code that waits longest.",
                )
                .expect("the name is a constant"),
            ),
            queue_depth: register(
                registry,
                IntGauge::new(
                    "spillway_verification_queue_items",
                    "Items of the work queue, those with workers included, as last seen.",
                )
                .expect("the name is a constant"),
            ),
            work: counters(
                "spillway_verification_work_total",
                "Items of the work queue of codes, by what happened to them.",
                &["event"],
            ),
            checks: counters("spillway_verification_checks_total", "Tries of codes.", &["outcome"]),
            accounts: counters("spillway_accounts_total", "Changes of accounts.", &["event"]),
            providers: ProviderMetrics::new(registry),
        }
        .starting_at_zero()
    }

    /// Series begin at 0, or an alert would not see the first event.
    fn starting_at_zero(self) -> Self {
        for event in VerificationEvent::ALL {
            for transport in TRANSPORTS {
                self.verifications.with_label_values(&[event.label(), transport_name(transport)]);
            }
        }
        for event in WorkEvent::ALL {
            self.work.with_label_values(&[event.label()]);
        }
        for outcome in CheckOutcome::ALL {
            self.checks.with_label_values(&[outcome.label()]);
        }
        for event in AccountEvent::ALL {
            self.accounts.with_label_values(&[event.label()]);
        }
        for outcome in [CodeOutcome::GivenUp, CodeOutcome::Stale] {
            self.codes.with_label_values(&[NO_PROVIDER, outcome.label()]);
        }
        self
    }

    /// Series of a provider of the settings begin at 0 too.
    pub(crate) fn expect_provider(&self, provider: &str) {
        for outcome in CodeOutcome::ALL {
            self.codes.with_label_values(&[provider, outcome.label()]);
        }
        self.providers.expect(provider);
    }

    pub(crate) fn verification(&self, event: VerificationEvent, transport: Transport) {
        self.verifications.with_label_values(&[event.label(), transport_name(transport)]).inc();
    }

    pub(crate) fn code(&self, provider: &str, outcome: CodeOutcome) {
        self.codes.with_label_values(&[provider, outcome.label()]).inc();
    }

    /// How long a provider took to take a code.
    pub(crate) fn call(&self, provider: &str, took: Duration) {
        self.providers.call(provider, took);
    }

    /// Millionths of the currency's unit.
    pub(crate) fn spent(&self, provider: &str, cost: u64) {
        self.providers.spent(provider, cost);
    }

    pub(crate) fn guard(&self, verdict: GuardVerdict) {
        self.providers.guard(verdict);
    }

    pub(crate) fn receipt(&self, provider: &str, outcome: ReceiptOutcome) {
        self.providers.receipt(provider, outcome);
    }

    pub(crate) fn wait(&self, why: Why) {
        self.providers.wait(why);
    }

    pub(crate) fn standing(&self, provider: &str, transport: Transport, standing: Standing) {
        self.providers.standing(provider, transport, standing);
    }

    /// Of the hour and of the day: what this process may spend, and what is left of it.
    pub(crate) fn budget(&self, size: (Option<u64>, Option<u64>), left: (Option<u64>, Option<u64>)) {
        self.providers.budget(size, left);
    }

    pub(crate) fn work(&self, event: WorkEvent) {
        self.work.with_label_values(&[event.label()]).inc();
    }

    pub(crate) fn check(&self, outcome: CheckOutcome) {
        self.checks.with_label_values(&[outcome.label()]).inc();
    }

    pub(crate) fn account(&self, event: AccountEvent) {
        self.accounts.with_label_values(&[event.label()]).inc();
    }
}

const fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Sms => "sms",
        Transport::Voice => "voice",
    }
}
