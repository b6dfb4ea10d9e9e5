//! The tables and their keys.

use std::fmt;
use std::path::Path;

use fjall::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{
    Guard, Keyspace, KeyspaceCreateOptions, SingleWriterTxDatabase, SingleWriterTxKeyspace, UserKey,
    UserValue,
};
use tokio::sync::oneshot;

use super::config::Config;
use super::failure::{open_error, unwrapped};
use super::folder::Folder;
use super::journal;
use crate::{OpenError, StoreError};

/// fjall rotates a journal at 64 MB and keeps it until every table has flushed what it holds. The smallest limit it
/// takes bounds what is replayed at a start to some 200 MB.
const JOURNALS_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Threads for flushes and compactions. With two or more fjall keeps one for flushes alone, and that one spins while
/// compactions are queued (3.1.13, `worker_pool.rs`), which a small machine cannot spare.
const WORKERS: usize = 1;
/// Large enough that a flush comes every few seconds under full load, small enough that four waiting for the disk do
/// not fill the memory.
const MESSAGES_MEMTABLE_BYTES: u64 = 32 * 1024 * 1024;
const MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;

pub(super) struct Tables {
    /// Account id: account.
    pub(super) accounts: Table,
    /// Number: account id.
    pub(super) claims: Table,
    /// Mailbox id, kind, key id: public key. See [`super::keys`].
    pub(super) keys: Table,
    /// Verification id: session.
    pub(super) verifications: Table,
    /// Waiting since, verification id: nothing.
    pub(super) verification_queue: Table,
    /// Expiry, verification id: nothing.
    pub(super) verification_expiry: Table,
    /// Number: account id.
    pub(super) directory: Table,
    /// Name: lease.
    pub(super) leases: Table,
    /// Mailbox id, message id: message.
    pub(super) messages: Table,
    /// Mailbox id: how much it holds.
    pub(super) usage: Table,
    /// Day, mailbox id: nothing. Which mailboxes were sent something on a day.
    pub(super) arrivals: Table,
    /// Mailbox id: settled watermark.
    pub(super) settled: Table,
    pub(super) database: SingleWriterTxDatabase,
    // The fields below are dropped last, so whoever waits for the release finds the database closed.
    pub(super) folder: Folder,
    _released: oneshot::Sender<()>,
}

/// One table, and what its values are called in errors.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) keyspace: SingleWriterTxKeyspace,
    pub(super) what: &'static str,
}

impl Tables {
    pub(super) fn open(
        folder: Folder,
        config: &Config,
        released: oneshot::Sender<()>,
    ) -> Result<Self, OpenError> {
        if !folder.is_new() {
            journal::repair(&folder.database())
                .map_err(|error| OpenError::Io { path: folder.path().to_owned(), source: error.into() })?;
        }
        let fail = |error| open_error(folder.path(), error);
        let database = SingleWriterTxDatabase::builder(folder.database())
            .cache_size(config.cache_bytes)
            .max_journaling_size(JOURNALS_BYTES_MAX)
            .worker_threads(WORKERS)
            .open()
            .map_err(fail)?;
        let table = |name: &str, what| open_table(&database, name, what).map_err(fail);
        let tables = Self {
            accounts: table("accounts", "account")?,
            claims: table("claims", "claim")?,
            keys: table("keys", "key")?,
            verifications: table("verifications", "verification")?,
            verification_queue: table("verification_queue", "queued code")?,
            verification_expiry: table("verification_expiry", "verification expiry")?,
            directory: table("directory", "directory entry")?,
            leases: table("leases", "lease")?,
            messages: table("messages", "message")?,
            usage: table("usage", "mailbox usage")?,
            arrivals: table("arrivals", "mailbox arrival")?,
            settled: table("settled", "settled watermark")?,
            database,
            folder,
            _released: released,
        };
        if tables.folder.is_new() {
            tables.folder.finish()?;
        }
        Ok(tables)
    }

    pub(super) fn all(&self) -> [&Table; 12] {
        [
            &self.accounts,
            &self.claims,
            &self.keys,
            &self.verifications,
            &self.verification_queue,
            &self.verification_expiry,
            &self.directory,
            &self.leases,
            &self.messages,
            &self.usage,
            &self.arrivals,
            &self.settled,
        ]
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn open_table(database: &SingleWriterTxDatabase, name: &str, what: &'static str) -> fjall::Result<Table> {
    let memtable_bytes = if name == "messages" { MESSAGES_MEMTABLE_BYTES } else { MEMTABLE_BYTES };
    let keyspace = database.keyspace(name, || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(memtable_bytes)
            // Ten bits a key is 1 % false positives; each costs one block read.
            .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(
                10.0,
            ))))
    })?;
    Ok(Table { keyspace, what })
}

impl Table {
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<UserValue>, StoreError> {
        self.keyspace.inner().get(key).map_err(unavailable)
    }

    pub(super) fn inner(&self) -> &Keyspace {
        self.keyspace.inner()
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("folder", &self.folder).finish_non_exhaustive()
    }
}

pub(super) fn unavailable(error: fjall::Error) -> StoreError {
    StoreError::Unavailable(unwrapped(error).into())
}

pub(super) fn entry(guard: Guard) -> Result<(UserKey, UserValue), StoreError> {
    guard.into_inner().map_err(unavailable)
}

pub(super) fn entry_key(guard: Guard) -> Result<UserKey, StoreError> {
    guard.key().map_err(unavailable)
}
