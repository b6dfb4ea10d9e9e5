use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// What a transfer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Exporting,
    /// The whole file is read, so that damage is found before anything is written.
    Checking,
    Importing,
    /// The file is read again, and each record back from the destination.
    Verifying,
}

const PHASES: [Phase; 4] = [Phase::Exporting, Phase::Checking, Phase::Importing, Phase::Verifying];

/// Shows how far a transfer is, and stops it from outside. Clones are the same monitor.
#[derive(Clone, Debug, Default)]
pub struct Monitor(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    phase: AtomicU8,
    records: AtomicU64,
    bytes: AtomicU64,
    is_stopping: AtomicBool,
}

impl Monitor {
    /// Ends the transfer at the next record. An import can go on from there.
    pub fn stop(&self) {
        self.0.is_stopping.store(true, Ordering::Relaxed);
    }

    pub fn phase(&self) -> Phase {
        PHASES[usize::from(self.0.phase.load(Ordering::Relaxed))]
    }

    /// Records of this phase, without those before the point from which it went on.
    pub fn records(&self) -> u64 {
        self.0.records.load(Ordering::Relaxed)
    }

    /// Where in the file it is.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.0.is_stopping.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Relaxed);
        self.0.records.store(0, Ordering::Relaxed);
        self.0.bytes.store(0, Ordering::Relaxed);
    }

    pub(super) fn advance(&self, records: u64, bytes: u64) {
        self.0.records.fetch_add(records, Ordering::Relaxed);
        self.0.bytes.store(bytes, Ordering::Relaxed);
    }
}
