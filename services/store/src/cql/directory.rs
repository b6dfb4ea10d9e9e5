//! Table `directory_entry`, changed by conditional writes alone, and the log of what was put into it: `directory_put`, plain
//! writes that expire.
//!
//! Plain writes would be cheaper and order calls by the clocks of those who make them. A removal from a worker whose
//! clock is behind would then lose against the entry that it removes, and somebody who chose not to be found would be.

mod log;
mod walk;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use scylla::statement::prepared::PreparedStatement;
use spillway_types::{AccountId, Clock, NumberMac, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

use super::cluster::{Cluster, Profile};
use super::lwt::{self, Answer};
use super::metrics::Operation;
use super::{failure, rows};
use crate::directory::{PutLog, WalkPage, WalkPosition};
use crate::{Directory, OpenError, StoreError};
use log::Log;
use walk::Walk;

pub(super) use log::LOGGED_FOR;

const WHAT: &str = "directory entry";
/// Numbers of one look-up that are read at the same time.
const LOOKUPS_MAX: usize = 64;
/// Each lost turn means that another caller changed the entry of this number in between.
const TURNS_MAX: usize = 64;
/// A put that took longer is logged again, so that its time is not older than
/// [`PUT_LOGGED_WITHIN`](crate::directory::PUT_LOGGED_WITHIN) when it is answered: that, less the time-outs of one write.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct CqlDirectory {
    cluster: Arc<Cluster>,
    insert: PreparedStatement,
    update: PreparedStatement,
    delete: PreparedStatement,
    get: PreparedStatement,
    log: Log,
    walk: Walk,
}

impl CqlDirectory {
    pub(super) async fn prepare(cluster: &Arc<Cluster>, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let table = format!("{}.directory_entry", cluster.keyspaces.identity);
        let lwt = async |cql: String| cluster.prepare(Profile::Lwt, &cql, false).await;
        let get = format!("SELECT account_id FROM {table} WHERE number = ?");
        Ok(Self {
            cluster: Arc::clone(cluster),
            insert: lwt(format!("INSERT INTO {table} (number, account_id) VALUES (?, ?) IF NOT EXISTS"))
                .await?,
            update: lwt(format!("UPDATE {table} SET account_id = ? WHERE number = ? IF account_id = ?"))
                .await?,
            delete: lwt(format!("DELETE FROM {table} WHERE number = ? IF account_id = ?")).await?,
            get: cluster.prepare(Profile::Read, &get, true).await?,
            log: Log::prepare(cluster, clock).await?,
            walk: Walk::prepare(cluster, &table).await?,
        })
    }

    async fn place(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError> {
        let (number, account) = (number.as_bytes().as_slice(), uuid(account));
        let mut seen = None;
        for _ in 0..TURNS_MAX {
            match lwt::repeat(|| self.replace(number, seen, account)).await? {
                Answer::Applied => return Ok(()),
                Answer::Refused(standing) => seen = standing.uuid("account_id"),
            }
            if seen == Some(account) {
                return Ok(());
            }
        }
        Err(failure::unavailable(lwt::Contended))
    }

    /// Puts `account` in the place of `seen`.
    async fn replace(&self, number: &[u8], seen: Option<Uuid>, account: Uuid) -> Result<Answer, StoreError> {
        let result = match seen {
            None => self.cluster.execute(&self.insert, (number, account)).await?,
            Some(seen) => self.cluster.execute(&self.update, (account, number, seen)).await?,
        };
        lwt::answer(WHAT, result)
    }

    async fn get(&self, number: NumberMac) -> Result<Option<AccountId>, StoreError> {
        let result = self.cluster.execute(&self.get, (number.as_bytes().as_slice(),)).await?;
        let row: Option<(Uuid,)> = rows::maybe_first(WHAT, result)?;
        Ok(row.map(|(account,)| AccountId::from_bytes(account.into_bytes())))
    }
}

#[async_trait]
impl Directory for CqlDirectory {
    async fn put(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError> {
        let work = async {
            let mut logged_at = Instant::now();
            // Together, so that the log costs no time; neither is given up because the other fails.
            let (logged, placed) =
                tokio::join!(self.log.write(number), Box::pin(self.place(number, account)));
            logged.and(placed)?;
            while logged_at.elapsed() > LOG_AGAIN_AFTER {
                logged_at = Instant::now();
                self.log.write(number).await?;
            }
            Ok(())
        };
        self.cluster.metrics.measure(Operation::DirectoryPut, work).await
    }

    async fn remove(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError> {
        let work = async {
            let (number, account) = (number.as_bytes().as_slice(), uuid(account));
            lwt::repeat(|| async {
                lwt::answer(WHAT, self.cluster.execute(&self.delete, (number, account)).await?)
            })
            .await?;
            Ok(())
        };
        self.cluster.metrics.measure(Operation::DirectoryRemove, work).await
    }

    async fn lookup(&self, numbers: &[NumberMac]) -> Result<Vec<Option<AccountId>>, StoreError> {
        let work = async {
            let lookups = numbers.iter().map(|number| self.get(*number)).collect::<Vec<_>>();
            stream::iter(lookups).buffered(LOOKUPS_MAX).try_collect().await
        };
        self.cluster.metrics.measure(Operation::DirectoryLookup, work).await
    }

    async fn walk(&self, from: &WalkPosition, at_most: NonZeroUsize) -> Result<WalkPage, StoreError> {
        self.cluster.metrics.measure(Operation::DirectoryWalk, self.walk.page(from, at_most)).await
    }

    async fn put_between(&self, from: Timestamp, until: Timestamp) -> Result<PutLog, StoreError> {
        self.cluster.metrics.measure(Operation::DirectoryLog, self.log.read(from, until)).await
    }
}

fn number(bytes: &[u8]) -> Result<NumberMac, StoreError> {
    NumberMac::try_from(bytes).map_err(|error| failure::corrupt(WHAT, error))
}

const fn uuid(id: AccountId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}
