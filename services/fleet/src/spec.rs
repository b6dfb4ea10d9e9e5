//! What a fleet consists of.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Table;

use crate::cassandra::CassandraSpec;
use crate::nats::NatsSpec;
use crate::roles::Role;

/// What to start. Two of the same are the same fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetSpec {
    /// The `spillway` executable; not run when there are no processes of it.
    pub binary: PathBuf,
    /// The folder of servers, see [`Cache`](crate::Cache).
    pub cache: PathBuf,
    pub gateways: u8,
    pub mailboxes: u8,
    pub registrations: u8,
    pub directories: u8,
    pub controls: u8,
    pub nats: BackEnd<NatsSpec>,
    pub cassandra: BackEnd<CassandraSpec>,
    /// Copies of each row. None: one on each node, at most three.
    pub replication: Option<u8>,
    /// Where ports are looked for. None: free ones from a random one on.
    pub first_port: Option<u16>,
    /// What stands before the name of each log, such as `target/test-logs/exodus-`. None: in the fleet's folder.
    pub log_prefix: Option<PathBuf>,
    /// Settings of every process of Spillway, over what the fleet sets.
    pub settings: Table,
    /// Settings of the processes of a role, over those.
    pub role_settings: BTreeMap<Role, Table>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackEnd<S> {
    None,
    /// Started and stopped with the fleet.
    Own(S),
    /// Somebody else's, at these addresses.
    Existing(Vec<SocketAddr>),
}

impl FleetSpec {
    /// Nothing but servers, to which a caller adds.
    pub fn back_ends(cache: &Path, nats: BackEnd<NatsSpec>, cassandra: BackEnd<CassandraSpec>) -> Self {
        Self {
            binary: PathBuf::new(),
            cache: cache.to_owned(),
            gateways: 0,
            mailboxes: 0,
            registrations: 0,
            directories: 0,
            controls: 0,
            nats,
            cassandra,
            replication: None,
            first_port: None,
            log_prefix: None,
            settings: Table::new(),
            role_settings: BTreeMap::new(),
        }
    }

    /// As many processes of each role over servers of the fleet's own: `nats` and `cassandra` nodes, each 1 or 3.
    pub fn each(binary: &Path, cache: &Path, processes: u8, nats: u8, cassandra: u8) -> Self {
        let nats = BackEnd::Own(NatsSpec { nodes: nats, ..NatsSpec::default() });
        let cassandra = BackEnd::Own(CassandraSpec { nodes: cassandra, ..CassandraSpec::default() });
        Self {
            binary: binary.to_owned(),
            gateways: processes,
            mailboxes: processes,
            registrations: processes,
            directories: processes,
            controls: processes,
            ..Self::back_ends(cache, nats, cassandra)
        }
    }

    pub fn processes(&self, role: Role) -> u8 {
        match role {
            Role::Gateway => self.gateways,
            Role::Mailbox => self.mailboxes,
            Role::Registration => self.registrations,
            Role::Directory => self.directories,
            Role::Control => self.controls,
        }
    }

    pub(crate) fn has_roles(&self) -> bool {
        Role::ALL.iter().any(|role| self.processes(*role) > 0)
    }
}
