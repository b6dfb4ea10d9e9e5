//! Table `lease`: a row for each name, changed by conditional writes alone.

use std::sync::Arc;

use async_trait::async_trait;
use scylla::statement::prepared::PreparedStatement;
use uuid::Uuid;

use super::cluster::{Cluster, Profile};
use super::lwt::{self, Found};
use super::metrics::Operation;
use super::rows;
use crate::leases::{FencingToken, HolderId, Lease};
use crate::{Cas, Leases, OpenError, StoreError};

const WHAT: &str = "lease";

#[derive(Debug)]
pub(super) struct CqlLeases {
    cluster: Arc<Cluster>,
    get: PreparedStatement,
    insert: PreparedStatement,
    update: PreparedStatement,
}

impl CqlLeases {
    pub(super) async fn prepare(cluster: &Arc<Cluster>) -> Result<Self, OpenError> {
        let table = format!("{}.lease", cluster.keyspaces.identity);
        let prepare =
            async |profile, cql: String, idempotent| cluster.prepare(profile, &cql, idempotent).await;
        Ok(Self {
            cluster: Arc::clone(cluster),
            get: prepare(
                Profile::SerialRead,
                format!("SELECT holder, fencing, renewal FROM {table} WHERE name = ?"),
                true,
            )
            .await?,
            insert: prepare(
                Profile::Lwt,
                format!(
                    "INSERT INTO {table} (name, holder, fencing, renewal) VALUES (?, ?, ?, ?) IF NOT EXISTS"
                ),
                false,
            )
            .await?,
            update: prepare(
                Profile::Lwt,
                format!(
                    "UPDATE {table} SET holder = ?, fencing = ?, renewal = ? WHERE name = ? \
                     IF holder = ? AND fencing = ? AND renewal = ?"
                ),
                false,
            )
            .await?,
        })
    }

    async fn read(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        let result = self.cluster.execute(&self.get, (name,)).await?;
        let row: Option<(Uuid, i64, i64)> = rows::maybe_first(WHAT, result)?;
        Ok(row.map(|(holder, token, renewal)| Lease {
            holder: HolderId(holder.into_bytes()),
            token: FencingToken(token.cast_unsigned()),
            renewal: renewal.cast_unsigned(),
        }))
    }

    async fn send(
        &self,
        name: &str,
        lease: Lease,
        expected: Option<Lease>,
    ) -> Result<lwt::Answer, StoreError> {
        let (holder, token, renewal) = columns(lease);
        let result = match expected.map(columns) {
            None => self.cluster.execute(&self.insert, (name, holder, token, renewal)).await?,
            Some((old_holder, old_token, old_renewal)) => {
                let values = (holder, token, renewal, name, old_holder, old_token, old_renewal);
                self.cluster.execute(&self.update, values).await?
            }
        };
        lwt::answer(WHAT, result)
    }
}

#[async_trait]
impl Leases for CqlLeases {
    async fn get(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        self.cluster.metrics.measure(Operation::LeaseGet, self.read(name)).await
    }

    async fn put(&self, name: &str, lease: Lease, expected: Option<Lease>) -> Result<Cas, StoreError> {
        let look = || async {
            Ok(match self.read(name).await? {
                Some(standing) if standing == lease => Found::Mine,
                standing if standing == expected => Found::Untouched,
                // If it was stored and taken over since, the caller does not hold it either.
                _ => Found::Other,
            })
        };
        let put = lwt::settle(|| self.send(name, lease, expected), look);
        self.cluster.metrics.measure(Operation::LeasePut, put).await
    }
}

fn columns(lease: Lease) -> (Uuid, i64, i64) {
    (Uuid::from_bytes(lease.holder.0), lease.token.0.cast_signed(), lease.renewal.cast_signed())
}
