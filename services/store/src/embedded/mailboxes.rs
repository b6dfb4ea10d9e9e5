mod expire;
pub(super) mod record;

use std::ops::Bound;
use std::sync::Mutex;

use async_trait::async_trait;
use spillway_types::{MailboxId, MessageId, Timestamp};

use super::access::Access;
use super::metrics::Operation;
use super::tables::{Tables, entry};
use super::transaction::Transaction;
use crate::mailboxes::{Capacity, Page, PageLimit, Put, RETENTION, StoredMessage};
use crate::{Mailboxes, StoreError};
use record::{ArrivalRow, MessageRow, Tally};

/// Message and usage rows without the envelope.
const ROW_BYTES: usize = 128;
/// Messages purged in one write, so that others do not wait long for their group.
const PURGED_MAX: usize = 1_024;

#[derive(Debug)]
pub(super) struct EmbeddedMailboxes {
    access: Access,
    /// Where `expire` goes on; `None` is the beginning.
    expire_from: Mutex<Option<ArrivalRow>>,
}

impl EmbeddedMailboxes {
    pub(super) const fn new(access: Access) -> Self {
        Self { access, expire_from: Mutex::new(None) }
    }
}

#[async_trait]
impl Mailboxes for EmbeddedMailboxes {
    async fn put(
        &self,
        mailbox: MailboxId,
        message: StoredMessage,
        capacity: Capacity,
    ) -> Result<Put, StoreError> {
        let bytes = ROW_BYTES + message.envelope.len();
        let value = record::encode_message(&message);
        let (id, size) = (message.id, message.size());
        let put =
            move |transaction: &mut Transaction<'_>| put(transaction, mailbox, id, size, value, capacity);
        self.access.write(Operation::MessagePut, bytes, put).await
    }

    async fn page(
        &self,
        mailbox: MailboxId,
        after: MessageId,
        limit: PageLimit,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        self.access.scan(move |tables| page(tables, mailbox, after, limit, now)).await
    }

    async fn delete(&self, mailbox: MailboxId, ids: &[MessageId], _now: Timestamp) -> Result<(), StoreError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        // A second mention would be counted twice, since all reads come before the first write.
        ids.dedup();
        let bytes = ROW_BYTES * (1 + ids.len());
        let delete = move |transaction: &mut Transaction<'_>| delete(transaction, mailbox, &ids);
        self.access.write(Operation::MessageDelete, bytes, delete).await
    }

    async fn settled(&self, mailbox: MailboxId) -> Result<Timestamp, StoreError> {
        let tables = self.access.tables()?;
        let stored = tables.settled.get(mailbox.as_bytes())?;
        stored.map_or(Ok(Timestamp::ZERO), |settled| record::decode_settled(tables.settled.what, &settled))
    }

    /// Waits for the sync of its group, though it need not: the invariant that every commit is synced is worth more
    /// than the wait of a caller that has nobody waiting for it.
    async fn raise_settled(&self, mailbox: MailboxId, settled: Timestamp) -> Result<(), StoreError> {
        let raise = move |transaction: &mut Transaction<'_>| {
            let table = &transaction.tables.settled;
            let stored = match transaction.get(table, mailbox.as_bytes())? {
                Some(stored) => record::decode_settled(table.what, &stored)?,
                None => Timestamp::ZERO,
            };
            if settled > stored {
                transaction.insert(table, mailbox.as_bytes(), record::encode_settled(settled));
            }
            Ok(())
        };
        self.access.write(Operation::SettledRaise, ROW_BYTES, raise).await
    }

    async fn purge(&self, mailbox: MailboxId) -> Result<(), StoreError> {
        let mut after = MessageId::MIN;
        loop {
            let purge = move |transaction: &mut Transaction<'_>| purge(transaction, mailbox, after);
            match self.access.write(Operation::MailboxPurge, ROW_BYTES * PURGED_MAX, purge).await? {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    async fn expire(&self, now: Timestamp) -> Result<usize, StoreError> {
        expire::expire(self, now).await
    }
}

fn put(
    transaction: &mut Transaction<'_>,
    mailbox: MailboxId,
    id: MessageId,
    size: u64,
    value: Vec<u8>,
    capacity: Capacity,
) -> Result<Put, StoreError> {
    let tables = transaction.tables;
    let row = MessageRow::new(mailbox, id);
    let mut tally = tally(transaction, mailbox)?;
    // Nearly every id is greater than all before it, and then it cannot be stored.
    let is_stored = id <= tally.newest && transaction.size_of(&tables.messages, row.as_bytes())?.is_some();
    if is_stored || transaction.graves.is_dead(mailbox, id) {
        return Ok(Put::Stored(tally.usage));
    }
    if !tally.usage.fits(size, capacity) {
        return Ok(Put::Full);
    }

    let day = record::day(id.time());
    if tally.day != Some(day) {
        transaction.insert(&tables.arrivals, ArrivalRow::new(day, mailbox).as_bytes(), []);
        tally.day = Some(day);
    }
    tally.add(id, size);
    transaction.insert(&tables.usage, mailbox.as_bytes(), tally.encode());
    transaction.insert(&tables.messages, row.as_bytes(), value);
    Ok(Put::Stored(tally.usage))
}

fn page(
    tables: &Tables,
    mailbox: MailboxId,
    after: MessageId,
    limit: PageLimit,
    now: Timestamp,
) -> Result<Page, StoreError> {
    let table = &tables.messages;
    // The ids of messages that are too old end before the first microsecond of the retained time.
    let retained = now.saturating_sub(RETENTION).as_micros();
    let too_old = retained
        .checked_sub(1)
        .map_or(MessageId::MIN, |last| MessageId::last_at(Timestamp::from_micros(last)));
    let mut page = Page::default();
    let mut bytes = 0;
    for row in table.inner().range::<[u8; 32], _>(rows_after(mailbox, after.max(too_old))) {
        let (row, value) = entry(row)?;
        let message = record::decode_message(table.what, &row, &value)?;
        let size = usize::try_from(message.size()).unwrap_or(usize::MAX);
        let is_full = page.messages.len() >= limit.messages || size > limit.bytes.saturating_sub(bytes);
        if is_full && !page.messages.is_empty() {
            page.more = true;
            break;
        }
        bytes += size;
        page.messages.push(message);
    }
    Ok(page)
}

fn delete(
    transaction: &mut Transaction<'_>,
    mailbox: MailboxId,
    ids: &[MessageId],
) -> Result<(), StoreError> {
    let mut stored = Vec::with_capacity(ids.len());
    for id in ids {
        let row = MessageRow::new(mailbox, *id);
        if let Some(length) = transaction.size_of(&transaction.tables.messages, row.as_bytes())? {
            stored.push((row, record::size(length)));
        }
    }
    remove(transaction, mailbox, &stored)?;
    // Only of messages that were here, so that nobody can fill the memory with ids that never were.
    for (row, _) in stored {
        transaction.graves.dig(mailbox, row.message());
    }
    Ok(())
}

/// Removes some messages after `after`, and answers with the last of them if there may be more.
fn purge(
    transaction: &mut Transaction<'_>,
    mailbox: MailboxId,
    after: MessageId,
) -> Result<Option<MessageId>, StoreError> {
    let range = rows_after(mailbox, after);
    let stored = sized_rows(transaction, range, PURGED_MAX)?;
    remove(transaction, mailbox, &stored)?;
    transaction.remove(&transaction.tables.settled, mailbox.as_bytes());
    let last = stored.last().map(|(row, _)| row.message());
    Ok(last.filter(|_| stored.len() == PURGED_MAX))
}

type Range = (Bound<[u8; 32]>, Bound<[u8; 32]>);

fn rows_after(mailbox: MailboxId, after: MessageId) -> Range {
    let last = MessageId::from_bytes([u8::MAX; 16]);
    let (after, last) = (MessageRow::new(mailbox, after), MessageRow::new(mailbox, last));
    (Bound::Excluded(*after.as_bytes()), Bound::Included(*last.as_bytes()))
}

/// The rows in `range`, at most `rows_max`, with the sizes of their messages.
fn sized_rows(
    transaction: &Transaction<'_>,
    range: Range,
    rows_max: usize,
) -> Result<Vec<(MessageRow, u64)>, StoreError> {
    let table = &transaction.tables.messages;
    let sized = |row| {
        let (row, value) = entry(row)?;
        let length = u32::try_from(value.len()).expect("values are shorter than 4 GiB");
        Ok((MessageRow::decode(table.what, &row)?, record::size(length)))
    };
    transaction.range(table, range).take(rows_max).map(sized).collect()
}

/// Removes stored messages and takes them off the mailbox's usage.
fn remove(
    transaction: &mut Transaction<'_>,
    mailbox: MailboxId,
    stored: &[(MessageRow, u64)],
) -> Result<(), StoreError> {
    if stored.is_empty() {
        return Ok(());
    }
    let tables = transaction.tables;
    let mut tally = tally(transaction, mailbox)?;
    for (_, size) in stored {
        tally.take_off(tables.usage.what, *size)?;
    }

    for (row, _) in stored {
        transaction.remove(&tables.messages, row.as_bytes());
    }
    write_tally(transaction, mailbox, tally);
    Ok(())
}

fn tally(transaction: &Transaction<'_>, mailbox: MailboxId) -> Result<Tally, StoreError> {
    let table = &transaction.tables.usage;
    let stored = transaction.get(table, mailbox.as_bytes())?;
    stored.map_or(Ok(Tally::default()), |tally| Tally::decode(table.what, &tally))
}

fn write_tally(transaction: &mut Transaction<'_>, mailbox: MailboxId, tally: Tally) {
    let table = &transaction.tables.usage;
    if tally.usage.messages == 0 {
        transaction.remove(table, mailbox.as_bytes());
    } else {
        transaction.insert(table, mailbox.as_bytes(), tally.encode());
    }
}
