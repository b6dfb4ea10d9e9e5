use std::time::Duration;

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use spillway_types::Timestamp;

use crate::filter::Size;

/// What became of the numbers that were asked about.
#[derive(Debug)]
pub(crate) struct Metrics {
    malformed: IntCounter,
    unknown: IntCounter,
    matched: IntCounter,
    open: IntCounter,
    absent: IntCounter,
    present: IntCounter,
    false_positive: IntCounter,
    unfiltered: IntCounter,
    pub(crate) filter: FilterMetrics,
}

/// Numbers of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) malformed: usize,
    /// The filter said that nobody has them.
    pub(crate) absent: usize,
    /// Not looked up, because the store was to be spared.
    pub(crate) open: usize,
    /// Looked up in the store.
    pub(crate) asked: usize,
    pub(crate) matched: usize,
    /// There was a filter to ask.
    pub(crate) filtered: bool,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let numbers = counters(
            registry,
            "spillway_directory_numbers_total",
            "Numbers looked up, by what was found.",
            "outcome",
        )?;
        let verdicts = counters(
            registry,
            "spillway_directory_filter_numbers_total",
            "Numbers shown to the filter, by what it said and the store said then. The false positives among strangers are \
             false_positive / (absent + false_positive).",
            "verdict",
        )?;
        Ok(Self {
            malformed: numbers("malformed"),
            unknown: numbers("unknown"),
            matched: numbers("matched"),
            open: numbers("open"),
            absent: verdicts("absent"),
            present: verdicts("present"),
            false_positive: verdicts("false_positive"),
            unfiltered: verdicts("unfiltered"),
            filter: FilterMetrics::register(registry)?,
        })
    }

    pub(crate) fn count(&self, tally: Tally) {
        let Tally { malformed, absent, open, asked, matched, filtered } = tally;
        add(&self.malformed, malformed);
        add(&self.unknown, absent + asked - matched);
        add(&self.matched, matched);
        add(&self.open, open);
        add(&self.absent, absent);
        if filtered {
            add(&self.present, matched);
            add(&self.false_positive, asked - matched);
        } else {
            add(&self.unfiltered, asked);
        }
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        (self.malformed.get(), self.unknown.get(), self.matched.get())
    }

    /// Absent, present, false positives and unfiltered.
    #[cfg(test)]
    pub(crate) fn verdicts(&self) -> [u64; 4] {
        [&self.absent, &self.present, &self.false_positive, &self.unfiltered].map(IntCounter::get)
    }
}

/// How a build of the filter ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuildOutcome {
    Finished,
    Failed,
    /// More came than the log holds.
    Overtaken,
}

/// How the filter is kept.
#[derive(Debug)]
pub(crate) struct FilterMetrics {
    entries: IntGauge,
    bytes: IntGauge,
    layers: IntGauge,
    built_at: Gauge,
    caught_up_at: Gauge,
    build_seconds: Gauge,
    finished: IntCounter,
    failed: IntCounter,
    overtaken: IntCounter,
    pub(crate) hints: IntCounter,
    pub(crate) log_failures: IntCounter,
}

impl FilterMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let builds = counters(
            registry,
            "spillway_directory_filter_builds_total",
            "Times that the filter was built from the store, by how that ended.",
            "outcome",
        )?;
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let seconds = |name: &str, help: &str| {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            entries: gauge(
                "spillway_directory_filter_entries",
                "Entries in the filter, gone ones included.",
            )?,
            bytes: gauge("spillway_directory_filter_bytes", "Memory of the filter in use.")?,
            layers: gauge(
                "spillway_directory_filter_layers",
                "Bloom filters that it consists of. 0: there is none.",
            )?,
            built_at: seconds(
                "spillway_directory_filter_built_timestamp_seconds",
                "When the filter in use was finished, in Unix time.",
            )?,
            caught_up_at: seconds(
                "spillway_directory_filter_caught_up_timestamp_seconds",
                "When the store was last asked for new entries and answered, in Unix time.",
            )?,
            build_seconds: seconds(
                "spillway_directory_filter_build_seconds",
                "How long building the filter took the last time.",
            )?,
            finished: builds("finished"),
            failed: builds("failed"),
            overtaken: builds("overtaken"),
            hints: counter("spillway_directory_hints_total", "New entries that were heard of over the bus.")?,
            log_failures: counter(
                "spillway_directory_log_failures_total",
                "Times that the store could not be asked for new entries.",
            )?,
        })
    }

    pub(crate) fn size(&self, size: Size) {
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.entries.set(gauge(size.entries));
        self.bytes.set(gauge(size.bytes));
        self.layers.set(gauge(size.layers));
    }

    pub(crate) fn caught_up(&self, at: Timestamp) {
        self.caught_up_at.set(unix_seconds(at));
    }

    pub(crate) fn built(&self, outcome: BuildOutcome, took: Duration, at: Timestamp) {
        let counter = match outcome {
            BuildOutcome::Finished => &self.finished,
            BuildOutcome::Failed => &self.failed,
            BuildOutcome::Overtaken => &self.overtaken,
        };
        counter.inc();
        if outcome == BuildOutcome::Finished {
            self.build_seconds.set(took.as_secs_f64());
            self.built_at.set(unix_seconds(at));
        }
    }

    #[cfg(test)]
    pub(crate) fn builds(&self) -> u64 {
        self.finished.get()
    }
}

/// Registers what the role counts, so that it can be described.
///
/// # Errors
///
/// When the registry has it already.
pub fn describe_metrics(registry: &Registry) -> prometheus::Result<()> {
    Metrics::register(registry)?;
    ReadMetrics::register(registry).map(drop)
}

/// What was asked of the store.
#[derive(Clone, Debug)]
pub(crate) struct ReadMetrics {
    pub(crate) read: IntCounter,
    pub(crate) joined: IntCounter,
}

impl ReadMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let reads = counters(
            registry,
            "spillway_directory_reads_total",
            "Numbers that were read from the store, or were being read for somebody else already.",
            "how",
        )?;
        Ok(Self { read: reads("read"), joined: reads("joined") })
    }
}

/// Registers a family, and answers with how to get one of its counters.
fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> prometheus::Result<impl Fn(&str) -> IntCounter> {
    let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(family.clone()))?;
    Ok(move |value: &str| family.with_label_values(&[value]))
}

fn add(counter: &IntCounter, count: usize) {
    if count > 0 {
        counter.inc_by(count as u64);
    }
}

fn unix_seconds(at: Timestamp) -> f64 {
    at.as_micros() as f64 / 1e6
}
