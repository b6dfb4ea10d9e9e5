mod recent;

use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use spillway_types::{AccountId, Clock, NumberMac, Timestamp};

use super::access::Access;
use super::codec::{Decoder, Encoder};
use super::metrics::Operation;
use super::tables::{Tables, entry_key};
use super::transaction::Transaction;
use crate::directory::{PUT_LOGGED_WITHIN, PutLog, WalkPage, WalkPosition};
use crate::{Directory, StoreError};
use recent::Recent;

const VERSION: u8 = 1;
const ENTRY_BYTES: usize = NumberMac::LEN + 17;
/// As many keys are looked up on the caller's thread; more are a scan.
const INLINE_MAX: usize = 16;
/// A part of a walk keeps a thread for a few milliseconds.
const WALKED_AT_ONCE_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct EmbeddedDirectory {
    access: Access,
    clock: Arc<dyn Clock>,
    recent: Arc<Recent>,
}

impl EmbeddedDirectory {
    pub(super) fn new(access: Access, clock: Arc<dyn Clock>) -> Self {
        Self { access, clock, recent: Arc::new(Recent::default()) }
    }
}

#[async_trait]
impl Directory for EmbeddedDirectory {
    async fn put(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError> {
        let (recent, clock) = (Arc::clone(&self.recent), Arc::clone(&self.clock));
        let put = move |transaction: &mut Transaction<'_>| {
            let table = &transaction.tables.directory;
            transaction.insert(table, number.as_bytes(), encode(account));
            // Here and not in the call, which may be given up while the write goes on.
            let now = clock.now();
            recent.note(number, now);
            Ok(now)
        };
        let noted = self.access.write(Operation::DirectoryPut, ENTRY_BYTES, put).await?;
        let now = self.clock.now();
        if now.since(noted) >= PUT_LOGGED_WITHIN {
            // The disk stood still. Readers may not look back so far.
            self.recent.note(number, now);
        }
        Ok(())
    }

    async fn remove(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError> {
        let remove = move |transaction: &mut Transaction<'_>| {
            let table = &transaction.tables.directory;
            let Some(entry) = transaction.get(table, number.as_bytes())? else {
                return Ok(());
            };
            if decode(table.what, &entry)? == account {
                transaction.remove(table, number.as_bytes());
            }
            Ok(())
        };
        self.access.write(Operation::DirectoryRemove, ENTRY_BYTES, remove).await
    }

    async fn lookup(&self, numbers: &[NumberMac]) -> Result<Vec<Option<AccountId>>, StoreError> {
        if numbers.len() <= INLINE_MAX {
            return lookup(&*self.access.tables()?, numbers);
        }
        let numbers = numbers.to_vec();
        self.access.scan(move |tables| lookup(tables, &numbers)).await
    }

    async fn walk(&self, from: &WalkPosition, at_most: NonZeroUsize) -> Result<WalkPage, StoreError> {
        let (from, at_most) = (from.clone(), at_most.get().min(WALKED_AT_ONCE_MAX));
        self.access.scan(move |tables| walk(tables, &from, at_most)).await
    }

    async fn put_between(&self, from: Timestamp, until: Timestamp) -> Result<PutLog, StoreError> {
        Ok(self.recent.between(from, until))
    }
}

fn lookup(tables: &Tables, numbers: &[NumberMac]) -> Result<Vec<Option<AccountId>>, StoreError> {
    let table = &tables.directory;
    let find = |number: &NumberMac| match table.get(number.as_bytes())? {
        Some(entry) => decode(table.what, &entry).map(Some),
        None => Ok(None),
    };
    numbers.iter().map(find).collect()
}

/// In the order of keys, from after the position, which is the last key of the part before.
fn walk(tables: &Tables, from: &WalkPosition, at_most: usize) -> Result<WalkPage, StoreError> {
    let table = &tables.directory;
    let start = from.key().map_or(Bound::Unbounded, Bound::Excluded);
    let rows = table.inner().range::<&[u8], _>((start, Bound::Unbounded)).take(at_most);
    let numbers = rows
        .map(|row| {
            let row = entry_key(row)?;
            let mut row = Decoder::new(table.what, &row);
            let number = row.number()?;
            row.end()?;
            Ok(number)
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    let last = numbers.last().filter(|_| numbers.len() == at_most);
    let next = last.map(|number| WalkPosition::after(number.as_bytes()));
    Ok(WalkPage { numbers, next })
}

fn encode(account: AccountId) -> Vec<u8> {
    Encoder::new(VERSION).array(account.as_bytes()).finish()
}

pub(super) fn decode(what: &'static str, value: &[u8]) -> Result<AccountId, StoreError> {
    let mut value = Decoder::new(what, value);
    value.version(VERSION)?;
    let account = value.account()?;
    value.end()?;
    Ok(account)
}
