//! What gates see of a run that others play.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::live::Live;
use crate::events::{Event, EventKind};
use crate::gates::{Kind, Seen, Watch};
use crate::recording::Recording;
use crate::run::recorder::phase;
use crate::stats::{Latency, Phase};
use crate::timeline::Row;
use crate::workers::{Seconds, Staff};

/// What goes on while the workers play.
pub(super) struct Watching {
    pub(super) started: Instant,
    pub(super) phases: Vec<Phase>,
    /// Of the part with load.
    pub(super) planned: Duration,
    pub(super) watches: Vec<Watch>,
    /// Seconds below were judged.
    pub(super) judged: u64,
    pub(super) events: Vec<Event>,
    /// What the workers do not see.
    pub(super) own: Recording,
    pub(super) sampled: u64,
    /// Since when the workers settle, or are quiet, or go home.
    pub(super) step_since: Instant,
    pub(super) aborted: bool,
    /// The word about a worker that ended the run.
    pub(super) failed: Option<String>,
    /// Second from which on the server between this and the workers was gone.
    pub(super) alone_since: Option<u64>,
    pub(super) live: Live,
}

impl Watching {
    /// What one worker saw: for who watches, and for the gates.
    pub(super) fn hear(&mut self, seconds: &Seconds) {
        let phases = &self.phases;
        let phase = |second| phase(phases, Duration::from_secs(second));
        self.live.add(&seconds.rows, &seconds.intervals, phase);
        self.add(&seconds.rows, &seconds.intervals);
    }

    fn add(&mut self, rows: &[Row], intervals: &[(u64, String, Latency)]) {
        if self.watches.is_empty() {
            return;
        }
        let latencies: BTreeMap<(u64, &str), &Latency> =
            intervals.iter().map(|(second, tag, latency)| ((*second, tag.as_str()), latency)).collect();
        for row in rows {
            let phase = phase(&self.phases, Duration::from_secs(row.second));
            for (operation, figures) in &row.operations {
                let add = |kind: Kind, latency: &mut Latency| {
                    let tag = format!("{operation}.{}", kind.name());
                    if let Some(seen) = latencies.get(&(row.second, tag.as_str())) {
                        latency.add(seen);
                    }
                };
                let seen = Seen { second: row.second, phase, operation, row: figures, add: &add };
                self.watches.iter_mut().for_each(|watch| watch.add(&seen));
            }
        }
    }

    /// Closes the seconds of which everybody has told.
    pub(super) fn judge(&mut self, staff: &Staff) {
        for second in self.judged..staff.seconds() {
            let phase = phase(&self.phases, Duration::from_secs(second));
            for watch in &mut self.watches {
                if watch.close(second, phase) && !self.aborted {
                    self.aborted = true;
                    self.events.push(Event {
                        at_s: second as f64,
                        kind: EventKind::Aborted,
                        label: "ended by a gate".to_owned(),
                        took_s: None,
                        outcome: watch.rule().text.clone(),
                    });
                }
            }
        }
        self.judged = self.judged.max(staff.seconds());
    }
}
