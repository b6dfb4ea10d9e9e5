//! One session with the database: how statements are prepared, bounded, sent, and how their errors are told.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use scylla::client::PoolSize;
use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::{DefaultRetryPolicy, FallthroughRetryPolicy};
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::batch::BatchValues;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::unprepared::Statement;
use scylla::statement::{Consistency, SerialConsistency};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::config::{Config, Keyspaces};
use super::driver_metrics::DriverMetrics;
use super::metrics::Metrics;
use super::{failure, tls};
use crate::{OpenError, StoreError};

/// Which database it is: they differ in their DDL, not in the statements used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    Scylla,
    Cassandra,
}

/// How a statement is executed. All waits are far below the 20 s after which a write is no longer acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// Plain writes.
    Write,
    /// Plain reads.
    Read,
    /// Conditional writes. Never repeated by the driver: whoever sent one reads what became of it, with `SerialRead`.
    Lwt,
    /// Reads that see, and settle, conditional writes whose outcome was not known.
    SerialRead,
}

const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const LWT_TIMEOUT: Duration = Duration::from_secs(3);
/// When another node is asked the same. Ten times what a node under load takes, so that it helps when a node stands
/// still and doubles no load; for writes later, because a slow disk is no better for being written to twice.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(100);
const WRITE_AGAIN_AFTER: Duration = Duration::from_millis(500);

pub(super) struct Cluster {
    pub(super) session: Arc<Session>,
    pub(super) keyspaces: Keyspaces,
    pub(super) flavour: Flavour,
    pub(super) metrics: Metrics,
    pub(super) rows_per_insert_max: usize,
    profiles: Profiles,
    /// The driver has no admission control, and databases answer overload late.
    in_flight: Arc<Semaphore>,
    in_flight_max: usize,
}

impl Cluster {
    /// Reaches the cluster; whether it has our schema is not looked at.
    pub(super) async fn connect(config: &Config) -> Result<Self, OpenError> {
        config.check()?;
        let profiles = Profiles::new();
        let mut builder = SessionBuilder::new()
            .known_nodes(&config.contact_points)
            .default_execution_profile_handle(profiles.write.clone())
            .connection_timeout(Duration::from_secs(3))
            .pool_size(PoolSize::PerHost(config.connections_per_host))
            // Metadata of our own keyspaces is what routing needs.
            .keyspaces_to_fetch({
                let Keyspaces { identity, mailbox } = config.keyspaces();
                [identity, mailbox]
            });
        builder = match (&config.datacenter, &config.rack) {
            (Some(datacenter), Some(rack)) => {
                builder.prefer_datacenter_and_rack(datacenter.clone(), rack.clone())
            }
            (Some(datacenter), None) => builder.prefer_datacenter(datacenter.clone()),
            (None, _) => builder,
        };
        if let (Some(username), Some(file)) = (&config.username, &config.password_file) {
            let password = std::fs::read_to_string(file)
                .map_err(|error| OpenError::File { path: file.clone(), source: error.into() })?;
            builder = builder.user(username, password.trim_end());
        }
        if let Some(tls) = &config.tls {
            builder = builder.tls_context(Some(tls::client_config(tls)?));
        }
        let session = builder.build().await.map_err(|error| failure::connect(config, error))?;
        let state = session.get_cluster_state();
        let nodes = state.get_nodes_info();
        let is_scylla = nodes.iter().any(|node| node.sharder().is_some());
        let in_flight_max = config.requests_in_flight_per_node_max.get().saturating_mul(nodes.len().max(1));
        let in_flight_max = in_flight_max.min(Semaphore::MAX_PERMITS);
        Ok(Self {
            session: Arc::new(session),
            keyspaces: config.keyspaces(),
            flavour: if is_scylla { Flavour::Scylla } else { Flavour::Cassandra },
            metrics: Metrics::new()?,
            rows_per_insert_max: config.rows_per_insert_max.get().into(),
            profiles,
            in_flight: Arc::new(Semaphore::new(in_flight_max)),
            in_flight_max,
        })
    }

    /// The last act of opening, so that opening can be tried again with the same registry.
    pub(super) fn register_metrics(&self, registry: &Registry) -> Result<(), OpenError> {
        let in_flight = Arc::clone(&self.in_flight);
        let driver = DriverMetrics::new(self.session.get_metrics(), in_flight, self.in_flight_max)?;
        registry.register(Box::new(driver))?;
        Ok(self.metrics.register(registry)?)
    }

    /// `idempotent`: the driver may send it twice.
    pub(super) async fn prepare(
        &self,
        profile: Profile,
        cql: &str,
        idempotent: bool,
    ) -> Result<PreparedStatement, OpenError> {
        let mut statement = Statement::new(cql);
        statement.set_is_idempotent(idempotent);
        statement.set_execution_profile_handle(Some(self.profiles.get(profile)));
        self.session.prepare(statement).await.map_err(|error| failure::prepare(cql, error))
    }

    /// For results that fit into one answer: writes, and reads of few rows.
    pub(super) async fn execute(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, StoreError> {
        let _permit = self.permit(statement).await?;
        self.session.execute_unpaged(statement, values).await.map_err(failure::unavailable)
    }

    /// A page may be empty and not be the last.
    pub(super) async fn execute_page(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        state: PagingState,
    ) -> Result<(QueryResult, PagingStateResponse), StoreError> {
        let _permit = self.permit(statement).await?;
        self.session.execute_single_page(statement, values, state).await.map_err(failure::unavailable)
    }

    /// An empty batch of plain idempotent writes. To one partition, all or none of them are applied.
    pub(super) fn batch(&self) -> Batch {
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        batch.set_execution_profile_handle(Some(self.profiles.get(Profile::Write)));
        batch
    }

    /// An empty batch of conditional writes to one partition.
    pub(super) fn lwt_batch(&self) -> Batch {
        let mut batch = Batch::new(BatchType::Logged);
        batch.set_execution_profile_handle(Some(self.profiles.get(Profile::Lwt)));
        batch
    }

    pub(super) async fn execute_batch(
        &self,
        batch: &Batch,
        values: impl BatchValues,
    ) -> Result<QueryResult, StoreError> {
        let _permit = self.wait_for_place(REQUEST_TIMEOUT).await?;
        self.session.batch(batch, values).await.map_err(failure::unavailable)
    }

    async fn permit(&self, statement: &PreparedStatement) -> Result<SemaphorePermit<'_>, StoreError> {
        let profile = statement.get_execution_profile_handle().map(|handle| handle.to_profile());
        let timeout = profile.and_then(|profile| profile.get_request_timeout());
        self.wait_for_place(timeout.unwrap_or(REQUEST_TIMEOUT)).await
    }

    async fn wait_for_place(&self, at_most: Duration) -> Result<SemaphorePermit<'_>, StoreError> {
        if let Ok(permit) = self.in_flight.try_acquire() {
            return Ok(permit);
        }
        match tokio::time::timeout(at_most, self.in_flight.acquire()).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(failure::unavailable(failure::Busy)),
        }
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("keyspaces", &self.keyspaces)
            .field("flavour", &self.flavour)
            .finish_non_exhaustive()
    }
}

struct Profiles {
    write: ExecutionProfileHandle,
    read: ExecutionProfileHandle,
    lwt: ExecutionProfileHandle,
    serial_read: ExecutionProfileHandle,
}

impl Profiles {
    fn new() -> Self {
        let again_after = |retry_interval| {
            Some(Arc::new(SimpleSpeculativeExecutionPolicy { max_retry_count: 1, retry_interval }) as Arc<_>)
        };
        let base = ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .serial_consistency(Some(SerialConsistency::LocalSerial))
            .load_balancing_policy(DefaultPolicy::builder().token_aware(true).build())
            .retry_policy(Arc::new(DefaultRetryPolicy::new()));
        let profile = |timeout| base.clone().request_timeout(Some(timeout));
        Self {
            write: profile(REQUEST_TIMEOUT)
                .speculative_execution_policy(again_after(WRITE_AGAIN_AFTER))
                .build()
                .into_handle_with_label("write".to_owned()),
            read: profile(REQUEST_TIMEOUT)
                .speculative_execution_policy(again_after(READ_AGAIN_AFTER))
                .build()
                .into_handle_with_label("read".to_owned()),
            lwt: profile(LWT_TIMEOUT)
                .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
                .build()
                .into_handle_with_label("lwt".to_owned()),
            serial_read: profile(LWT_TIMEOUT)
                .consistency(Consistency::LocalSerial)
                .build()
                .into_handle_with_label("serial_read".to_owned()),
        }
    }

    fn get(&self, profile: Profile) -> ExecutionProfileHandle {
        match profile {
            Profile::Write => &self.write,
            Profile::Read => &self.read,
            Profile::Lwt => &self.lwt,
            Profile::SerialRead => &self.serial_read,
        }
        .clone()
    }
}
