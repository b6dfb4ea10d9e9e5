//! How a process's writes fare, for whoever decides how many more there may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::StoreError;

/// What is written. Kept apart because one kind can be slow alone: most of the first are conditional, and the second are many more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Accounts, keys, verifications and directory entries: what a sign-up writes.
    Identity,
    /// Messages and watermarks.
    Mailbox,
}

/// Counts writes as their callers see them, the wait for a turn included. Clones count together. What stores do for themselves, such as
/// forgetting what is too old, does not count, nor do leases.
#[derive(Clone, Debug, Default)]
pub struct Writes(Arc<[Cells; 2]>);

#[derive(Debug, Default)]
struct Cells {
    begun: AtomicU64,
    finished: AtomicU64,
    failed: AtomicU64,
    left: AtomicU64,
    micros: AtomicU64,
}

/// Since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteTotals {
    pub finished: u64,
    /// Of the finished ones, those of which the store did not say that they are done.
    pub failed: u64,
    /// That the finished ones took together.
    pub took: Duration,
    /// At present.
    pub under_way: u64,
}

/// A write that has begun. One whose caller leaves counts as nothing.
#[derive(Debug)]
pub(crate) struct UnderWay<'a> {
    cells: &'a Cells,
    began: Instant,
    ended: bool,
}

impl Writes {
    pub fn totals(&self, of: Written) -> WriteTotals {
        let cells = &self.0[of as usize];
        // In this order, so that none is counted as under way that is not.
        let (finished, left) = (cells.finished.load(Relaxed), cells.left.load(Relaxed));
        WriteTotals {
            finished,
            failed: cells.failed.load(Relaxed),
            took: Duration::from_micros(cells.micros.load(Relaxed)),
            under_way: cells.begun.load(Relaxed).saturating_sub(finished + left),
        }
    }

    pub(crate) fn begin(&self, of: Written) -> UnderWay<'_> {
        let cells = &self.0[of as usize];
        cells.begun.fetch_add(1, Relaxed);
        UnderWay { cells, began: Instant::now(), ended: false }
    }
}

impl UnderWay<'_> {
    pub(crate) fn end<T>(mut self, result: &Result<T, StoreError>) {
        self.ended = true;
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.cells.micros.fetch_add(micros, Relaxed);
        // A record that cannot be read says nothing of what the store has to do.
        if matches!(result, Err(error) if !matches!(error, StoreError::Corrupt { .. })) {
            self.cells.failed.fetch_add(1, Relaxed);
        }
        self.cells.finished.fetch_add(1, Relaxed);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.cells.left.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_waits_fails_or_is_left_is_told_apart() {
        let writes = Writes::default();
        let totals = || writes.totals(Written::Identity);
        let (first, second, third) = (
            writes.begin(Written::Identity),
            writes.begin(Written::Identity),
            writes.begin(Written::Identity),
        );
        assert_eq!(totals(), WriteTotals { under_way: 3, ..WriteTotals::default() });
        tokio::time::advance(Duration::from_millis(250)).await;
        first.end(&Ok(()));
        second.end::<()>(&Err(StoreError::DiskFull));
        drop(third);
        let took = Duration::from_millis(500);
        assert_eq!(totals(), WriteTotals { finished: 2, failed: 1, took, under_way: 0 });
        assert_eq!(writes.totals(Written::Mailbox), WriteTotals::default());
    }
}
