//! Tables `device_keys` (plain writes) and `one_time_key` (conditional writes alone).
//!
//! A one-time key is given to whoever deletes its row. An upload is a conditional batch on `revision`, a value that is
//! new with each upload, so that no upload is applied twice: one that comes late would bring back keys that were given
//! away meanwhile.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::try_join;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, MaybeUnset};
use spillway_types::{MailboxId, random_bytes};
use tokio::time::Instant;
use uuid::Uuid;

use super::cluster::{Cluster, Profile};
use super::lwt::{self, Answer, Found};
use super::metrics::Operation;
use super::{failure, rows};
use crate::embedded::keys::{decode_signed, encode_signed};
use crate::keys::{KeyBundle, KeyUpload, OneTimePreKey, SignedPreKey};
use crate::{Cas, Keys, OpenError, StoreError};

const WHAT: &str = "key";
/// Keys among which a caller picks at random, so that callers at the same time seldom want the same one.
const CANDIDATES: i32 = 20;
/// Rows in a batch, so that one with post-quantum keys (1.6 KB each) stays far below what nodes refuse.
const BATCH_KEYS: usize = 64;
/// More keys of a device than any upload leaves; a bound on what is read.
const KEYS_MAX: i32 = 10_000;
/// Each lost turn means that another upload or clearing of the same device came between.
const TURNS_MAX: usize = 64;
/// Deletions without an answer after which a caller goes without: each has wasted a key.
const WASTED_MAX: usize = 3;

#[derive(Debug)]
pub(super) struct CqlKeys {
    cluster: Arc<Cluster>,
    put_signed: PreparedStatement,
    get_signed: PreparedStatement,
    delete_signed: PreparedStatement,
    /// The condition of a batch.
    revise: PreparedStatement,
    revision: PreparedStatement,
    insert: PreparedStatement,
    delete: PreparedStatement,
    take: PreparedStatement,
    ids: PreparedStatement,
    some: PreparedStatement,
}

/// The one-time keys that are there, and the upload that they are from.
struct Stock {
    revision: Option<Uuid>,
    ids: HashSet<i64>,
}

impl CqlKeys {
    pub(super) async fn prepare(cluster: &Arc<Cluster>) -> Result<Self, OpenError> {
        let device = format!("{}.device_keys", cluster.keyspaces.identity);
        let one_time = format!("{}.one_time_key", cluster.keyspaces.identity);
        let lwt = async |cql: String| cluster.prepare(Profile::Lwt, &cql, false).await;
        let read = async |cql: String| cluster.prepare(Profile::Read, &cql, true).await;
        let write = async |cql: String| cluster.prepare(Profile::Write, &cql, true).await;
        Ok(Self {
            cluster: Arc::clone(cluster),
            put_signed: write(format!(
                "INSERT INTO {device} (mailbox_id, signed, last_resort) VALUES (?, ?, ?)"
            ))
            .await?,
            get_signed: read(format!("SELECT signed, last_resort FROM {device} WHERE mailbox_id = ?"))
                .await?,
            delete_signed: write(format!("DELETE FROM {device} WHERE mailbox_id = ?")).await?,
            revise: lwt(format!("UPDATE {one_time} SET revision = ? WHERE mailbox_id = ? IF revision = ?"))
                .await?,
            revision: cluster
                .prepare(
                    Profile::SerialRead,
                    &format!("SELECT revision FROM {one_time} WHERE mailbox_id = ? LIMIT 1"),
                    true,
                )
                .await?,
            insert: lwt(format!("INSERT INTO {one_time} (mailbox_id, key_id, public_key) VALUES (?, ?, ?)"))
                .await?,
            delete: lwt(format!("DELETE FROM {one_time} WHERE mailbox_id = ? AND key_id = ?")).await?,
            take: lwt(format!(
                "DELETE FROM {one_time} WHERE mailbox_id = ? AND key_id = ? IF public_key = ?"
            ))
            .await?,
            ids: read(format!(
                "SELECT revision, key_id FROM {one_time} WHERE mailbox_id = ? LIMIT {KEYS_MAX}"
            ))
            .await?,
            some: read(format!("SELECT key_id, public_key FROM {one_time} WHERE mailbox_id = ? LIMIT ?"))
                .await?,
        })
    }

    async fn signed_keys(
        &self,
        device: Uuid,
    ) -> Result<(Option<SignedPreKey>, Option<SignedPreKey>), StoreError> {
        let result = self.cluster.execute(&self.get_signed, (device,)).await?;
        type Column = Option<Vec<u8>>;
        let row: Option<(Column, Column)> = rows::maybe_first(WHAT, result)?;
        let (signed, last_resort) = row.unwrap_or_default();
        let decode = |key: Column| key.map(|key| decode_signed(WHAT, &key)).transpose();
        Ok((decode(signed)?, decode(last_resort)?))
    }

    async fn stock(&self, device: Uuid) -> Result<Stock, StoreError> {
        let result = self.cluster.execute(&self.ids, (device,)).await?;
        let rows: Vec<(Option<Uuid>, Option<i64>)> = rows::all(WHAT, result)?;
        let revision = rows.first().and_then(|(revision, _)| *revision);
        // A device whose keys have all been taken has a row with the revision and no key.
        Ok(Stock { revision, ids: rows.into_iter().filter_map(|(_, id)| id).collect() })
    }

    /// The first one-time keys in the order of their ids.
    async fn some(&self, device: Uuid, at_most: i32) -> Result<Vec<OneTimePreKey>, StoreError> {
        let result = self.cluster.execute(&self.some, (device, at_most)).await?;
        let rows: Vec<(Option<i64>, Option<Vec<u8>>)> = rows::all(WHAT, result)?;
        let key = |(id, key): (Option<i64>, Option<Vec<u8>>)| Some((id?, key?));
        rows.into_iter().filter_map(key).map(|(id, key)| one_time(id, key)).collect()
    }

    /// Changes one-time keys if the revision is still `old`.
    async fn change(
        &self,
        device: Uuid,
        (old, new): (Option<Uuid>, Option<Uuid>),
        (statement, rows): (&PreparedStatement, Vec<Vec<Option<CqlValue>>>),
    ) -> Result<Answer, StoreError> {
        let mut batch = self.cluster.lwt_batch();
        batch.append_statement(self.revise.clone());
        for _ in &rows {
            batch.append_statement(statement.clone());
        }
        let revise = vec![new.map(CqlValue::Uuid), Some(CqlValue::Uuid(device)), old.map(CqlValue::Uuid)];
        let values: Vec<_> = std::iter::once(revise).chain(rows).collect();
        lwt::answer(WHAT, self.cluster.execute_batch(&batch, values).await?)
    }

    async fn insert_if(
        &self,
        device: Uuid,
        old: Option<Uuid>,
        new: Uuid,
        keys: &[&OneTimePreKey],
    ) -> Result<Cas, StoreError> {
        let row = |key: &&OneTimePreKey| {
            vec![
                Some(CqlValue::Uuid(device)),
                Some(CqlValue::BigInt(key.key_id.into())),
                Some(CqlValue::Blob(key.public_key.to_vec())),
            ]
        };
        let send = || self.change(device, (old, Some(new)), (&self.insert, keys.iter().map(row).collect()));
        let look = || async {
            let result = self.cluster.execute(&self.revision, (device,)).await?;
            let row: Option<(Option<Uuid>,)> = rows::maybe_first(WHAT, result)?;
            let revision = row.and_then(|(revision,)| revision);
            Ok(if revision == Some(new) {
                Found::Mine
            } else if revision == old {
                Found::Untouched
            } else {
                Found::Later
            })
        };
        lwt::settle(send, look).await
    }

    /// Adds one-time keys as far as there is room, and answers with how many there are then.
    async fn add(&self, device: Uuid, keys: &[OneTimePreKey], max: usize) -> Result<usize, StoreError> {
        'turns: for _ in 0..TURNS_MAX {
            let Stock { revision: mut old, mut ids } = self.stock(device).await?;
            let mut fitting = Vec::with_capacity(keys.len());
            for key in keys {
                let id = i64::from(key.key_id);
                if ids.contains(&id) || ids.len() < max {
                    ids.insert(id);
                    fitting.push(key);
                }
            }
            for keys in fitting.chunks(BATCH_KEYS) {
                let new = Uuid::new_v4();
                match self.insert_if(device, old, new, keys).await? {
                    Cas::Applied => old = Some(new),
                    Cas::Conflict => continue 'turns,
                }
            }
            return Ok(ids.len());
        }
        Err(failure::unavailable(lwt::Contended))
    }

    /// Takes a one-time key by deleting its row.
    async fn take_one_time(
        &self,
        device: Uuid,
        mut candidates: Vec<OneTimePreKey>,
    ) -> Result<Option<OneTimePreKey>, StoreError> {
        let give_up_at = Instant::now() + lwt::PATIENCE;
        let mut wasted = 0;
        while Instant::now() < give_up_at {
            if candidates.is_empty() {
                candidates = self.some(device, CANDIDATES).await?;
            }
            if candidates.is_empty() {
                return Ok(None);
            }
            let pick = usize::from(u16::from_le_bytes(random_bytes())) % candidates.len();
            let key = candidates.swap_remove(pick);
            let values = (device, i64::from(key.key_id), key.public_key.clone());
            let result = self.cluster.execute(&self.take, values).await;
            match result.and_then(|result| lwt::answer(WHAT, result)) {
                Ok(Answer::Applied) => return Ok(Some(key)),
                Ok(Answer::Refused(_)) => {}
                // Deleted or not, nobody knows for whom: another one is as good.
                Err(error) => {
                    wasted += 1;
                    if wasted == WASTED_MAX || !lwt::may_be_repeated(&error) {
                        return Err(error);
                    }
                }
            }
        }
        Err(failure::unavailable(lwt::Contended))
    }

    async fn clear_one_time(&self, device: Uuid) -> Result<(), StoreError> {
        let most = usize::try_from(KEYS_MAX).unwrap_or(usize::MAX) / BATCH_KEYS;
        for _ in 0..most + TURNS_MAX {
            let stock = self.stock(device).await?;
            if stock.revision.is_none() && stock.ids.is_empty() {
                return Ok(());
            }
            let row = |id: i64| vec![Some(CqlValue::Uuid(device)), Some(CqlValue::BigInt(id))];
            let ids: Vec<_> = stock.ids.into_iter().take(BATCH_KEYS).collect();
            let rows = || ids.iter().map(|id| row(*id)).collect();
            // Whether it was applied, the next look at the stock tells.
            lwt::repeat(|| self.change(device, (stock.revision, None), (&self.delete, rows()))).await?;
        }
        Err(failure::unavailable(lwt::Contended))
    }
}

#[async_trait]
impl Keys for CqlKeys {
    async fn upload(
        &self,
        device: MailboxId,
        keys: &KeyUpload,
        one_time_max: usize,
    ) -> Result<usize, StoreError> {
        let work = async {
            let device = uuid(device);
            if keys.signed.is_some() || keys.last_resort.is_some() {
                let encode = |key: &Option<SignedPreKey>| match key {
                    Some(key) => MaybeUnset::Set(encode_signed(key)),
                    None => MaybeUnset::Unset,
                };
                let values = (device, encode(&keys.signed), encode(&keys.last_resort));
                self.cluster.execute(&self.put_signed, values).await?;
            }
            if keys.one_time.is_empty() {
                return Ok(self.stock(device).await?.ids.len());
            }
            self.add(device, &keys.one_time, one_time_max).await
        };
        self.cluster.metrics.measure(Operation::KeysUpload, work).await
    }

    async fn take(&self, device: MailboxId) -> Result<Option<KeyBundle>, StoreError> {
        let work = async {
            let device = uuid(device);
            let ((signed, last_resort), candidates) =
                try_join!(self.signed_keys(device), self.some(device, CANDIDATES))?;
            let Some(signed) = signed else {
                return Ok(None);
            };
            let one_time = match candidates.is_empty() {
                true => None,
                false => self.take_one_time(device, candidates).await?,
            };
            Ok(Some(KeyBundle { signed, one_time, last_resort }))
        };
        self.cluster.metrics.measure(Operation::KeysTake, work).await
    }

    async fn signed(&self, device: MailboxId) -> Result<Option<KeyBundle>, StoreError> {
        let work = async {
            let (signed, last_resort) = self.signed_keys(uuid(device)).await?;
            Ok(signed.map(|signed| KeyBundle { signed, one_time: None, last_resort }))
        };
        self.cluster.metrics.measure(Operation::KeysSigned, work).await
    }

    async fn stored(&self, device: MailboxId) -> Result<KeyUpload, StoreError> {
        let device = uuid(device);
        let ((signed, last_resort), one_time) =
            try_join!(self.signed_keys(device), self.some(device, KEYS_MAX))?;
        Ok(KeyUpload { signed, last_resort, one_time })
    }

    async fn clear(&self, device: MailboxId) -> Result<(), StoreError> {
        let work = async {
            let device = uuid(device);
            self.cluster.execute(&self.delete_signed, (device,)).await?;
            self.clear_one_time(device).await
        };
        self.cluster.metrics.measure(Operation::KeysClear, work).await
    }
}

fn one_time(id: i64, public_key: Vec<u8>) -> Result<OneTimePreKey, StoreError> {
    let key_id = u32::try_from(id).map_err(|error| failure::corrupt(WHAT, error))?;
    Ok(OneTimePreKey { key_id, public_key: public_key.into() })
}

const fn uuid(id: MailboxId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}
