//! What an operation sees of the group that it is committed with.

use std::ops::RangeBounds;

use fjall::{Iter, PersistMode, Readable, SingleWriterWriteTx, UserKey, UserValue};

use super::committer::Commit;
use super::graves::Graves;
use super::tables::{Table, Tables, unavailable};
use crate::StoreError;

/// The writes of one group. An operation sees those of the operations before it in the group, and either all of the
/// group reaches the disk or none does.
///
/// There is no undo for one operation: it reads and decides first, and writes when nothing can fail any more.
pub(super) struct Transaction<'a> {
    pub(super) tables: &'a Tables,
    pub(super) graves: &'a mut Graves,
    inner: SingleWriterWriteTx<'a>,
}

impl<'a> Transaction<'a> {
    pub(super) fn begin(tables: &'a Tables, graves: &'a mut Graves) -> Self {
        let inner = tables.database.write_tx().durability(Some(PersistMode::SyncData));
        Self { tables, graves, inner }
    }

    pub(super) fn commit(self, commit: &mut Commit) -> fjall::Result<()> {
        commit(self.inner)
    }

    pub(super) fn get(&self, table: &Table, key: &[u8]) -> Result<Option<UserValue>, StoreError> {
        self.inner.get(&table.keyspace, key).map_err(unavailable)
    }

    /// The length of a value, without reading it into memory where that can be avoided.
    pub(super) fn size_of(&self, table: &Table, key: &[u8]) -> Result<Option<u32>, StoreError> {
        self.inner.size_of(&table.keyspace, key).map_err(unavailable)
    }

    pub(super) fn range<K: AsRef<[u8]>>(&self, table: &Table, range: impl RangeBounds<K>) -> Iter {
        self.inner.range(&table.keyspace, range)
    }

    pub(super) fn prefix(&self, table: &Table, prefix: &[u8]) -> Iter {
        self.inner.prefix(&table.keyspace, prefix)
    }

    pub(super) fn insert(&mut self, table: &Table, key: impl Into<UserKey>, value: impl Into<UserValue>) {
        self.inner.insert(&table.keyspace, key, value);
    }

    pub(super) fn remove(&mut self, table: &Table, key: impl Into<UserKey>) {
        self.inner.remove(&table.keyspace, key);
    }
}
