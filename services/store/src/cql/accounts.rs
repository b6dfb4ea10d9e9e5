//! Tables `account` and `number_claim`, changed by conditional writes alone.
//!
//! An account is one row with one value, in the bytes of the embedded store, beside the version that guards it. It is
//! read and written whole and never searched, so a column for each field and a row for each device would only make a
//! conditional batch of a conditional write, and a second place where fields have to be added.
//!
//! `write_id` is new with each call of `put`. By it a call that got no answer knows its own write from that of another
//! who went to the same version.

use std::sync::Arc;

use async_trait::async_trait;
use scylla::statement::prepared::PreparedStatement;
use spillway_types::{AccountId, NumberMac};
use uuid::Uuid;

use super::cluster::{Cluster, Profile};
use super::lwt::{self, Answer, Found};
use super::metrics::Operation;
use super::{failure, rows};
use crate::accounts::{Account, NumberClaim, Version};
use crate::embedded::accounts::{decode, encode};
use crate::{Accounts, Cas, OpenError, StoreError};

const ACCOUNT: &str = "account";
const CLAIM: &str = "claim";

#[derive(Debug)]
pub(super) struct CqlAccounts {
    cluster: Arc<Cluster>,
    get: PreparedStatement,
    look: PreparedStatement,
    insert: PreparedStatement,
    update: PreparedStatement,
    delete: PreparedStatement,
    claim: PreparedStatement,
    claimed: PreparedStatement,
    release: PreparedStatement,
}

impl CqlAccounts {
    pub(super) async fn prepare(cluster: &Arc<Cluster>) -> Result<Self, OpenError> {
        let account = format!("{}.account", cluster.keyspaces.identity);
        let claim = format!("{}.number_claim", cluster.keyspaces.identity);
        let lwt = async |cql: String| cluster.prepare(Profile::Lwt, &cql, false).await;
        let read = async |profile, cql: String| cluster.prepare(profile, &cql, true).await;
        Ok(Self {
            cluster: Arc::clone(cluster),
            get: read(Profile::Read, format!("SELECT value FROM {account} WHERE account_id = ?")).await?,
            look: read(
                Profile::SerialRead,
                format!("SELECT version, write_id FROM {account} WHERE account_id = ?"),
            )
            .await?,
            insert: lwt(format!(
                "INSERT INTO {account} (account_id, version, write_id, value) VALUES (?, ?, ?, ?) IF NOT EXISTS"
            ))
            .await?,
            update: lwt(format!(
                "UPDATE {account} SET version = ?, write_id = ?, value = ? WHERE account_id = ? IF version = ?"
            ))
            .await?,
            delete: lwt(format!("DELETE FROM {account} WHERE account_id = ? IF version = ?")).await?,
            claim: lwt(format!("INSERT INTO {claim} (number, account_id) VALUES (?, ?) IF NOT EXISTS")).await?,
            claimed: read(Profile::Read, format!("SELECT account_id FROM {claim} WHERE number = ?")).await?,
            release: lwt(format!("DELETE FROM {claim} WHERE number = ? IF account_id = ?")).await?,
        })
    }

    /// The version and the write that made it.
    async fn look(&self, id: Uuid) -> Result<Option<(i64, Uuid)>, StoreError> {
        let result = self.cluster.execute(&self.look, (id,)).await?;
        rows::maybe_first(ACCOUNT, result)
    }

    async fn send_put(
        &self,
        account: &Account,
        write_id: Uuid,
        expected: Option<i64>,
    ) -> Result<Answer, StoreError> {
        let (id, version, value) = (uuid(account.id), account.version.0.cast_signed(), encode(account));
        let result = match expected {
            None => self.cluster.execute(&self.insert, (id, version, write_id, value)).await?,
            Some(expected) => {
                self.cluster.execute(&self.update, (version, write_id, value, id, expected)).await?
            }
        };
        lwt::answer(ACCOUNT, result)
    }

    async fn send_delete(&self, id: Uuid, expected: i64) -> Result<Answer, StoreError> {
        lwt::answer(ACCOUNT, self.cluster.execute(&self.delete, (id, expected)).await?)
    }
}

#[async_trait]
impl Accounts for CqlAccounts {
    async fn get(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        let work = async {
            let result = self.cluster.execute(&self.get, (uuid(id),)).await?;
            let row: Option<(Vec<u8>,)> = rows::maybe_first(ACCOUNT, result)?;
            row.map(|(value,)| decode(ACCOUNT, id, &value)).transpose()
        };
        self.cluster.metrics.measure(Operation::AccountGet, work).await
    }

    async fn put(&self, account: &Account, expected: Option<Version>) -> Result<Cas, StoreError> {
        debug_assert!(expected.is_none_or(|expected| account.version == expected.next()));
        let work = async {
            let write_id = Uuid::new_v4();
            let expected = expected.map(|version| version.0.cast_signed());
            let look = || async {
                let standing = self.look(uuid(account.id)).await?;
                Ok(lwt::compare(standing, (account.version.0.cast_signed(), write_id), expected))
            };
            lwt::settle(|| self.send_put(account, write_id, expected), look).await
        };
        self.cluster.metrics.measure(Operation::AccountPut, work).await
    }

    async fn delete(&self, id: AccountId, expected: Version) -> Result<Cas, StoreError> {
        let work = async {
            let (id, expected) = (uuid(id), expected.0.cast_signed());
            let look = || async {
                Ok(match self.look(id).await? {
                    // If another call deleted it, this one finds what it wanted all the same.
                    None => Found::Mine,
                    Some((version, _)) if version == expected => Found::Untouched,
                    Some(_) => Found::Other,
                })
            };
            lwt::settle(|| self.send_delete(id, expected), look).await
        };
        self.cluster.metrics.measure(Operation::AccountDelete, work).await
    }

    async fn claim(&self, claim: NumberClaim) -> Result<NumberClaim, StoreError> {
        let work = async {
            let number = claim.number.as_bytes().as_slice();
            // The answer is the claim that stands, so a claim that was not answered is simply made again.
            let answer = lwt::repeat(|| async {
                lwt::answer(CLAIM, self.cluster.execute(&self.claim, (number, uuid(claim.account))).await?)
            })
            .await?;
            match answer {
                Answer::Applied => Ok(claim),
                Answer::Refused(standing) => {
                    let account = standing.uuid("account_id");
                    let account =
                        account.ok_or_else(|| failure::corrupt(CLAIM, "a claim names no account"))?;
                    Ok(NumberClaim { account: account_id(account), ..claim })
                }
            }
        };
        self.cluster.metrics.measure(Operation::NumberClaim, work).await
    }

    async fn claimed(&self, number: &NumberMac) -> Result<Option<NumberClaim>, StoreError> {
        let work = async {
            let result = self.cluster.execute(&self.claimed, (number.as_bytes().as_slice(),)).await?;
            let row: Option<(Uuid,)> = rows::maybe_first(CLAIM, result)?;
            Ok(row.map(|(account,)| NumberClaim { number: *number, account: account_id(account) }))
        };
        self.cluster.metrics.measure(Operation::NumberGet, work).await
    }

    async fn release(&self, claim: NumberClaim) -> Result<(), StoreError> {
        let work = async {
            let number = claim.number.as_bytes().as_slice();
            // Whether the claim was there does not matter; afterwards it is not.
            lwt::repeat(|| async {
                lwt::answer(CLAIM, self.cluster.execute(&self.release, (number, uuid(claim.account))).await?)
            })
            .await?;
            Ok(())
        };
        self.cluster.metrics.measure(Operation::NumberRelease, work).await
    }
}

const fn uuid(id: AccountId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

const fn account_id(uuid: Uuid) -> AccountId {
    AccountId::from_bytes(*uuid.as_bytes())
}
