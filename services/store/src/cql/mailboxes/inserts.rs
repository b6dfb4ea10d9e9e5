//! How messages get into the table: those with the same replicas together, when many are due.

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use scylla::statement::batch::Batch;
use scylla::statement::prepared::PreparedStatement;
use spillway_types::MailboxId;
use uuid::Uuid;

use super::together::{LaneId, Limits, Row, Together, Writer};
use super::weeks::week;
use super::{row, uuid};
use crate::StoreError;
use crate::cql::cluster::Cluster;
use crate::cql::failure;
use crate::mailboxes::StoredMessage;

/// Cassandra writes a line to its log for each batch above `batch_size_warn_threshold`, 5 KiB. ScyllaDB's is 128 KiB.
const BYTES_MAX: usize = 4_608;
/// What Cassandra counts of a row besides its envelope: 57 bytes of keys, guid and size, and some 12 for each cell's time,
/// TTL and frame.
const ROW_OVERHEAD: usize = 128;

#[derive(Debug)]
pub(super) struct Inserts {
    together: Together<Statements>,
    cluster: Arc<Cluster>,
    hashes: RandomState,
}

#[derive(Clone, Debug)]
struct Insert {
    mailbox: MailboxId,
    message: StoredMessage,
}

struct Statements {
    cluster: Arc<Cluster>,
    insert: PreparedStatement,
    /// By the number of their rows.
    batches: Vec<Batch>,
    /// The database does not take several rows.
    refused: AtomicBool,
}

impl Inserts {
    pub(super) fn new(cluster: &Arc<Cluster>, insert: PreparedStatement) -> Self {
        let rows_max = cluster.rows_per_insert_max;
        let batches = (0..=rows_max).map(|rows| {
            let mut batch = cluster.batch();
            (0..rows).for_each(|_| batch.append_statement(insert.clone()));
            batch
        });
        let batches = batches.collect();
        let cluster = Arc::clone(cluster);
        let writer =
            Statements { cluster: Arc::clone(&cluster), insert, batches, refused: AtomicBool::new(false) };
        let together = Together::new(writer, Limits { rows: rows_max, bytes: BYTES_MAX });
        Self { together, cluster, hashes: RandomState::new() }
    }

    pub(super) async fn insert(&self, mailbox: MailboxId, message: StoredMessage) -> Result<(), StoreError> {
        let insert = Insert { mailbox, message };
        let writer = self.together.writer();
        if writer.refused.load(Ordering::Relaxed) {
            return writer.write_single(&insert).await;
        }
        let lane = self.lane(mailbox, &insert.message);
        self.together.write(lane, insert).await
    }

    /// Partitions with the same replicas, and with ScyllaDB the same shards: whichever of them the driver sends a request
    /// to has all of its rows. Two sets of replicas have the same lane as good as never, and that would cost a hop.
    fn lane(&self, mailbox: MailboxId, message: &StoredMessage) -> LaneId {
        let partition = (uuid(mailbox), week(message.id.time()));
        let state = self.cluster.session.get_cluster_state();
        let replicas = state.get_endpoints(&self.cluster.keyspaces.mailbox, "mailbox", &partition);
        // Not known before the driver has seen the table; until then the node that is asked finds them.
        let replicas = replicas.unwrap_or_default();
        lane_of(&self.hashes, replicas.iter().map(|(node, shard)| (node.host_id, *shard)))
    }
}

/// The same for the same set, in whatever order the driver names it.
fn lane_of(hashes: &RandomState, replicas: impl Iterator<Item = (Uuid, u32)>) -> LaneId {
    LaneId(replicas.map(|replica| hashes.hash_one(replica)).fold(0, u64::wrapping_add))
}

impl Row for Insert {
    fn bytes(&self) -> usize {
        self.message.envelope.len() + ROW_OVERHEAD
    }
}

impl Writer for Statements {
    type Row = Insert;

    async fn write(&self, rows: &[Insert]) -> Result<(), StoreError> {
        match rows {
            [single] => self.write_single(single).await,
            rows => self.write_batch(rows).await,
        }
    }
}

impl Statements {
    async fn write_single(&self, Insert { mailbox, message }: &Insert) -> Result<(), StoreError> {
        self.cluster.metrics.rows_per_insert.observe(1.0);
        self.cluster.execute(&self.insert, row(*mailbox, message)).await.map(drop)
    }

    async fn write_batch(&self, rows: &[Insert]) -> Result<(), StoreError> {
        self.cluster.metrics.rows_per_insert.observe(rows.len() as f64);
        let values: Vec<_> = rows.iter().map(|insert| row(insert.mailbox, &insert.message)).collect();
        match self.cluster.execute_batch(&self.batches[rows.len()], &values).await {
            Ok(_) => Ok(()),
            Err(error) if failure::is_refused(&error) => {
                if !self.refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        // The database's own words.
                        reason = error.source().map(tracing::field::display),
                        rows = rows.len(),
                        "the database refuses several messages in a request; they go one by one until the next start. \
                        Allow larger batches there, or set rows_per_insert_max = 1"
                    );
                }
                for insert in rows {
                    self.write_single(insert).await?;
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Debug for Statements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Batches have no form of their own.
        f.debug_struct("Statements").field("rows_max", &self.batches.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Every set of three of six nodes with two shards, in both orders.
    #[test]
    fn rows_share_a_lane_with_those_of_the_same_replicas_and_with_no_others() {
        let hashes = RandomState::new();
        let replicas: Vec<_> =
            (0..6).flat_map(|node| [0, 1].map(|shard| (Uuid::from_u128(node), shard))).collect();
        let mut lanes = HashMap::new();
        for (a, &first) in replicas.iter().enumerate() {
            for (b, &second) in replicas.iter().enumerate().skip(a + 1) {
                for &third in &replicas[b + 1..] {
                    let set = [first, second, third];
                    let lane = lane_of(&hashes, set.into_iter());
                    assert_eq!(lane_of(&hashes, set.into_iter().rev()), lane);
                    assert_eq!(lanes.insert(lane, set), None, "two sets have one lane");
                }
            }
        }
    }
}
