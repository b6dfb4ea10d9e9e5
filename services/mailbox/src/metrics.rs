//! What the role did.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};
use spillway_types::Timestamp;

use crate::append::{AppendError, Appended};

#[derive(Clone, Copy, Debug)]
pub(crate) enum HintKind {
    Stored,
    Wake,
    Whisper,
    DeviceRemoved,
}

const HINT_KINDS: [(HintKind, &str); 4] = [
    (HintKind::Stored, "stored"),
    (HintKind::Wake, "wake"),
    (HintKind::Whisper, "whisper"),
    (HintKind::DeviceRemoved, "device_removed"),
];

/// Hints by kind: published, and not published because the bus was away.
#[derive(Clone, Debug)]
pub(crate) struct HintCounters([(IntCounter, IntCounter); HINT_KINDS.len()]);

#[derive(Debug)]
pub(crate) struct Metrics {
    stored: IntCounter,
    full: IntCounter,
    out_of_window: IntCounter,
    fenced: IntCounter,
    settled: IntCounter,
    failed: IntCounter,
    fetches: IntCounter,
    fetched: IntCounter,
    settled_lag: Histogram,
    pub(crate) settled_raises: IntCounter,
    pub(crate) acknowledged: IntCounter,
    pub(crate) expired: IntCounter,
    pub(crate) hints: HintCounters,
}

/// From the trail of 60 s, through the raise step of 15 min, to the retention of 31 days.
const LAG_BUCKETS: [f64; 8] = [61.0, 300.0, 960.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 2_678_400.0];

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let appends = IntCounterVec::new(
            Opts::new("spillway_mailbox_appends_total", "Appends by outcome."),
            &["outcome"],
        )?;
        registry.register(Box::new(appends.clone()))?;
        let outcome = |name| appends.with_label_values(&[name]);
        let settled_lag = Histogram::with_opts(
            HistogramOpts::new(
                "spillway_mailbox_settled_lag_seconds",
                "How far the settled watermark was behind the clock when a mailbox was read.",
            )
            .buckets(LAG_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(settled_lag.clone()))?;
        Ok(Self {
            stored: outcome("stored"),
            full: outcome("full"),
            out_of_window: outcome("out_of_window"),
            fenced: outcome("fenced"),
            settled: outcome("settled"),
            failed: outcome("failed"),
            fetches: counter("spillway_mailbox_fetches_total", "Pages read.")?,
            fetched: counter("spillway_mailbox_fetched_messages_total", "Messages in pages read.")?,
            settled_lag,
            settled_raises: counter("spillway_mailbox_settled_raises_total", "Stored rises of a watermark.")?,
            acknowledged: counter(
                "spillway_mailbox_acknowledged_messages_total",
                "Message ids that devices acknowledged, repetitions included.",
            )?,
            expired: counter("spillway_mailbox_expired_messages_total", "Messages that nobody collected.")?,
            hints: HintCounters::register(registry)?,
        })
    }

    pub(crate) fn count_append(&self, outcome: &Result<Appended, AppendError>) {
        match outcome {
            Ok(Appended::Stored { .. }) => self.stored.inc(),
            Ok(Appended::Full) => self.full.inc(),
            Err(AppendError::OutOfWindow) => self.out_of_window.inc(),
            Err(AppendError::Fenced) => self.fenced.inc(),
            Err(AppendError::Settled | AppendError::Unborn) => self.settled.inc(),
            Err(AppendError::Store(_) | AppendError::Died(_)) => self.failed.inc(),
        }
    }

    pub(crate) fn count_fetch(&self, messages: usize, read_start: Timestamp, settled: Timestamp) {
        self.fetches.inc();
        self.fetched.inc_by(messages as u64);
        // A mailbox that was never read has no watermark, and its distance from 1970 says nothing.
        if settled > Timestamp::ZERO {
            self.settled_lag.observe(read_start.since(settled).as_secs_f64());
        }
    }
}

/// Registers what the role counts, so that it can be described.
///
/// # Errors
///
/// When the registry has it already.
pub fn describe_metrics(registry: &Registry) -> prometheus::Result<()> {
    Metrics::register(registry).map(drop)
}

impl HintCounters {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let hints = IntCounterVec::new(
            Opts::new("spillway_mailbox_hints_total", "Hints by kind and by whether the bus took them."),
            &["kind", "outcome"],
        )?;
        registry.register(Box::new(hints.clone()))?;
        let series = |kind, outcome| hints.with_label_values(&[kind, outcome]);
        Ok(Self(HINT_KINDS.map(|(_, kind)| (series(kind, "published"), series(kind, "failed")))))
    }

    pub(crate) fn count(&self, kind: HintKind, published: bool) {
        let (ok, failed) = &self.0[kind as usize];
        if published { ok } else { failed }.inc();
    }
}

const _: () = {
    let mut i = 0;
    while i < HINT_KINDS.len() {
        assert!(HINT_KINDS[i].0 as usize == i, "HINT_KINDS must be in the order of HintKind");
        i += 1;
    }
};
