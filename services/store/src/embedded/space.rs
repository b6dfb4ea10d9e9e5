//! Whether the disk has room for more.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::metrics::Metrics;

/// At 100 MB/s, more than any group commit here writes, the disk loses 10 MB between two looks: far less than the
/// reserve.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Space {
    path: PathBuf,
    reserve_bytes: u64,
    has_room: bool,
    looked_at: Option<Instant>,
}

impl Space {
    pub(super) const fn new(path: PathBuf, reserve_bytes: u64) -> Self {
        Self { path, reserve_bytes, has_room: true, looked_at: None }
    }

    pub(super) fn has_room(&mut self, metrics: &Metrics) -> bool {
        let now = Instant::now();
        if self.looked_at.is_some_and(|at| now.duration_since(at) < LOOK_EVERY) {
            return self.has_room;
        }
        self.looked_at = Some(now);
        match rustix::fs::statvfs(&self.path) {
            Ok(disk) => self.saw(disk.f_bavail.saturating_mul(disk.f_frsize), metrics),
            // The writes themselves will tell whether the disk is still there.
            Err(error) => tracing::warn!(%error, "cannot ask how much of the store's disk is free"),
        }
        self.has_room
    }

    fn saw(&mut self, free_bytes: u64, metrics: &Metrics) {
        metrics.disk_free(free_bytes);
        let has_room = free_bytes >= self.reserve_bytes;
        if has_room != self.has_room {
            if has_room {
                tracing::info!(free_bytes, "the store's disk has room again");
            } else {
                let reserve_bytes = self.reserve_bytes;
                tracing::error!(free_bytes, reserve_bytes, "the store's disk is full, new data is refused");
            }
        }
        self.has_room = has_room;
    }
}
