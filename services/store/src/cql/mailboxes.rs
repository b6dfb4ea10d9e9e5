//! Mailboxes in CQL: a partition for each mailbox and week, a row for each message.
//!
//! A message is written at the time in its id and deleted at a later one, so that a late repetition of the insert
//! stays dead for as long as the tombstone is kept: four hours, against the minute that is promised. Messages expire
//! by TTL, which the database counts from the write.
//!
//! How much a mailbox holds cannot be counted by plain writes; [`usage`] estimates it.

mod inserts;
mod row_id;
mod together;
mod usage;
mod weeks;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use scylla::response::PagingState;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimeuuid;
use spillway_types::{Clock, Guid, MailboxId, MessageId, Timestamp};
use uuid::Uuid;

use super::cluster::{Cluster, Profile};
use super::failure::corrupt;
use super::metrics::Operation;
use crate::mailboxes::{Capacity, Page, PageLimit, Put, RETENTION, StoredMessage, Usage};
use crate::{Mailboxes, OpenError, StoreError};
use inserts::Inserts;
use row_id::{from_row, to_row};
use usage::{Room, Usages};
use weeks::{AHEAD, week, weeks};

/// Deletions sent together. A batch is one write to a node's memory; longer ones block others.
const BATCH_MAX: usize = 64;
/// Rows asked for before it is known how large a mailbox's messages are: all that most mailboxes hold, and no more
/// than 4 MiB if each has the largest envelope.
const FIRST_ROWS: usize = 16;
/// How long a mailbox's first count does without its watermark, which could skip no more deleted messages than came in this time.
const YOUNG: Duration = Duration::from_secs(15 * 60);
/// The most rows asked for at a time.
const ROWS_MAX: usize = 500;

#[derive(Debug)]
pub(super) struct CqlMailboxes {
    cluster: Arc<Cluster>,
    clock: Arc<dyn Clock>,
    statements: Statements,
    inserts: Inserts,
    usages: Usages,
}

#[derive(Debug)]
struct Statements {
    exists: PreparedStatement,
    page: PreparedStatement,
    delete: PreparedStatement,
    count: PreparedStatement,
    settled: PreparedStatement,
    raise: PreparedStatement,
    purge: PreparedStatement,
    purge_settled: PreparedStatement,
}

impl Statements {
    async fn prepare(cluster: &Cluster) -> Result<Self, OpenError> {
        let keyspace = &cluster.keyspaces.mailbox;
        let (messages, cursors) = (format!("{keyspace}.mailbox"), format!("{keyspace}.mailbox_cursor"));
        let write = async |cql: String| cluster.prepare(Profile::Write, &cql, true).await;
        let read = async |cql: String| cluster.prepare(Profile::Read, &cql, true).await;
        let of_message = "WHERE mbx = ? AND bucket = ? AND id = ?";
        let later = "WHERE mbx = ? AND bucket = ? AND id > ?";
        Ok(Self {
            exists: read(format!("SELECT id FROM {messages} {of_message}")).await?,
            page: read(format!("SELECT id, guid, env FROM {messages} {later}")).await?,
            delete: write(format!("DELETE FROM {messages} USING TIMESTAMP ? {of_message}")).await?,
            count: read(format!("SELECT count(size), sum(cast(size AS bigint)) FROM {messages} {later}"))
                .await?,
            settled: read(format!("SELECT settled FROM {cursors} WHERE mbx = ?")).await?,
            // The value is its own timestamp, so the highest wins in whatever order writes arrive.
            raise: write(format!("INSERT INTO {cursors} (mbx, settled) VALUES (?, ?) USING TIMESTAMP ?"))
                .await?,
            purge: write(format!("DELETE FROM {messages} USING TIMESTAMP ? WHERE mbx = ? AND bucket = ?"))
                .await?,
            purge_settled: write(format!("DELETE FROM {cursors} USING TIMESTAMP ? WHERE mbx = ?")).await?,
        })
    }
}

impl CqlMailboxes {
    pub(super) async fn prepare(cluster: &Arc<Cluster>, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let statements = Statements::prepare(cluster).await?;
        let insert = cluster.prepare(Profile::Write, &insert(&cluster.keyspaces.mailbox), true).await?;
        let inserts = Inserts::new(cluster, insert);
        Ok(Self { cluster: Arc::clone(cluster), clock, statements, inserts, usages: Usages::new() })
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        self.read_settled(MailboxId::from_bytes([0; 16])).await.map(drop)
    }

    async fn exists(&self, mailbox: MailboxId, id: MessageId) -> Result<bool, StoreError> {
        let values = (uuid(mailbox), week(id.time()), to_row(id));
        let result = self.cluster.execute(&self.statements.exists, values).await?;
        let rows = result.into_rows_result().map_err(|error| corrupt("message", error))?;
        Ok(rows.rows_num() > 0)
    }

    /// Sums up the live messages above the watermark, below which there are none, as they are when `id` is stored.
    async fn count(&self, mailbox: MailboxId, id: MessageId) -> Result<Usage, StoreError> {
        let oldest = id.time().saturating_sub(RETENTION);
        let born = mailbox.minted_at().unwrap_or_default().saturating_sub(AHEAD);
        let is_young = id.time().since(born) <= YOUNG;
        let settled = if is_young { born } else { self.read_settled(mailbox).await? };
        let from = settled.max(oldest).max(born);
        let mut usage = Usage::default();
        for week in weeks(from, id.time()) {
            let values = (uuid(mailbox), week, to_row(MessageId::last_at(from)));
            let result = self.cluster.execute(&self.statements.count, values).await?;
            let rows = result.into_rows_result().map_err(|error| corrupt("message", error))?;
            let (messages, bytes): (i64, Option<i64>) =
                rows.single_row().map_err(|error| corrupt("message", error))?;
            usage.messages += u64::try_from(messages).unwrap_or(0);
            usage.bytes += u64::try_from(bytes.unwrap_or(0)).unwrap_or(0);
        }
        Ok(usage)
    }

    async fn read_settled(&self, mailbox: MailboxId) -> Result<Timestamp, StoreError> {
        let result = self.cluster.execute(&self.statements.settled, (uuid(mailbox),)).await?;
        let rows = result.into_rows_result().map_err(|error| corrupt("watermark", error))?;
        let row: Option<(Option<i64>,)> =
            rows.maybe_first_row().map_err(|error| corrupt("watermark", error))?;
        let settled = row.and_then(|(settled,)| settled).unwrap_or(0);
        Ok(Timestamp::from_micros(u64::try_from(settled).unwrap_or(0)))
    }

    async fn put(
        &self,
        mailbox: MailboxId,
        message: StoredMessage,
        capacity: Capacity,
    ) -> Result<Put, StoreError> {
        let estimate = self.usages.of(mailbox);
        let room = estimate.room_for(message.size(), capacity, || {
            let count = self.count(mailbox, message.id);
            // Boxed, because it is rare and as large as all the rest of a put.
            Box::pin(self.cluster.metrics.measure(Operation::MailboxCount, count))
        });
        match room.await? {
            Room::Reserved(place) => {
                self.inserts.insert(mailbox, message).await?;
                Ok(Put::Stored(place.usage()))
            }
            // What is stored already is no news. What was deleted already is refused, and was delivered.
            Room::Full(usage) if Box::pin(self.exists(mailbox, message.id)).await? => Ok(Put::Stored(usage)),
            Room::Full(_) => Ok(Put::Full),
        }
    }

    async fn page(
        &self,
        mailbox: MailboxId,
        after: MessageId,
        limit: PageLimit,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        let oldest = now.saturating_sub(RETENTION);
        let expired = MessageId::last_at(Timestamp::from_micros(oldest.as_micros().saturating_sub(1)));
        let after = after.max(expired);
        let mut page = Filling::new(limit);
        for week in weeks(after.time(), now) {
            let mut state = PagingState::start();
            loop {
                let mut statement = self.statements.page.clone();
                statement.set_page_size(page.rows_wanted());
                let values = (uuid(mailbox), week, to_row(after));
                let (result, next) = self.cluster.execute_page(&statement, values, state).await?;
                let rows = result.into_rows_result().map_err(|error| corrupt("message", error))?;
                let rows =
                    rows.rows::<(CqlTimeuuid, Uuid, Bytes)>().map_err(|error| corrupt("message", error))?;
                for row in rows {
                    let (id, guid, envelope) = row.map_err(|error| corrupt("message", error))?;
                    let guid = Guid::from_bytes(guid.into_bytes());
                    if !page.take(StoredMessage { id: from_row(id), guid, envelope }) {
                        return Ok(Page { messages: page.messages, more: true });
                    }
                }
                // Databases cut pages on tombstones: an empty page is not the end.
                match next.into_paging_control_flow() {
                    std::ops::ControlFlow::Continue(next) => state = next,
                    std::ops::ControlFlow::Break(()) => break,
                }
            }
        }
        Ok(Page { messages: page.messages, more: false })
    }

    async fn delete(&self, mailbox: MailboxId, ids: &[MessageId], now: Timestamp) -> Result<(), StoreError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        for of_week in ids.chunk_by(|a, b| week(a.time()) == week(b.time())) {
            for chunk in of_week.chunks(BATCH_MAX) {
                self.delete_chunk(mailbox, chunk, now).await?;
            }
        }
        self.usages.deleted(mailbox);
        Ok(())
    }

    /// Deletes messages of one week.
    async fn delete_chunk(
        &self,
        mailbox: MailboxId,
        ids: &[MessageId],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let values = ids.iter().map(|id| {
            // Later than the insert, whatever the clocks say.
            let at = micros(now).max(micros(id.time()) + 1);
            (at, uuid(mailbox), week(id.time()), to_row(*id))
        });
        let values: Vec<_> = values.collect();
        if let [single] = values[..] {
            return self.cluster.execute(&self.statements.delete, single).await.map(drop);
        }
        let mut batch = self.cluster.batch();
        for _ in &values {
            batch.append_statement(self.statements.delete.clone());
        }
        self.cluster.execute_batch(&batch, values).await.map(drop)
    }

    async fn raise_settled(&self, mailbox: MailboxId, settled: Timestamp) -> Result<(), StoreError> {
        if settled == Timestamp::ZERO {
            return Ok(());
        }
        let settled = micros(settled);
        self.cluster.execute(&self.statements.raise, (uuid(mailbox), settled, settled)).await.map(drop)
    }

    async fn purge(&self, mailbox: MailboxId) -> Result<(), StoreError> {
        let now = self.clock.now();
        for week in weeks(now.saturating_sub(RETENTION), now) {
            self.cluster.execute(&self.statements.purge, (micros(now), uuid(mailbox), week)).await?;
        }
        self.cluster.execute(&self.statements.purge_settled, (micros(now), uuid(mailbox))).await?;
        self.usages.forget(mailbox);
        Ok(())
    }
}

#[async_trait]
impl Mailboxes for CqlMailboxes {
    /// The usage is an estimate, as [`usage`] says. A repetition of what was stored counts twice until the next
    /// count, and a repetition of what was deleted counts, or is refused when the mailbox is full.
    async fn put(
        &self,
        mailbox: MailboxId,
        message: StoredMessage,
        capacity: Capacity,
    ) -> Result<Put, StoreError> {
        let put = self.put(mailbox, message, capacity);
        self.cluster.metrics.measure(Operation::MessagePut, put).await
    }

    async fn page(
        &self,
        mailbox: MailboxId,
        after: MessageId,
        limit: PageLimit,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        let page = self.page(mailbox, after, limit, now);
        self.cluster.metrics.measure(Operation::MessagePage, page).await
    }

    async fn delete(&self, mailbox: MailboxId, ids: &[MessageId], now: Timestamp) -> Result<(), StoreError> {
        let delete = self.delete(mailbox, ids, now);
        self.cluster.metrics.measure(Operation::MessageDelete, delete).await
    }

    async fn settled(&self, mailbox: MailboxId) -> Result<Timestamp, StoreError> {
        self.cluster.metrics.measure(Operation::SettledGet, self.read_settled(mailbox)).await
    }

    async fn raise_settled(&self, mailbox: MailboxId, settled: Timestamp) -> Result<(), StoreError> {
        let raise = self.raise_settled(mailbox, settled);
        self.cluster.metrics.measure(Operation::SettledRaise, raise).await
    }

    /// Messages with ids from a clock that is ahead of this one's survive, until they expire. A watermark from before
    /// the purge, raised after it, stays unset.
    async fn purge(&self, mailbox: MailboxId) -> Result<(), StoreError> {
        self.cluster.metrics.measure(Operation::MailboxPurge, self.purge(mailbox)).await
    }

    /// The database expires messages by itself.
    async fn expire(&self, _now: Timestamp) -> Result<usize, StoreError> {
        Ok(0)
    }
}

/// A page that is being read.
struct Filling {
    limit: PageLimit,
    messages: Vec<StoredMessage>,
    bytes: u64,
}

impl Filling {
    const fn new(limit: PageLimit) -> Self {
        Self { limit, messages: Vec::new(), bytes: 0 }
    }

    /// Takes a message if there is room for it.
    fn take(&mut self, message: StoredMessage) -> bool {
        let bytes = self.bytes.saturating_add(message.size());
        let fits = self.messages.len() < self.limit.messages && bytes <= self.limit.bytes as u64;
        if fits || self.messages.is_empty() {
            self.messages.push(message);
            self.bytes = bytes;
            return true;
        }
        false
    }

    /// As many rows as will fit if the next messages are like those so far, and one that tells that there are more.
    fn rows_wanted(&self) -> i32 {
        let by_count = self.limit.messages.saturating_sub(self.messages.len());
        let by_bytes = match self.messages.len() as u64 {
            0 => FIRST_ROWS,
            count => {
                let left = (self.limit.bytes as u64).saturating_sub(self.bytes);
                usize::try_from(left / (self.bytes / count).max(1)).unwrap_or(ROWS_MAX)
            }
        };
        let rows = by_count.min(by_bytes).saturating_add(1).min(ROWS_MAX);
        i32::try_from(rows).expect("at most ROWS_MAX")
    }
}

/// Stores a [`row`].
pub(super) fn insert(keyspace: &str) -> String {
    format!(
        "INSERT INTO {keyspace}.mailbox (mbx, bucket, id, guid, size, env) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
    )
}

pub(super) fn row(mailbox: MailboxId, message: &StoredMessage) -> impl SerializeRow {
    let time = message.id.time();
    (
        uuid(mailbox),
        week(time),
        to_row(message.id),
        Uuid::from_bytes(*message.guid.as_bytes()),
        i32::try_from(message.size()).unwrap_or(i32::MAX),
        &message.envelope,
        micros(time),
    )
}

fn uuid(mailbox: MailboxId) -> Uuid {
    Uuid::from_bytes(*mailbox.as_bytes())
}

/// As CQL counts time: microseconds, with a sign.
fn micros(time: Timestamp) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> StoredMessage {
        StoredMessage { id: MessageId::MIN, guid: Guid::random(), envelope: Bytes::from(vec![0; length]) }
    }

    #[test]
    fn a_page_asks_for_what_may_fit_and_one_more() {
        let mut page = Filling::new(PageLimit { messages: 100, bytes: 10_000 });
        assert_eq!(page.rows_wanted(), 17);
        // 1,000 bytes each with their ids.
        for left in (0..10).rev() {
            assert!(page.take(message(968)));
            assert_eq!(page.rows_wanted(), left + 1);
        }
        assert!(!page.take(message(0)));
        let few = Filling::new(PageLimit { messages: 3, bytes: usize::MAX });
        assert_eq!(few.rows_wanted(), 4);
        let mut all = Filling::new(PageLimit { messages: usize::MAX, bytes: usize::MAX });
        assert!(all.take(message(0)));
        assert_eq!(all.rows_wanted(), 500);
    }
}
