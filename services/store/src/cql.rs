//! The store of a fleet: ScyllaDB or Apache Cassandra, through the `scylla` driver.
//!
//! Invariants:
//! - Mailboxes are written by plain idempotent statements with timestamps of their own, so that a write may be sent
//!   twice, late, and by several workers at once. Everything else is written by conditional statements (LWT) in
//!   tables of its own, because the two kinds do not see each other.
//! - A write was answered when a quorum of the replicas in this datacentre had it. Whether it is on their disks then
//!   is the database's setting: `commitlog_sync: batch` or `group`.
//! - Every wait for the database ends within a few seconds, far below the 20 s after which the mailbox role no longer
//!   acknowledges a write.
//! - Opening never changes the schema; [`schema::apply`] does.
//!
//! Deliberately not here: waiting for a cluster that is not there yet ([`OpenError::is_transient`] tells the caller
//! that it makes sense), caches of values, and repair, which is the database's.

mod accounts;
mod cluster;
mod config;
mod directory;
mod driver_metrics;
mod failure;
#[cfg(any(test, feature = "conformance"))]
pub mod floor;
mod keys;
mod leases;
mod lwt;
mod mailboxes;
mod metrics;
mod rows;
pub mod schema;
mod tls;
mod verifications;

use std::sync::Arc;

use prometheus::Registry;
use spillway_types::Clock;

pub use cluster::Flavour;
pub use config::{Config, ConfigError, Tls};
pub use metrics::describe_metrics;

use crate::{OpenError, Store, StoreError};
use cluster::Cluster;

/// A view on the cluster behind a [`Store`]. The connections close when it and all handles of the store are dropped.
#[derive(Clone, Debug)]
pub struct CqlHandle {
    cluster: Arc<Cluster>,
    mailboxes: Arc<mailboxes::CqlMailboxes>,
}

/// Connects, checks the schema's version and prepares all statements. After an error that
/// [is transient](OpenError::is_transient) it may be called again with the same registry.
pub async fn open(
    config: &Config,
    registry: &Registry,
    clock: Arc<dyn Clock>,
) -> Result<(Store, CqlHandle), OpenError> {
    let cluster = Arc::new(Cluster::connect(config).await?);
    schema::check(&cluster).await?;
    let mailboxes = Arc::new(mailboxes::CqlMailboxes::prepare(&cluster, Arc::clone(&clock)).await?);
    let store = Store {
        accounts: Arc::new(accounts::CqlAccounts::prepare(&cluster).await?),
        keys: Arc::new(keys::CqlKeys::prepare(&cluster).await?),
        verifications: Arc::new(
            verifications::CqlVerifications::prepare(&cluster, Arc::clone(&clock)).await?,
        ),
        directory: Arc::new(directory::CqlDirectory::prepare(&cluster, clock).await?),
        leases: Arc::new(leases::CqlLeases::prepare(&cluster).await?),
        mailboxes: Arc::clone(&mailboxes) as Arc<_>,
        writes: cluster.metrics.writes.clone(),
    };
    cluster.register_metrics(registry)?;
    Ok((store, CqlHandle { cluster, mailboxes }))
}

impl CqlHandle {
    pub fn flavour(&self) -> Flavour {
        self.cluster.flavour
    }

    /// Reads a row that is not there, from a quorum. For readiness.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.mailboxes.ping().await
    }
}
