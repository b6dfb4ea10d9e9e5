//! The schema, its versions, and how a cluster is brought to the one that this process needs.
//!
//! A step is a list of statements that do no harm when they are repeated (`IF NOT EXISTS`), and a row in
//! `schema_version` that is written after them. So an apply that was interrupted, or that ran in several processes at
//! once, is finished by any later one. All statements go to the node with the lowest id: Cassandra gives a table that
//! two nodes create at once two identities.
//!
//! A step that was released is never changed; a change is a new step. The identity keyspace holds the versions of both.

mod identity;
mod mailbox;

use scylla::client::session::Session;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::unprepared::Statement;
use scylla::statement::{Consistency, SerialConsistency};
use scylla::value::CqlTimestamp;
use spillway_types::Timestamp;
use std::time::Duration;

use super::cluster::{Cluster, Flavour};
use super::config::{Config, Keyspaces};
use super::failure;
use crate::OpenError;

/// The version that this build needs: the number of the last step.
pub const VERSION: u32 = STEPS.len() as u32;

/// Cassandra answers a change of the schema after all reachable nodes have it.
const DDL_TIMEOUT: Duration = Duration::from_secs(60);

struct Step {
    what: &'static str,
    statements: fn(&Target) -> Vec<String>,
}

/// In order: step 1 is the first.
const STEPS: &[Step] = &[
    Step { what: "keyspaces and the table of versions", statements: foundation },
    Step { what: "accounts, verifications, directory and leases", statements: identity::tables },
    Step { what: "mailboxes", statements: mailbox::tables },
    Step { what: "the log of the directory", statements: identity::directory_log },
];

/// What statements are written for.
struct Target {
    flavour: Flavour,
    keyspaces: Keyspaces,
    replication_factor: u8,
}

/// A step with its statements, as they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    pub number: u32,
    pub what: &'static str,
    pub statements: Vec<String>,
}

/// What is to do, or was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub flavour: Flavour,
    /// The version found; `None` when there was no schema.
    pub found: Option<u32>,
    /// Empty when nothing is to do.
    pub steps: Vec<PlannedStep>,
}

/// A step that the cluster has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedStep {
    pub number: u32,
    /// As the Spillway that applied it called it.
    pub what: String,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub flavour: Flavour,
    /// In order; empty when there is no schema.
    pub applied: Vec<AppliedStep>,
    /// The version that this build needs.
    pub needed: u32,
}

impl Status {
    /// The version of the cluster's schema; `None` when there is none.
    pub fn found(&self) -> Option<u32> {
        self.applied.last().map(|step| step.number)
    }
}

/// What [`apply`] would do. A newer schema than this build's is no error here: nothing is to do.
pub async fn plan(config: &Config) -> Result<Plan, OpenError> {
    let cluster = Cluster::connect(config).await?;
    let applied = applied(&cluster).await?;
    Ok(steps_after(&target(&cluster, config), applied.last().map(|step| step.number)))
}

/// Brings the schema to [`VERSION`] and answers with what was done. May run in several processes at once, and again.
///
/// # Errors
///
/// [`OpenError::NewerSchema`] when the cluster's is newer: a schema never goes back.
pub async fn apply(config: &Config) -> Result<Plan, OpenError> {
    let cluster = Cluster::connect(config).await?;
    let found = applied(&cluster).await?.last().map(|step| step.number);
    refuse_newer(&cluster, found)?;
    let plan = steps_after(&target(&cluster, config), found);
    for step in &plan.steps {
        for statement in &step.statements {
            change(&cluster.session, step.number, statement).await?;
        }
        record(&cluster, step).await?;
        tracing::info!(step = step.number, what = step.what, "applied a step of the schema");
    }
    Ok(plan)
}

pub async fn status(config: &Config) -> Result<Status, OpenError> {
    let cluster = Cluster::connect(config).await?;
    Ok(Status { flavour: cluster.flavour, applied: applied(&cluster).await?, needed: VERSION })
}

/// Whether the cluster has exactly the schema that this build needs.
pub(super) async fn check(cluster: &Cluster) -> Result<(), OpenError> {
    let found = applied(cluster).await?.last().map(|step| step.number);
    refuse_newer(cluster, found)?;
    match found {
        None => Err(OpenError::NoSchema { keyspace: cluster.keyspaces.identity.clone() }),
        Some(found) if found < VERSION => {
            let keyspace = cluster.keyspaces.identity.clone();
            Err(OpenError::OlderSchema { keyspace, found, needed: VERSION })
        }
        Some(_) => Ok(()),
    }
}

fn refuse_newer(cluster: &Cluster, found: Option<u32>) -> Result<(), OpenError> {
    match found {
        Some(found) if found > VERSION => {
            let keyspace = cluster.keyspaces.identity.clone();
            Err(OpenError::NewerSchema { keyspace, found, supported: VERSION })
        }
        _ => Ok(()),
    }
}

fn target(cluster: &Cluster, config: &Config) -> Target {
    Target {
        flavour: cluster.flavour,
        keyspaces: cluster.keyspaces.clone(),
        replication_factor: config.replication_factor.get(),
    }
}

fn steps_after(target: &Target, found: Option<u32>) -> Plan {
    let steps = (1..)
        .zip(STEPS)
        .skip_while(|(number, _)| Some(*number) <= found)
        .map(|(number, step)| PlannedStep { number, what: step.what, statements: (step.statements)(target) })
        .collect();
    Plan { flavour: target.flavour, found, steps }
}

/// `replication_factor` spreads over every datacentre, so that none need be named.
fn foundation(target: &Target) -> Vec<String> {
    let factor = target.replication_factor;
    let keyspace = |name: &str| {
        format!(
            "CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', 'replication_factor': {factor}}}"
        )
    };
    let Keyspaces { identity, mailbox } = &target.keyspaces;
    let versions = format!(
        "CREATE TABLE IF NOT EXISTS {identity}.schema_version \
         (name text, step int, what text, applied_at timestamp, PRIMARY KEY (name, step))"
    );
    vec![keyspace(identity), keyspace(mailbox), versions]
}

/// The steps that the cluster has, in order.
async fn applied(cluster: &Cluster) -> Result<Vec<AppliedStep>, OpenError> {
    let identity = &cluster.keyspaces.identity;
    let table = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'schema_version'";
    let tables = query(&cluster.session, statement(table), (identity,)).await?;
    if tables.into_rows_result().is_ok_and(|rows| rows.rows_num() == 0) {
        return Ok(Vec::new());
    }
    let mut steps = statement(&format!(
        "SELECT step, what, applied_at FROM {identity}.schema_version WHERE name = 'spillway'"
    ));
    // Sees, and settles, a step whose recording was not answered.
    steps.set_consistency(Consistency::LocalSerial);
    let rows = query(&cluster.session, steps, ())
        .await?
        .into_rows_result()
        .map_err(|error| OpenError::NoAnswer { source: error.into() })?;
    rows.rows::<(i32, String, CqlTimestamp)>()
        .map_err(|error| OpenError::NoAnswer { source: error.into() })?
        .map(|row| {
            let (number, what, at) = row.map_err(|error| OpenError::NoAnswer { source: error.into() })?;
            let (number, at) = (u32::try_from(number).unwrap_or(0), u64::try_from(at.0).unwrap_or(0));
            Ok(AppliedStep { number, what, at: Timestamp::from_millis(at) })
        })
        .collect()
}

/// Records a step. Whoever comes second changes nothing.
async fn record(cluster: &Cluster, step: &PlannedStep) -> Result<(), OpenError> {
    let mut insert = statement(&format!(
        "INSERT INTO {}.schema_version (name, step, what, applied_at) \
         VALUES ('spillway', ?, ?, toTimestamp(now())) IF NOT EXISTS",
        cluster.keyspaces.identity
    ));
    insert.set_serial_consistency(Some(SerialConsistency::LocalSerial));
    let number = i32::try_from(step.number).expect("there are few steps");
    query(&cluster.session, insert, (number, step.what)).await.map(drop)
}

/// Sends one statement to the node with the lowest id that is reachable, and waits until all nodes agree.
async fn change(session: &Session, step: u32, cql: &str) -> Result<(), OpenError> {
    let state = session.get_cluster_state();
    let first =
        state.get_nodes_info().iter().filter(|node| node.is_connected()).min_by_key(|node| node.host_id);
    let mut statement = statement(cql);
    if let Some(first) = first {
        let to = NodeIdentifier::HostId(first.host_id);
        statement.set_load_balancing_policy(Some(SingleTargetLoadBalancingPolicy::new(to, None)));
    }
    session.query_unpaged(statement, ()).await.map_err(|error| OpenError::SchemaStep {
        step,
        cql: cql.to_owned(),
        source: error.into(),
    })?;
    Ok(())
}

/// Everything here may be repeated.
fn statement(cql: &str) -> Statement {
    let mut statement = Statement::new(cql);
    statement.set_is_idempotent(true);
    statement.set_request_timeout(Some(DDL_TIMEOUT));
    statement
}

async fn query(
    session: &Session,
    statement: Statement,
    values: impl scylla::serialize::row::SerializeRow,
) -> Result<scylla::response::query_result::QueryResult, OpenError> {
    session.query_unpaged(statement, values).await.map_err(failure::no_answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(flavour: Flavour) -> Target {
        let keyspaces = Config::default().keyspaces();
        Target { flavour, keyspaces, replication_factor: 3 }
    }

    fn statements(flavour: Flavour) -> Vec<String> {
        steps_after(&target(flavour), None).steps.into_iter().flat_map(|step| step.statements).collect()
    }

    #[test]
    fn every_statement_may_be_repeated() {
        for flavour in [Flavour::Cassandra, Flavour::Scylla] {
            for statement in statements(flavour) {
                assert!(statement.contains(" IF NOT EXISTS "), "{statement}");
                assert!(!statement.contains(';'), "{statement}");
            }
        }
    }

    #[test]
    fn a_plan_begins_after_the_version_found() {
        let target = target(Flavour::Cassandra);
        let numbers =
            |found| steps_after(&target, found).steps.iter().map(|step| step.number).collect::<Vec<_>>();
        assert_eq!(numbers(None), (1..=VERSION).collect::<Vec<_>>());
        assert_eq!(numbers(Some(1)), (2..=VERSION).collect::<Vec<_>>());
        assert!(numbers(Some(VERSION)).is_empty());
        assert!(numbers(Some(VERSION + 1)).is_empty());
    }

    #[test]
    fn cassandra_gets_nothing_that_only_scylla_knows() {
        for statement in statements(Flavour::Cassandra) {
            for option in ["tombstone_gc", "per_partition_rate_limit", "IncrementalCompaction", "tablets"] {
                assert!(!statement.contains(option), "{statement}");
            }
        }
    }
}
