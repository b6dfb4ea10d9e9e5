//! Rows of a device: signed key, last-resort key, the number of one-time keys, and each one-time key. One-time keys
//! are rows of their own so that taking one does not rewrite the others; their number is kept so that an upload does
//! not count them.

use async_trait::async_trait;
use spillway_types::MailboxId;

use super::access::Access;
use super::codec::{Decoder, Encoder};
use super::metrics::Operation;
use super::tables::{Tables, entry, entry_key};
use super::transaction::Transaction;
use crate::keys::{KeyBundle, KeyUpload, OneTimePreKey, SignedPreKey};
use crate::{Keys, StoreError};

const VERSION: u8 = 1;
/// Key, signature and lengths of an elliptic-curve key.
const KEY_BYTES: usize = 160;

#[derive(Clone, Copy)]
enum Kind {
    Signed = 0,
    LastResort = 1,
    OneTimeCount = 2,
    OneTime = 3,
}

#[derive(Debug)]
pub(super) struct EmbeddedKeys(pub(super) Access);

#[async_trait]
impl Keys for EmbeddedKeys {
    async fn upload(
        &self,
        device: MailboxId,
        keys: &KeyUpload,
        one_time_max: usize,
    ) -> Result<usize, StoreError> {
        let bytes = KEY_BYTES * (2 + keys.one_time.len());
        let keys = keys.clone();
        let upload =
            move |transaction: &mut Transaction<'_>| upload(transaction, device, &keys, one_time_max);
        self.0.write(Operation::KeysUpload, bytes, upload).await
    }

    async fn take(&self, device: MailboxId) -> Result<Option<KeyBundle>, StoreError> {
        let take = move |transaction: &mut Transaction<'_>| take(transaction, device);
        self.0.write(Operation::KeysTake, KEY_BYTES, take).await
    }

    async fn signed(&self, device: MailboxId) -> Result<Option<KeyBundle>, StoreError> {
        let tables = self.0.tables()?;
        let key = |kind| match tables.keys.get(&row(device, kind))? {
            Some(key) => decode_signed(tables.keys.what, &key).map(Some),
            None => Ok(None),
        };
        let Some(signed) = key(Kind::Signed)? else { return Ok(None) };
        Ok(Some(KeyBundle { signed, one_time: None, last_resort: key(Kind::LastResort)? }))
    }

    async fn stored(&self, device: MailboxId) -> Result<KeyUpload, StoreError> {
        let stored = move |tables: &Tables| {
            let mut keys = KeyUpload::default();
            for guard in tables.keys.inner().prefix(device.as_bytes()) {
                let (row, value) = entry(guard)?;
                add_row(tables.keys.what, &row, &value, &mut keys)?;
            }
            Ok(keys)
        };
        self.0.scan(stored).await
    }

    async fn clear(&self, device: MailboxId) -> Result<(), StoreError> {
        let clear = move |transaction: &mut Transaction<'_>| {
            let table = &transaction.tables.keys;
            let rows = transaction.prefix(table, device.as_bytes()).map(entry_key);
            for row in rows.collect::<Result<Vec<_>, _>>()? {
                transaction.remove(table, row);
            }
            Ok(())
        };
        self.0.write(Operation::KeysClear, KEY_BYTES, clear).await
    }
}

fn upload(
    transaction: &mut Transaction<'_>,
    device: MailboxId,
    keys: &KeyUpload,
    one_time_max: usize,
) -> Result<usize, StoreError> {
    let table = &transaction.tables.keys;
    let stored = one_time_count(transaction, device)?;
    let mut count = stored;
    let mut one_time = Vec::with_capacity(keys.one_time.len());
    let mut new_ids = Vec::new();
    for key in &keys.one_time {
        let row = one_time_row(device, key.key_id);
        // A device that signs up has none stored, which spares a look at each.
        let replaces =
            new_ids.contains(&key.key_id) || (stored > 0 && transaction.size_of(table, &row)?.is_some());
        if !replaces {
            if count >= one_time_max {
                continue;
            }
            count += 1;
            new_ids.push(key.key_id);
        }
        one_time.push((row, encode_one_time(key)));
    }

    for (row, value) in one_time {
        transaction.insert(table, row, value);
    }
    for (kind, key) in [(Kind::Signed, &keys.signed), (Kind::LastResort, &keys.last_resort)] {
        if let Some(key) = key {
            transaction.insert(table, row(device, kind), encode_signed(key));
        }
    }
    if count != stored {
        set_one_time_count(transaction, device, count);
    }
    Ok(count)
}

fn take(transaction: &mut Transaction<'_>, device: MailboxId) -> Result<Option<KeyBundle>, StoreError> {
    let table = &transaction.tables.keys;
    let signed_key = |kind| match transaction.get(table, &row(device, kind))? {
        Some(key) => decode_signed(table.what, &key).map(Some),
        None => Ok(None),
    };
    let Some(signed) = signed_key(Kind::Signed)? else {
        return Ok(None);
    };
    let last_resort = signed_key(Kind::LastResort)?;
    let count = one_time_count(transaction, device)?;
    if count == 0 {
        // Also spares the walk over the rows of keys that were taken.
        return Ok(Some(KeyBundle { signed, one_time: None, last_resort }));
    }
    let Some(first) = transaction.prefix(table, &row(device, Kind::OneTime)).next() else {
        return Err(corrupt(table.what, format!("{count} one-time keys are counted and none is stored")));
    };
    let (row, value) = entry(first)?;
    let one_time = decode_one_time(table.what, &row, &value)?;

    transaction.remove(table, row);
    set_one_time_count(transaction, device, count - 1);
    Ok(Some(KeyBundle { signed, one_time: Some(one_time), last_resort }))
}

/// Adds what a row holds to the keys of its device.
pub(super) fn add_row(
    what: &'static str,
    row: &[u8],
    value: &[u8],
    keys: &mut KeyUpload,
) -> Result<(), StoreError> {
    const SIGNED: u8 = Kind::Signed as u8;
    const LAST_RESORT: u8 = Kind::LastResort as u8;
    const ONE_TIME_COUNT: u8 = Kind::OneTimeCount as u8;
    const ONE_TIME: u8 = Kind::OneTime as u8;
    match row.get(16) {
        Some(&SIGNED) => keys.signed = Some(decode_signed(what, value)?),
        Some(&LAST_RESORT) => keys.last_resort = Some(decode_signed(what, value)?),
        Some(&ONE_TIME_COUNT) => {}
        Some(&ONE_TIME) => keys.one_time.push(decode_one_time(what, row, value)?),
        _ => return Err(corrupt(what, "the row is of no known kind".to_owned())),
    }
    Ok(())
}

fn one_time_count(transaction: &Transaction<'_>, device: MailboxId) -> Result<usize, StoreError> {
    let table = &transaction.tables.keys;
    let Some(value) = transaction.get(table, &row(device, Kind::OneTimeCount))? else {
        return Ok(0);
    };
    let mut value = Decoder::new(table.what, &value);
    value.version(VERSION)?;
    let count = value.u32()? as usize;
    value.end()?;
    Ok(count)
}

fn set_one_time_count(transaction: &mut Transaction<'_>, device: MailboxId, count: usize) {
    let table = &transaction.tables.keys;
    let row = row(device, Kind::OneTimeCount);
    if count == 0 {
        transaction.remove(table, row);
    } else {
        let count = u32::try_from(count).expect("key ids have 32 bits, so there are no more keys");
        transaction.insert(table, row, Encoder::new(VERSION).u32(count).finish());
    }
}

fn row(device: MailboxId, kind: Kind) -> [u8; 17] {
    let mut row = [kind as u8; 17];
    row[..16].copy_from_slice(device.as_bytes());
    row
}

fn one_time_row(device: MailboxId, key_id: u32) -> [u8; 21] {
    let mut key = [0; 21];
    key[..17].copy_from_slice(&row(device, Kind::OneTime));
    key[17..].copy_from_slice(&key_id.to_be_bytes());
    key
}

pub(crate) fn encode_signed(key: &SignedPreKey) -> Vec<u8> {
    Encoder::new(VERSION).u32(key.key_id).bytes(&key.public_key).bytes(&key.signature).finish()
}

pub(crate) fn decode_signed(what: &'static str, value: &[u8]) -> Result<SignedPreKey, StoreError> {
    let mut value = Decoder::new(what, value);
    value.version(VERSION)?;
    let key = SignedPreKey { key_id: value.u32()?, public_key: value.bytes()?, signature: value.bytes()? };
    value.end()?;
    Ok(key)
}

fn encode_one_time(key: &OneTimePreKey) -> Vec<u8> {
    Encoder::new(VERSION).rest(&key.public_key).finish()
}

fn decode_one_time(what: &'static str, row: &[u8], value: &[u8]) -> Result<OneTimePreKey, StoreError> {
    let Some((_, key_id)) = row.split_last_chunk() else {
        return Err(corrupt(what, "the row has no key id".to_owned()));
    };
    let mut value = Decoder::new(what, value);
    value.version(VERSION)?;
    Ok(OneTimePreKey { key_id: u32::from_be_bytes(*key_id), public_key: value.rest() })
}

fn corrupt(what: &'static str, problem: String) -> StoreError {
    StoreError::Corrupt { what, problem }
}
