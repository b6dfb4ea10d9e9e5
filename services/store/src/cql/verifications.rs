//! Tables `verification` (conditional writes alone) and `verification_queue` (plain writes).
//!
//! A session is one row with one value, in the bytes of the embedded store, beside its version and the id of the write
//! that made it. Every write sets all columns with the time for which the session is kept, so that they expire together.
//!
//! The session says whether a code is queued. The queue is an index of such sessions by the minute since which they
//! wait, and it may say too much but never too little: its entry is written before the session and deleted after it,
//! and whoever reads the queue asks the session. Entries carry the version of the session that they were written for:
//!
//! - It is their time of writing, so that a late deletion for an older version leaves the entry of a newer one alone.
//! - An entry that its session contradicts is a leftover only when the session has reached that version; before, its
//!   write may still be under way.

mod floor;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use scylla::statement::prepared::PreparedStatement;
use spillway_types::{Clock, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

use super::cluster::{Cluster, Profile};
use super::metrics::Operation;
use super::{failure, lwt, rows};
use crate::embedded::verifications::{decode, encode};
use crate::verifications::{Verification, VerificationId};
use crate::{Cas, OpenError, StoreError, Verifications};
use floor::Floor;

const SESSION: &str = "verification";
const ENTRY: &str = "queued code";
/// How far the queue is searched, and how long its entries live. Nobody waits that long for a code.
pub(super) const QUEUED_AT_MOST: Duration = Duration::from_secs(3_600);
/// Partitions of a minute, so that the sign-ups of one minute are not all one node's.
const SHARDS: i8 = 8;
/// Sessions of the queue that are read at the same time.
const SESSIONS_AT_ONCE: usize = 32;
/// Added to the time for which a session is kept: its row may outlive it, and must not be gone while another worker, whose
/// clock is a little behind, still counts on it.
const TTL_MARGIN: Duration = Duration::from_secs(5);
/// Cassandra's and ScyllaDB's own limit: 20 years.
const TTL_MAX_SECONDS: i32 = 630_720_000;

#[derive(Debug)]
pub(super) struct CqlVerifications {
    cluster: Arc<Cluster>,
    clock: Arc<dyn Clock>,
    floor: Floor,
    get: PreparedStatement,
    look: PreparedStatement,
    insert: PreparedStatement,
    update: PreparedStatement,
    enqueue: PreparedStatement,
    dequeue: PreparedStatement,
    queued: PreparedStatement,
}

/// A row of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    since: Timestamp,
    id: VerificationId,
    /// Of the session that it was written for.
    version: u64,
}

impl CqlVerifications {
    pub(super) async fn prepare(cluster: &Arc<Cluster>, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let session = format!("{}.verification", cluster.keyspaces.identity);
        let queue = format!("{}.verification_queue", cluster.keyspaces.identity);
        let statement =
            async |profile, cql: String| cluster.prepare(profile, &cql, profile != Profile::Lwt).await;
        Ok(Self {
            cluster: Arc::clone(cluster),
            clock,
            floor: Floor::default(),
            get: statement(Profile::Read, format!("SELECT value FROM {session} WHERE id = ?")).await?,
            look: statement(Profile::SerialRead, format!("SELECT version, write_id FROM {session} WHERE id = ?"))
                .await?,
            insert: statement(
                Profile::Lwt,
                format!(
                    "INSERT INTO {session} (id, version, write_id, value) VALUES (?, ?, ?, ?) \
                     IF NOT EXISTS USING TTL ?"
                ),
            )
            .await?,
            update: statement(
                Profile::Lwt,
                format!(
                    "UPDATE {session} USING TTL ? SET version = ?, write_id = ?, value = ? WHERE id = ? \
                     IF version = ?"
                ),
            )
            .await?,
            enqueue: statement(
                Profile::Write,
                format!(
                    "INSERT INTO {queue} (shard, minute, since, id, version) VALUES (?, ?, ?, ?, ?) \
                     USING TIMESTAMP ?"
                ),
            )
            .await?,
            dequeue: statement(
                Profile::Write,
                format!(
                    "DELETE FROM {queue} USING TIMESTAMP ? WHERE shard = ? AND minute = ? AND since = ? AND id = ?"
                ),
            )
            .await?,
            queued: statement(
                Profile::Read,
                format!("SELECT since, id, version FROM {queue} WHERE shard = ? AND minute = ? LIMIT ?"),
            )
            .await?,
        })
    }

    async fn read(&self, id: VerificationId) -> Result<Option<Verification>, StoreError> {
        let result = self.cluster.execute(&self.get, (id.0.as_slice(),)).await?;
        let row: Option<(Option<Vec<u8>>,)> = rows::maybe_first(SESSION, result)?;
        // A row whose columns have expired may be there a little longer.
        let value = row.and_then(|(value,)| value);
        value.map(|value| decode(SESSION, id, &value)).transpose()
    }

    /// The version and the write that made it.
    async fn look(&self, id: VerificationId) -> Result<Option<(i64, Uuid)>, StoreError> {
        let result = self.cluster.execute(&self.look, (id.0.as_slice(),)).await?;
        let row: Option<(Option<i64>, Option<Uuid>)> = rows::maybe_first(SESSION, result)?;
        Ok(row.and_then(|(version, write_id)| version.zip(write_id)))
    }

    async fn write(&self, session: &Verification, expected: Option<u64>) -> Result<Cas, StoreError> {
        let (id, version, write_id) =
            (session.id.0.as_slice(), session.version.cast_signed(), Uuid::new_v4());
        let (value, expected) = (encode(session), expected.map(u64::cast_signed));
        let send = || async {
            let ttl = self.ttl(session);
            let value = value.as_slice();
            let result = match expected {
                None => self.cluster.execute(&self.insert, (id, version, write_id, value, ttl)).await?,
                Some(expected) => {
                    let values = (ttl, version, write_id, value, id, expected);
                    self.cluster.execute(&self.update, values).await?
                }
            };
            lwt::answer(SESSION, result)
        };
        let look = || async { Ok(lwt::compare(self.look(session.id).await?, (version, write_id), expected)) };
        lwt::settle(send, look).await
    }

    /// In seconds. The database counts from its own clock, and drops a row up to a second early.
    fn ttl(&self, session: &Verification) -> i32 {
        let left = session.kept_until().since(self.clock.now()).saturating_add(TTL_MARGIN);
        i32::try_from(left.as_secs()).unwrap_or(TTL_MAX_SECONDS).saturating_add(2).min(TTL_MAX_SECONDS)
    }

    async fn put(&self, session: &Verification, expected: Option<u64>) -> Result<Cas, StoreError> {
        let entry = Entry::of(session);
        // The session that this write replaces, if it is applied, is what is read here, because it then has the same
        // version. If another was read, or none, an entry may be left for the readers of the queue to clear away.
        let replaced = match expected {
            Some(expected) => self.read(session.id).await?.filter(|replaced| replaced.version == expected),
            None => None,
        };
        let old_entry = replaced.as_ref().and_then(Entry::of);
        let moves = entry.map(|entry| entry.since) != old_entry.map(|entry| entry.since);
        if let Some(entry) = entry.filter(|_| moves) {
            self.enqueue(entry).await?;
        }
        let outcome = self.write(session, expected).await?;
        if let Some(old_entry) = old_entry.filter(|_| moves && outcome == Cas::Applied) {
            self.dequeue(old_entry, session.version).await;
        }
        Ok(outcome)
    }

    async fn enqueue(&self, entry: Entry) -> Result<(), StoreError> {
        let (shard, minute, since, id) = entry.key();
        let version = entry.version.cast_signed();
        self.cluster.execute(&self.enqueue, (shard, minute, since, id, version, version)).await?;
        self.floor.lower(minute);
        Ok(())
    }

    /// Deletes an entry that a session of this version does not have. If it fails, a reader of the queue does it.
    async fn dequeue(&self, entry: Entry, version: u64) {
        let (shard, minute, since, id) = entry.key();
        let values = (version.cast_signed(), shard, minute, since, id);
        if let Err(error) = self.cluster.execute(&self.dequeue, values).await {
            tracing::debug!(?error, "an entry of the verification queue was left behind");
        }
    }

    /// Walks the queue from the oldest minute.
    async fn walk(&self, limit: usize) -> Result<Vec<VerificationId>, StoreError> {
        let now = self.clock.now();
        let newest = minute(now) + 1;
        let start = self.floor.start(minute(now.saturating_sub(QUEUED_AT_MOST)), Instant::now());
        let mut first_with_entries = None;
        let mut queued = Vec::new();
        for minute in start..=newest {
            if queued.len() >= limit {
                break;
            }
            let entries = self.entries(minute, limit).await?;
            if !entries.is_empty() {
                first_with_entries.get_or_insert(minute);
            }
            let sessions =
                stream::iter(entries.into_iter().map(|entry| self.confirm(entry)).collect::<Vec<_>>());
            let confirmed: Vec<Option<VerificationId>> =
                sessions.buffered(SESSIONS_AT_ONCE).try_collect().await?;
            queued.extend(confirmed.into_iter().flatten());
        }
        queued.truncate(limit);
        self.floor.raise(first_with_entries, newest);
        Ok(queued)
    }

    /// The entries of a minute, longest waiting first. Of those that are beyond `limit` some may be missing.
    async fn entries(&self, minute: i64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let shard = |shard: i8| async move {
            let result = self.cluster.execute(&self.queued, (shard, minute, limit)).await?;
            let rows: Vec<(i64, Vec<u8>, i64)> = rows::all(ENTRY, result)?;
            rows.into_iter().map(Entry::from_row).collect::<Result<Vec<_>, _>>()
        };
        let shards = futures::future::try_join_all((0..SHARDS).map(shard)).await?;
        let mut entries = shards.concat();
        entries.sort_unstable();
        Ok(entries)
    }

    /// Asks the session. An entry that it contradicts is deleted if it is certainly a leftover.
    async fn confirm(&self, entry: Entry) -> Result<Option<VerificationId>, StoreError> {
        let Some(session) = self.read(entry.id).await? else {
            return Ok(None);
        };
        if session.queued.is_some_and(|queued| queued.since == entry.since) {
            return Ok(Some(entry.id));
        }
        if session.version >= entry.version {
            self.dequeue(entry, session.version).await;
        }
        Ok(None)
    }
}

#[async_trait]
impl Verifications for CqlVerifications {
    async fn get(&self, id: VerificationId) -> Result<Option<Verification>, StoreError> {
        self.cluster.metrics.measure(Operation::VerificationGet, self.read(id)).await
    }

    async fn put(&self, verification: &Verification, expected: Option<u64>) -> Result<Cas, StoreError> {
        debug_assert!(expected.is_none_or(|expected| verification.version == expected + 1));
        self.cluster.metrics.measure(Operation::VerificationPut, self.put(verification, expected)).await
    }

    async fn queued(&self, limit: usize) -> Result<Vec<VerificationId>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.cluster.metrics.measure(Operation::VerificationQueue, self.walk(limit)).await
    }

    /// The database forgets them by itself.
    async fn expire(&self, _now: Timestamp) -> Result<usize, StoreError> {
        Ok(0)
    }
}

impl Entry {
    fn of(session: &Verification) -> Option<Self> {
        session.queued.map(|queued| Self { since: queued.since, id: session.id, version: session.version })
    }

    /// Shard, minute, since, id.
    fn key(&self) -> (i8, i64, i64, &[u8]) {
        let shard = (self.id.0[0] % SHARDS.unsigned_abs()).cast_signed();
        (shard, minute(self.since), self.since.as_micros().cast_signed(), &self.id.0)
    }

    fn from_row((since, id, version): (i64, Vec<u8>, i64)) -> Result<Self, StoreError> {
        let id = id
            .try_into()
            .map_err(|id: Vec<u8>| failure::corrupt(ENTRY, format!("an id of {} bytes", id.len())))?;
        let since = Timestamp::from_micros(since.cast_unsigned());
        Ok(Self { since, id: VerificationId(id), version: version.cast_unsigned() })
    }
}

/// Minutes since the Unix epoch.
fn minute(time: Timestamp) -> i64 {
    const MICROS: u64 = 60_000_000;
    (time.as_micros() / MICROS).cast_signed()
}
