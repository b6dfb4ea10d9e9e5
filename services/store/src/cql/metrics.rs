use prometheus::{Histogram, IntCounter};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, exponential_buckets};
use tokio::time::Instant;

use super::driver_metrics;
use crate::{StoreError, Writes, Written};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    AccountGet,
    AccountPut,
    AccountDelete,
    NumberClaim,
    NumberGet,
    NumberRelease,
    KeysUpload,
    KeysTake,
    KeysSigned,
    KeysClear,
    VerificationGet,
    VerificationPut,
    VerificationQueue,
    VerificationExpire,
    DirectoryPut,
    DirectoryRemove,
    DirectoryLookup,
    DirectoryWalk,
    DirectoryLog,
    LeaseGet,
    LeasePut,
    MessagePut,
    MessagePage,
    MessageDelete,
    SettledGet,
    SettledRaise,
    MailboxCount,
    MailboxPurge,
}

impl Operation {
    /// What it is counted as, if it writes; leases are not counted.
    const fn written(self) -> Option<Written> {
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
            Self::AccountGet
            | Self::NumberGet
            | Self::KeysSigned
            | Self::VerificationGet
            | Self::VerificationQueue
            | Self::VerificationExpire
            | Self::DirectoryLookup
            | Self::DirectoryWalk
            | Self::DirectoryLog
            | Self::LeaseGet
            | Self::LeasePut
            | Self::MessagePage
            | Self::SettledGet
            | Self::MailboxCount => None,
        }
    }
}

const OPERATIONS: [(Operation, &str); 28] = [
    (Operation::AccountGet, "account_get"),
    (Operation::AccountPut, "account_put"),
    (Operation::AccountDelete, "account_delete"),
    (Operation::NumberClaim, "number_claim"),
    (Operation::NumberGet, "number_get"),
    (Operation::NumberRelease, "number_release"),
    (Operation::KeysUpload, "keys_upload"),
    (Operation::KeysTake, "keys_take"),
    (Operation::KeysSigned, "keys_signed"),
    (Operation::KeysClear, "keys_clear"),
    (Operation::VerificationGet, "verification_get"),
    (Operation::VerificationPut, "verification_put"),
    (Operation::VerificationQueue, "verification_queue"),
    (Operation::VerificationExpire, "verification_expire"),
    (Operation::DirectoryPut, "directory_put"),
    (Operation::DirectoryRemove, "directory_remove"),
    (Operation::DirectoryLookup, "directory_lookup"),
    (Operation::DirectoryWalk, "directory_walk"),
    (Operation::DirectoryLog, "directory_log"),
    (Operation::LeaseGet, "lease_get"),
    (Operation::LeasePut, "lease_put"),
    (Operation::MessagePut, "message_put"),
    (Operation::MessagePage, "message_page"),
    (Operation::MessageDelete, "message_delete"),
    (Operation::SettledGet, "settled_get"),
    (Operation::SettledRaise, "settled_raise"),
    (Operation::MailboxCount, "mailbox_count"),
    (Operation::MailboxPurge, "mailbox_purge"),
];

const OUTCOMES: [&str; 3] = ["ok", "unavailable", "corrupt"];

const fn outcome<T>(result: &Result<T, StoreError>) -> usize {
    match result {
        Ok(_) => 0,
        Err(StoreError::Corrupt { .. }) => 2,
        Err(_) => 1,
    }
}

/// Registers what the store and its driver count, so that it can be described.
///
/// # Errors
///
/// When the registry has it already.
pub fn describe_metrics(registry: &Registry) -> prometheus::Result<()> {
    driver_metrics::describe(registry)?;
    Metrics::new()?.register(registry)
}

#[derive(Debug)]
struct Series {
    outcomes: [IntCounter; OUTCOMES.len()],
    seconds: Histogram,
}

/// Series are resolved once, by index.
#[derive(Debug)]
pub(super) struct Metrics {
    operations: [Series; OPERATIONS.len()],
    families: (IntCounterVec, HistogramVec),
    pub(super) writes: Writes,
    pub(super) rows_per_insert: Histogram,
}

impl Metrics {
    pub(super) fn new() -> prometheus::Result<Self> {
        let operations = IntCounterVec::new(
            Opts::new("spillway_store_operations_total", "Operations answered, by operation and outcome."),
            &["operation", "outcome"],
        )?;
        // From a row in a node's memory (0.25 ms) to beyond the longest time-out of several requests (8 s).
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "spillway_store_operation_seconds",
                "Time of one operation with all its requests.",
            )
            .buckets(exponential_buckets(0.000_25, 2.0, 16)?),
            &["operation"],
        )?;
        let series = |name| Series {
            outcomes: OUTCOMES.map(|outcome| operations.with_label_values(&[name, outcome])),
            seconds: seconds.with_label_values(&[name]),
        };
        Ok(Self {
            operations: OPERATIONS.map(|(_, name)| series(name)),
            families: (operations, seconds),
            writes: Writes::default(),
            rows_per_insert: Histogram::with_opts(
                HistogramOpts::new(
                    "spillway_store_insert_rows",
                    "Messages that one request to the database stores.",
                )
                .buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]),
            )?,
        })
    }

    pub(super) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        let (operations, seconds) = &self.families;
        registry.register(Box::new(operations.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(self.rows_per_insert.clone()))
    }

    /// Counts and times one operation.
    pub(super) async fn measure<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let under_way = operation.written().map(|of| self.writes.begin(of));
        let result = work.await;
        if let Some(under_way) = under_way {
            under_way.end(&result);
        }
        let series = &self.operations[operation as usize];
        series.outcomes[outcome(&result)].inc();
        series.seconds.observe(began.elapsed().as_secs_f64());
        result
    }
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
