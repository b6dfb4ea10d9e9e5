//! Where the store, the bus and the secrets are.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use spillway_bus::nats::{JetStreamWorkConfig, NatsConfig};
use spillway_rpc::BusServerConfig;
use spillway_store::{cql, embedded};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    pub kind: StoreKind,
    pub embedded: embedded::Config,
    pub cql: cql::Config,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// In the data folder of this process, which has it for itself.
    #[default]
    Embedded,
    /// ScyllaDB or Apache Cassandra 5.
    Cql,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    pub kind: BusKind,
    pub nats: NatsConfig,
    /// Limits of each role's service on the bus.
    pub calls: BusServerConfig,
    /// The queue of codes that wait for a registration worker.
    pub work: JetStreamWorkConfig,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusKind {
    /// All roles are in this process.
    #[default]
    Local,
    /// Roles are in many processes, which reach each other over NATS.
    Nats,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsConfig {
    /// The file that all processes of a fleet share. Without it: `secrets.toml` in `node.data`, made on the first
    /// start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}
