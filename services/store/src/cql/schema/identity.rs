//! Accounts, keys, verifications, directory and leases.
//!
//! A table is written by conditional writes alone, or never by them: mixing both loses writes. The plain ones are
//! `device_keys`, `verification_queue` and `directory_put`.
//!
//! On ScyllaDB before 2025.4, where tablets cannot do conditional writes, make this keyspace by hand beforehand, with
//! `tablets = {'enabled': false}`.

use super::Target;
use crate::cql::cluster::Flavour;
use crate::cql::directory::LOGGED_FOR;
use crate::cql::verifications::QUEUED_AT_MOST;

/// Rows that live for minutes need no tombstones for ten days. Four hours is more than the three for which nodes keep
/// hints for each other. What a node that missed a deletion for longer brings back has expired.
const SHORT_LIVED_GC_GRACE_SECONDS: u32 = 14_400;

pub(super) fn tables(target: &Target) -> Vec<String> {
    let table = |name, columns| table(target, name, columns);
    let short_lived = |table, ttl_seconds| short_lived(target, table, ttl_seconds);
    vec![
        table("account", "account_id uuid PRIMARY KEY, version bigint, write_id uuid, value blob"),
        table("number_claim", "number blob PRIMARY KEY, account_id uuid"),
        table("device_keys", "mailbox_id uuid PRIMARY KEY, signed blob, last_resort blob"),
        table(
            "one_time_key",
            "mailbox_id uuid, key_id bigint, revision uuid static, public_key blob, \
             PRIMARY KEY (mailbox_id, key_id)",
        ),
        // Each write carries the time for which its session is kept.
        short_lived(
            table("verification", "id blob PRIMARY KEY, version bigint, write_id uuid, value blob"),
            0,
        ),
        short_lived(
            table(
                "verification_queue",
                "shard tinyint, minute bigint, since bigint, id blob, version bigint, \
                 PRIMARY KEY ((shard, minute), since, id)",
            ),
            QUEUED_AT_MOST.as_secs(),
        ),
        table("directory_entry", "number blob PRIMARY KEY, account_id uuid"),
        // `token` is a word of CQL's own.
        table("lease", "name text PRIMARY KEY, holder uuid, fencing bigint, renewal bigint"),
    ]
}

/// What was put into the directory, by the minute. Who keeps all numbers in memory reads the newest.
pub(super) fn directory_log(target: &Target) -> Vec<String> {
    let columns =
        "shard tinyint, minute bigint, at bigint, number blob, PRIMARY KEY ((shard, minute), at, number)";
    vec![short_lived(target, table(target, "directory_put", columns), LOGGED_FOR.as_secs())]
}

fn table(target: &Target, name: &str, columns: &str) -> String {
    format!("CREATE TABLE IF NOT EXISTS {}.{name} ({columns})", target.keyspaces.identity)
}

fn short_lived(target: &Target, table: String, ttl_seconds: u64) -> String {
    let gc_grace = SHORT_LIVED_GC_GRACE_SECONDS;
    let tombstones = match target.flavour {
        // Without this, tombstones wait for a repair.
        Flavour::Scylla => "AND tombstone_gc = {'mode': 'timeout'}",
        Flavour::Cassandra => "",
    };
    format!(
        "{table} WITH default_time_to_live = {ttl_seconds} AND gc_grace_seconds = {gc_grace} {tombstones}"
    )
}
