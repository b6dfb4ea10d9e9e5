use std::num::{NonZeroU8, NonZeroUsize};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How to reach a ScyllaDB or Apache Cassandra cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `host:port` of some nodes; the others are learnt from them. The port may be left out: 9042.
    pub contact_points: Vec<String>,
    /// `spillway` names the keyspaces `spillway_identity` and `spillway_mailbox`. Letters, digits and underscores,
    /// at most 39 of them.
    pub keyspace_prefix: String,
    /// The datacentre to use. Quorums are of this datacentre, so set it wherever there is more than one.
    pub datacenter: Option<String>,
    /// The rack, or availability zone, whose nodes are asked first. Needs `datacenter`.
    pub rack: Option<String>,
    /// Needs `password_file`.
    pub username: Option<String>,
    /// A file that holds the password and nothing else; white space at its end is ignored.
    pub password_file: Option<PathBuf>,
    /// Without it, connections are not encrypted.
    pub tls: Option<Tls>,
    /// Copies of each row in each datacentre. Used once, when `spillway schema apply` makes the keyspaces.
    pub replication_factor: NonZeroU8,
    /// Requests under way at a time, for each node that was in the cluster at the start. The next ones wait for a
    /// place as long as a request may take, and then fail.
    pub requests_in_flight_per_node_max: NonZeroUsize,
    /// Messages that go to the database in one request, when many are due for partitions with the same replicas. More
    /// than 10 make Cassandra warn in its log (`unlogged_batch_across_partitions_warn_threshold`). At most 64; 1: each goes by
    /// itself.
    pub rows_per_insert_max: NonZeroU8,
    /// To each host; ScyllaDB needs at least one for each shard and gets as many as that.
    pub connections_per_host: NonZeroUsize,
}

/// Certificates, in PEM files. The names in the nodes' certificates must include their addresses, because nodes are
/// known by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Who may have signed the nodes' certificates. Without it, the public authorities.
    pub roots: Option<PathBuf>,
    /// What this process shows when nodes ask for a certificate. Needs `private_key`.
    pub certificate: Option<PathBuf>,
    /// Needs `certificate`.
    pub private_key: Option<PathBuf>,
}

/// Why a configuration cannot be used. The text names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("contact_points is empty; name at least one node")]
    NoContactPoints,
    #[error("keyspace_prefix must be 1 to 39 of a-z, 0-9 and _, and begin with a letter; {0:?} is not")]
    KeyspacePrefix(String),
    #[error("rows_per_insert_max is {0}; set it to 1 to {ROWS_PER_INSERT_MAX}")]
    RowsPerInsert(u8),
    #[error("{key} is set, so {needs} must be set too")]
    Incomplete { key: &'static str, needs: &'static str },
}

/// Of a request that blocks a thread of the node while it is taken apart.
const ROWS_PER_INSERT_MAX: u8 = 64;
/// CQL allows 48 bytes in the name of a keyspace; the longest of our endings is `_identity`.
const PREFIX_LEN_MAX: usize = 48 - "_identity".len();

impl Default for Config {
    fn default() -> Self {
        Self {
            contact_points: vec!["127.0.0.1:9042".to_owned()],
            keyspace_prefix: "spillway".to_owned(),
            datacenter: None,
            rack: None,
            username: None,
            password_file: None,
            tls: None,
            replication_factor: const { NonZeroU8::new(3).expect("is not zero") },
            requests_in_flight_per_node_max: const { NonZeroUsize::new(256).expect("is not zero") },
            rows_per_insert_max: const { NonZeroU8::new(8).expect("is not zero") },
            // One is a bottleneck in the driver and in the node, whose event loops each serve whole connections.
            connections_per_host: const { NonZeroUsize::new(2).expect("is not zero") },
        }
    }
}

impl Config {
    /// # Errors
    ///
    /// When a value cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.contact_points.iter().all(String::is_empty) {
            return Err(ConfigError::NoContactPoints);
        }
        let prefix = &self.keyspace_prefix;
        // Lower case only: CQL folds names that are not quoted.
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !prefix.starts_with(|c: char| c.is_ascii_lowercase())
            || prefix.len() > PREFIX_LEN_MAX
            || !prefix.chars().all(is_allowed)
        {
            return Err(ConfigError::KeyspacePrefix(prefix.clone()));
        }
        if self.rows_per_insert_max.get() > ROWS_PER_INSERT_MAX {
            return Err(ConfigError::RowsPerInsert(self.rows_per_insert_max.get()));
        }
        let tls = self.tls.as_ref();
        let certificate = tls.is_some_and(|tls| tls.certificate.is_some());
        let private_key = tls.is_some_and(|tls| tls.private_key.is_some());
        for (key, is_set, needs, is_there) in [
            ("rack", self.rack.is_some(), "datacenter", self.datacenter.is_some()),
            ("username", self.username.is_some(), "password_file", self.password_file.is_some()),
            ("password_file", self.password_file.is_some(), "username", self.username.is_some()),
            ("tls.certificate", certificate, "tls.private_key", private_key),
            ("tls.private_key", private_key, "tls.certificate", certificate),
        ] {
            if is_set && !is_there {
                return Err(ConfigError::Incomplete { key, needs });
            }
        }
        Ok(())
    }

    pub(super) fn keyspaces(&self) -> Keyspaces {
        Keyspaces {
            identity: format!("{}_identity", self.keyspace_prefix),
            mailbox: format!("{}_mailbox", self.keyspace_prefix),
        }
    }
}

/// Tables that are written by LWT are kept apart from those that are not, so that a cluster whose tablets cannot do
/// LWT (ScyllaDB before 2025.4) may have one keyspace without tablets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keyspaces {
    pub(super) identity: String,
    pub(super) mailbox: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_works() {
        assert_eq!(Config::default().check(), Ok(()));
        assert_eq!(Config::default().keyspaces().identity, "spillway_identity");
    }

    #[test]
    fn names_that_cql_would_fold_or_refuse_are_refused_here() {
        for prefix in ["", "Spillway", "1st", "_a", "a-b", "a;drop", "a\"", &"a".repeat(40)] {
            let config = Config { keyspace_prefix: prefix.to_owned(), ..Config::default() };
            assert_eq!(config.check(), Err(ConfigError::KeyspacePrefix(prefix.to_owned())));
        }
        let longest = Config { keyspace_prefix: "a".repeat(39), ..Config::default() };
        assert_eq!(longest.check(), Ok(()));
    }

    #[test]
    fn a_request_for_everything_is_refused() {
        let rows = |rows| Config { rows_per_insert_max: NonZeroU8::new(rows).unwrap(), ..Config::default() };
        assert_eq!((rows(1).check(), rows(64).check()), (Ok(()), Ok(())));
        assert_eq!(rows(65).check(), Err(ConfigError::RowsPerInsert(65)));
    }

    #[test]
    fn what_needs_another_key_names_it() {
        let incomplete = |key, needs| Err(ConfigError::Incomplete { key, needs });
        let rack = Config { rack: Some("a".to_owned()), ..Config::default() };
        assert_eq!(rack.check(), incomplete("rack", "datacenter"));
        let user = Config { username: Some("spillway".to_owned()), ..Config::default() };
        assert_eq!(user.check(), incomplete("username", "password_file"));
        let tls = Tls { certificate: Some(PathBuf::from("a.pem")), ..Tls::default() };
        let tls = Config { tls: Some(tls), ..Config::default() };
        assert_eq!(tls.check(), incomplete("tls.certificate", "tls.private_key"));
    }
}
