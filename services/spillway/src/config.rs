//! One file of settings: each crate owns its section, this file only names them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spillway_admission::QuotaConfig;
use spillway_chassis::AdminConfig;
use spillway_chassis::telemetry::TelemetryConfig;
use spillway_registration::provider::{HttpConfig, SandboxConfig};
use spillway_rpc::{ClientConfig, ServerConfig, TlsConfig};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub node: NodeConfig,
    pub listen: ListenConfig,
    /// TLS of the public port. Without it, put a proxy that speaks TLS in front.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    pub admin: AdminConfig,
    pub telemetry: TelemetryConfig,
    /// The public port and its limits.
    pub rpc: ServerConfig,
    /// Calls between roles.
    pub calls: ClientConfig,
    pub store: spillway_store::embedded::Config,
    pub gateway: spillway_gateway::Config,
    pub registration: spillway_registration::Config,
    pub mailbox: spillway_mailbox::Config,
    pub directory: spillway_directory::Config,
    /// Who delivers codes.
    pub provider: ProviderConfig,
    /// Changes to the table that `spillway --print-limits` prints, by name.
    pub quotas: QuotaConfig,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Folder of the store and of the secrets. Made if it is missing.
    pub data: PathBuf,
    /// After health has turned to not serving: how long balancers get to notice before connections are told to go.
    /// 0 where there is no balancer; a little more than its probe interval where there is one.
    #[serde(with = "humantime_serde")]
    pub drain_notice: Duration,
    /// The longest that calls in flight may take to end in a drain.
    #[serde(with = "humantime_serde")]
    pub drain_calls: Duration,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            data: PathBuf::from("spillway-data"),
            drain_notice: Duration::ZERO,
            drain_calls: Duration::from_secs(20),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// The public gRPC API.
    pub public: SocketAddr,
    /// Where the sandbox provider's codes can be read: for tests and load tools, on a loopback address only. Opened
    /// only while the sandbox is the provider.
    pub sandbox_codes: SocketAddr,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            public: SocketAddr::from(([127, 0, 0, 1], 7700)),
            sandbox_codes: SocketAddr::from(([127, 0, 0, 1], 7702)),
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderConfig {
    pub kind: ProviderKind,
    pub sandbox: SandboxConfig,
    pub http: HttpConfig,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Delivers to nobody; codes can be read at `listen.sandbox_codes`.
    #[default]
    Sandbox,
    /// A webhook.
    Http,
}

/// Settings that are well formed and cannot work together.
#[derive(Debug, thiserror::Error)]
pub enum ConfigProblem {
    #[error("listen.sandbox_codes is {0}: codes may be read on a loopback address only")]
    CodesExposed(SocketAddr),
    #[error("the [quotas] section cannot be used")]
    Quotas(#[from] spillway_admission::QuotaConfigError),
    #[error("the [mailbox] section cannot be used")]
    Mailbox(#[from] spillway_mailbox::ConfigError),
    #[error("the [directory] section cannot be used")]
    Directory(#[from] spillway_directory::ConfigError),
    #[error("the [gateway] section cannot be used")]
    Gateway(#[from] spillway_gateway::ConfigError),
}

impl Config {
    /// Finds what no single value shows.
    ///
    /// # Errors
    ///
    /// The first problem.
    pub fn check(&self) -> Result<(), ConfigProblem> {
        if !self.listen.sandbox_codes.ip().is_loopback() {
            return Err(ConfigProblem::CodesExposed(self.listen.sandbox_codes));
        }
        self.quotas.validate()?;
        self.mailbox.check()?;
        self.directory.check()?;
        self.gateway.check()?;
        Ok(())
    }

    pub(crate) fn store_folder(&self) -> PathBuf {
        self.node.data.join("store")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use spillway_chassis::config::{load, to_toml};

    use super::*;

    fn read(file: &Path) -> Config {
        load(Some(file), std::iter::empty(), "SPILLWAY").unwrap()
    }

    #[test]
    fn the_defaults_can_be_used() {
        Config::default().check().unwrap();
    }

    #[test]
    fn the_example_can_be_used() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/spillway.toml");
        let config = read(&example);
        config.check().unwrap();
        assert_eq!(config.provider.kind, ProviderKind::Http);
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("printed.toml");
        let printed = to_toml(&Config::default());
        std::fs::write(&file, &printed).unwrap();
        assert_eq!(to_toml(&read(&file)), printed);
    }

    #[test]
    fn codes_stay_on_this_machine() {
        let mut config = Config::default();
        config.listen.sandbox_codes = SocketAddr::from(([0, 0, 0, 0], 7702));
        assert!(matches!(config.check(), Err(ConfigProblem::CodesExposed(_))));
    }
}
