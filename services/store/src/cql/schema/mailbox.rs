//! Mailboxes: plain idempotent writes, never LWT.

use super::Target;
use crate::cql::cluster::Flavour;
use crate::mailboxes::RETENTION;

/// Twice the retention: an older watermark than that covers nothing.
const SETTLED_TTL_SECONDS: u64 = 2 * RETENTION.as_secs();

/// Tombstones are kept for four hours, more than the three for which nodes keep hints for each other. A node that
/// missed a deletion for longer can bring the message back: below the watermark nobody reads it and it expires, and
/// above it the device knows it by its guid.
pub(super) fn tables(target: &Target) -> Vec<String> {
    let keyspace = &target.keyspaces.mailbox;
    let retention = RETENTION.as_secs();
    let options = match target.flavour {
        // Envelopes are ciphertext, so compression is off.
        Flavour::Scylla => {
            "AND tombstone_gc = {'mode': 'timeout'} \
             AND compaction = {'class': 'IncrementalCompactionStrategy', 'space_amplification_goal': '1.5'} \
             AND compression = {'sstable_compression': ''} \
             AND per_partition_rate_limit = {'max_writes_per_second': 2000, 'max_reads_per_second': 1000} \
             AND caching = {'keys': 'ALL', 'rows_per_partition': 'ALL'}"
        }
        Flavour::Cassandra => {
            "AND compaction = {'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'T4'} \
             AND compression = {'enabled': 'false'} \
             AND caching = {'keys': 'ALL', 'rows_per_partition': 'NONE'}"
        }
    };
    vec![
        // `size` is what the message counts for, so that a mailbox can be summed up without reading envelopes.
        format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.mailbox \
             (mbx uuid, bucket int, id timeuuid, guid uuid, size int, env blob, PRIMARY KEY ((mbx, bucket), id)) \
             WITH CLUSTERING ORDER BY (id ASC) AND default_time_to_live = {retention} \
             AND gc_grace_seconds = 14400 {options}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.mailbox_cursor (mbx uuid PRIMARY KEY, settled bigint) \
             WITH default_time_to_live = {SETTLED_TTL_SECONDS}"
        ),
    ]
}
