use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// What became of the numbers that were asked about.
#[derive(Debug)]
pub(crate) struct Metrics {
    malformed: IntCounter,
    unknown: IntCounter,
    matched: IntCounter,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let numbers = IntCounterVec::new(
            Opts::new("spillway_directory_numbers_total", "Numbers looked up, by what was found."),
            &["outcome"],
        )?;
        registry.register(Box::new(numbers.clone()))?;
        let outcome = |name| numbers.with_label_values(&[name]);
        Ok(Self { malformed: outcome("malformed"), unknown: outcome("unknown"), matched: outcome("matched") })
    }

    pub(crate) fn count(&self, malformed: usize, unknown: usize, matched: usize) {
        self.malformed.inc_by(malformed as u64);
        self.unknown.inc_by(unknown as u64);
        self.matched.inc_by(matched as u64);
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        (self.malformed.get(), self.unknown.get(), self.matched.get())
    }
}
