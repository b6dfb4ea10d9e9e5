use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};

use crate::{StoreError, Written};

/// The kinds of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    AccountPut,
    AccountDelete,
    NumberClaim,
    NumberRelease,
    KeysUpload,
    KeysTake,
    KeysClear,
    VerificationPut,
    VerificationExpire,
    DirectoryPut,
    DirectoryRemove,
    LeasePut,
    MessagePut,
    MessageDelete,
    SettledRaise,
    MailboxPurge,
    MailboxExpire,
}

const OPERATIONS: [(Operation, &str); 17] = [
    (Operation::AccountPut, "account_put"),
    (Operation::AccountDelete, "account_delete"),
    (Operation::NumberClaim, "number_claim"),
    (Operation::NumberRelease, "number_release"),
    (Operation::KeysUpload, "keys_upload"),
    (Operation::KeysTake, "keys_take"),
    (Operation::KeysClear, "keys_clear"),
    (Operation::VerificationPut, "verification_put"),
    (Operation::VerificationExpire, "verification_expire"),
    (Operation::DirectoryPut, "directory_put"),
    (Operation::DirectoryRemove, "directory_remove"),
    (Operation::LeasePut, "lease_put"),
    (Operation::MessagePut, "message_put"),
    (Operation::MessageDelete, "message_delete"),
    (Operation::SettledRaise, "settled_raise"),
    (Operation::MailboxPurge, "mailbox_purge"),
    (Operation::MailboxExpire, "mailbox_expire"),
];

impl Operation {
    /// What the write is counted as. `None`: the store does it for itself, or it is a lease.
    pub(super) const fn written(self) -> Option<Written> {
        match self {
            Self::AccountPut
            | Self::AccountDelete
            | Self::NumberClaim
            | Self::NumberRelease
            | Self::KeysUpload
            | Self::KeysTake
            | Self::KeysClear
            | Self::VerificationPut
            | Self::DirectoryPut
            | Self::DirectoryRemove => Some(Written::Identity),
            Self::MessagePut | Self::MessageDelete | Self::SettledRaise | Self::MailboxPurge => {
                Some(Written::Mailbox)
            }
            Self::VerificationExpire | Self::LeasePut | Self::MailboxExpire => None,
        }
    }

    /// Whether the write adds data, and so is refused when the disk is full. What frees space, or moves an existing
    /// value on, goes through.
    pub(super) const fn needs_room(self) -> bool {
        matches!(
            self,
            Self::AccountPut
                | Self::NumberClaim
                | Self::KeysUpload
                | Self::VerificationPut
                | Self::DirectoryPut
                | Self::MessagePut
        )
    }
}

const OUTCOMES: [&str; 5] = ["ok", "unavailable", "disk_full", "corrupt", "stopped"];

const fn outcome(result: Result<(), &StoreError>) -> usize {
    match result {
        Ok(()) => 0,
        Err(StoreError::Unavailable(_)) => 1,
        Err(StoreError::DiskFull) => 2,
        Err(StoreError::Corrupt { .. }) => 3,
        Err(StoreError::Stopped(_)) => 4,
    }
}

/// Series are resolved once, by index, so that counting a write is one atomic addition.
#[derive(Debug)]
pub(super) struct Metrics {
    operations: [[IntCounter; OUTCOMES.len()]; OPERATIONS.len()],
    group_operations: Histogram,
    commit_seconds: Histogram,
    queue_operations: IntGauge,
    disk_free_bytes: IntGauge,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let operations = IntCounterVec::new(
            Opts::new("spillway_store_operations_total", "Writes answered, by operation and outcome."),
            &["operation", "outcome"],
        )?;
        // From one operation alone to a full group.
        let group_operations = Histogram::with_opts(
            HistogramOpts::new("spillway_store_group_operations", "Writes that shared one fsync.")
                .buckets(exponential_buckets(1.0, 2.0, 11)?),
        )?;
        // From a fast SSD's fsync (0.1 ms) to a disk that is about to fail (6.5 s).
        let commit_seconds = Histogram::with_opts(
            HistogramOpts::new("spillway_store_commit_seconds", "Time to write and fsync one group.")
                .buckets(exponential_buckets(0.000_1, 2.0, 17)?),
        )?;
        let queue_operations =
            IntGauge::new("spillway_store_queue_operations", "Writes waiting for their group to begin.")?;
        let disk_free_bytes =
            IntGauge::new("spillway_store_disk_free_bytes", "Room on the store's disk for this user.")?;
        registry.register(Box::new(operations.clone()))?;
        registry.register(Box::new(group_operations.clone()))?;
        registry.register(Box::new(commit_seconds.clone()))?;
        registry.register(Box::new(queue_operations.clone()))?;
        registry.register(Box::new(disk_free_bytes.clone()))?;
        Ok(Self {
            operations: OPERATIONS.map(|(_, operation)| {
                OUTCOMES.map(|outcome| operations.with_label_values(&[operation, outcome]))
            }),
            group_operations,
            commit_seconds,
            queue_operations,
            disk_free_bytes,
        })
    }

    pub(super) fn answered(&self, operation: Operation, result: Result<(), &StoreError>) {
        self.operations[operation as usize][outcome(result)].inc();
    }

    pub(super) fn group(&self, operations: usize, still_queued: usize) {
        self.group_operations.observe(operations as f64);
        self.queue_operations.set(i64::try_from(still_queued).unwrap_or(i64::MAX));
    }

    pub(super) fn committed(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn disk_free(&self, bytes: u64) {
        self.disk_free_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

/// Registers what the store counts, so that it can be described.
///
/// # Errors
///
/// When the registry has it already.
pub fn describe_metrics(registry: &Registry) -> prometheus::Result<()> {
    Metrics::register(registry).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_where_their_operation_looks_for_them() {
        for (index, (operation, name)) in OPERATIONS.into_iter().enumerate() {
            assert_eq!(operation as usize, index, "{name}");
        }
    }
}
