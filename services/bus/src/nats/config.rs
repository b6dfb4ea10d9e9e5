use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where NATS is, and who we are to it. `[nats]` in the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsConfig {
    /// The cluster for requests and durable work: `nats://host:4222` or `tls://host:4222`, several of one cluster.
    pub servers: Vec<String>,
    /// Clusters for hints, by hash of the mailbox; each a list like `servers`. Empty: `servers` are the only cell.
    /// All processes of a fleet must be given the same list in the same order.
    pub cells: Vec<Vec<String>>,
    /// In front of all subjects, and of the names of streams, so that fleets can share a NATS account. Letters,
    /// digits, `-` and `_`; empty for none.
    pub prefix: String,
    /// A credentials file (JWT and seed), as `nsc` writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// A file with an nkey seed (`SU...`). Not together with `credentials`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<PathBuf>,
    /// Certificates (PEM) that the servers' certificates must lead to. Without it: the well-known ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_roots: Option<PathBuf>,
    /// Certificate chain and key (PEM) that we show to the servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
}
