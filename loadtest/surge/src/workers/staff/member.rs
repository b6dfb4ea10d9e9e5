//! One worker, as the coordinator knows it.

use tokio::time::Instant;

use crate::recording::Recording;
use crate::stats::Latency;
use crate::summary::WorkerSummary;
use crate::workers::session::Collected;
use crate::workers::wire::{Done, Hello};
use crate::workers::{Heard, Part, Progressed};

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) number: u32,
    pub(crate) hello: Hello,
    pub(crate) part: Part,
    pub(crate) progressed: Progressed,
    pub(crate) recording: Recording,
    pub(crate) done: Option<Done>,
    pub(crate) lost_at_s: Option<u64>,
    pub(super) heard: Heard,
    pub(super) last_word: Instant,
    pub(super) accounts: Collected,
    pub(super) failed: Option<String>,
}

impl Worker {
    pub(super) fn new(number: u32, hello: Hello) -> Self {
        Self {
            number,
            hello,
            part: Part::WHOLE,
            progressed: Progressed::default(),
            recording: Recording::default(),
            done: None,
            lost_at_s: None,
            heard: Heard::default(),
            last_word: Instant::now(),
            accounts: Collected::default(),
            failed: None,
        }
    }

    pub(super) fn is_here(&self) -> bool {
        self.lost_at_s.is_none()
    }

    pub(super) fn summary(&self, existing: u32) -> WorkerSummary {
        WorkerSummary {
            lag_p99_ms: lag_of(&self.recording).or(self.progressed.lag_p99_ms),
            offered: offered_of(&self.recording),
            lost_at_s: self.lost_at_s,
            folder: self.done.as_ref().map(|done| done.folder.clone()).unwrap_or_default(),
            ..summary_of(self.number, &self.hello, self.part, existing)
        }
    }
}

/// What is known of a worker before it has done anything.
pub(crate) fn summary_of(number: u32, hello: &Hello, part: Part, existing: u32) -> WorkerSummary {
    let users = part.users(existing);
    WorkerSummary {
        number,
        host: hello.host.clone(),
        cores: hello.cores,
        share: part.to_string(),
        users: (users.start, users.end),
        clock_offset_ms: hello.clock.micros as f64 / 1_000.0,
        round_trip_ms: hello.clock.round_trip_micros as f64 / 1_000.0,
        ..WorkerSummary::default()
    }
}

/// Of everything that was sent.
pub(crate) fn lag_of(recording: &Recording) -> Option<f64> {
    let mut lag = Latency::default();
    for (_, _, sparse) in recording.histograms().filter(|(_, tag, _)| tag.ends_with(".lag")) {
        lag.add_sparse(sparse);
    }
    lag.quantile_ms(0.99)
}

pub(crate) fn offered_of(recording: &Recording) -> u64 {
    recording.rows().flat_map(|row| row.operations.values()).map(|operation| operation.offered).sum()
}
