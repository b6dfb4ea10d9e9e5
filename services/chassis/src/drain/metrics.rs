//! How far a drain is, for whoever scrapes while it goes on: the admin port answers until its last step.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};
use tokio::time::Instant;

/// Steps that have begun.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<HashMap<&'static str, Step>>);

#[derive(Clone, Copy, Debug)]
enum Step {
    Running(Instant),
    Ended(Duration),
}

impl Progress {
    pub(super) fn begin(&self, step: &'static str, at: Instant) {
        self.steps().insert(step, Step::Running(at));
    }

    pub(super) fn end(&self, step: &'static str, took: Duration) {
        self.steps().insert(step, Step::Ended(took));
    }

    /// Zero before it begins.
    fn seconds(&self, step: &str) -> f64 {
        let step = self.steps().get(step).copied();
        match step {
            None => 0.0,
            Some(Step::Running(since)) => since.elapsed().as_secs_f64(),
            Some(Step::Ended(took)) => took.as_secs_f64(),
        }
    }

    fn steps(&self) -> MutexGuard<'_, HashMap<&'static str, Step>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the progress whenever metrics are collected.
#[derive(Debug)]
pub(super) struct StepSeconds {
    steps: Vec<&'static str>,
    progress: Arc<Progress>,
    seconds: GaugeVec,
}

impl StepSeconds {
    pub(super) fn new(steps: Vec<&'static str>, progress: Arc<Progress>) -> prometheus::Result<Self> {
        let help = "How long a step of the drain took, or has been going on; 0 before it begins.";
        let seconds = GaugeVec::new(Opts::new("spillway_drain_step_seconds", help), &["step"])?;
        Ok(Self { steps, progress, seconds })
    }
}

impl Collector for StepSeconds {
    fn desc(&self) -> Vec<&Desc> {
        self.seconds.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for step in &self.steps {
            self.seconds.with_label_values(&[step]).set(self.progress.seconds(step));
        }
        self.seconds.collect()
    }
}
