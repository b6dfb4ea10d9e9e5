//! Reading a whole store, table by table in the order of keys, to move it elsewhere.
//!
//! A scan has the folder to itself, as a server would, and reads from one snapshot. Nothing is kept in memory but the
//! row at hand. Left out is what the destination derives by itself: usage, arrivals, indexes, and the graves of deleted
//! messages, which outlive their use in [`GRAVE`](crate::mailboxes::GRAVE).

use std::fmt;
use std::iter;
use std::path::Path;

use fjall::{Readable, Snapshot};
use spillway_types::{AccountId, MailboxId, NumberMac, Timestamp};
use tokio::sync::oneshot;

use super::codec::Decoder;
use super::config::Config;
use super::folder::Folder;
use super::mailboxes::record::{self, MessageRow};
use super::tables::{Table, Tables, entry};
use super::{accounts, directory, keys, verifications};
use crate::accounts::{Account, NumberClaim};
use crate::keys::KeyUpload;
use crate::mailboxes::StoredMessage;
use crate::verifications::{Verification, VerificationId};
use crate::{OpenError, StoreError};

pub(crate) struct Scan {
    snapshot: Snapshot,
    tables: Tables,
}

type Read<T> = Result<T, StoreError>;

impl Scan {
    /// Whether there is a finished store in the folder; opening one would otherwise make it.
    pub(crate) fn has_store(path: &Path) -> bool {
        Folder::is_finished(path)
    }

    pub(crate) fn open(config: &Config) -> Result<Self, OpenError> {
        let folder = Folder::open(&config.path)?;
        let (released, _) = oneshot::channel();
        let tables = Tables::open(folder, config, released)?;
        Ok(Self { snapshot: tables.database.read_tx(), tables })
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = Read<Account>> {
        let what = self.tables.accounts.what;
        self.rows(&self.tables.accounts, move |row, value| {
            let id = whole(what, row, Decoder::account)?;
            accounts::decode(what, id, value)
        })
    }

    pub(crate) fn claims(&self) -> impl Iterator<Item = Read<NumberClaim>> {
        let what = self.tables.claims.what;
        self.rows(&self.tables.claims, move |row, value| {
            let number = whole(what, row, Decoder::number)?;
            accounts::decode_claim(what, number, value)
        })
    }

    pub(crate) fn directory(&self) -> impl Iterator<Item = Read<(NumberMac, AccountId)>> {
        let what = self.tables.directory.what;
        self.rows(&self.tables.directory, move |row, value| {
            Ok((whole(what, row, Decoder::number)?, directory::decode(what, value)?))
        })
    }

    /// The keys of one device after the other; their rows are neighbours.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Read<(MailboxId, KeyUpload)>> {
        let table = &self.tables.keys;
        let mut rows = self.snapshot.iter(table.inner()).map(entry).peekable();
        iter::from_fn(move || {
            let device = match rows.peek()? {
                Ok((row, _)) => device(table, row),
                Err(error) => return Some(Err(error.clone())),
            };
            let of_device = |device: MailboxId| {
                let mut keys = KeyUpload::default();
                while let Some(row) = rows.next_if(|next| is_of(device, next)) {
                    let (row, value) = row?;
                    keys::add_row(table.what, &row, &value, &mut keys)?;
                }
                Ok((device, keys))
            };
            Some(device.and_then(of_device))
        })
    }

    pub(crate) fn settled(&self) -> impl Iterator<Item = Read<(MailboxId, Timestamp)>> {
        let what = self.tables.settled.what;
        self.rows(&self.tables.settled, move |row, value| {
            Ok((whole(what, row, Decoder::mailbox)?, record::decode_settled(what, value)?))
        })
    }

    pub(crate) fn verifications(&self) -> impl Iterator<Item = Read<Verification>> {
        let what = self.tables.verifications.what;
        self.rows(&self.tables.verifications, move |row, value| {
            let id = VerificationId(whole(what, row, Decoder::array)?);
            verifications::decode(what, id, value)
        })
    }

    /// Mailbox by mailbox, in each in the order of ids.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Read<(MailboxId, StoredMessage)>> {
        let what = self.tables.messages.what;
        self.rows(&self.tables.messages, move |row, value| {
            let mailbox = MessageRow::decode(what, row)?.mailbox();
            Ok((mailbox, record::decode_message(what, row, value)?))
        })
    }

    fn rows<T>(
        &self,
        table: &Table,
        decode: impl Fn(&[u8], &[u8]) -> Read<T>,
    ) -> impl Iterator<Item = Read<T>> {
        self.snapshot.iter(table.inner()).map(move |guard| {
            let (row, value) = entry(guard)?;
            decode(&row, &value)
        })
    }
}

fn device(table: &Table, row: &[u8]) -> Read<MailboxId> {
    Decoder::new(table.what, row).mailbox()
}

/// A row that cannot be read is everybody's, so that its error is met.
fn is_of<K: AsRef<[u8]>, V>(device: MailboxId, row: &Read<(K, V)>) -> bool {
    row.as_ref().map_or(true, |(row, _)| row.as_ref().starts_with(device.as_bytes()))
}

/// A key of one field.
fn whole<'a, T>(
    what: &'static str,
    row: &'a [u8],
    field: impl FnOnce(&mut Decoder<'a>) -> Read<T>,
) -> Read<T> {
    let mut row = Decoder::new(what, row);
    let value = field(&mut row)?;
    row.end()?;
    Ok(value)
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("tables", &self.tables).finish_non_exhaustive()
    }
}
