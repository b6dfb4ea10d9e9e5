//! One file of settings: each crate owns its section, this file only names them.

mod backends;
mod overload;
mod roles;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spillway_admission::QuotaConfig;
use spillway_chassis::AdminConfig;
use spillway_chassis::telemetry::TelemetryConfig;
use spillway_registration::provider::{
    HttpConfig, ProviderConfig as ListedProvider, SandboxConfig, SmppConfig, TransportName, TwilioConfig,
};
use spillway_rpc::{ClientConfig, ServerConfig, TlsConfig};

pub use backends::{BusConfig, BusKind, SecretsConfig, StoreConfig, StoreKind};
pub use overload::OverloadConfig;
pub use roles::{Role, Roles};
pub use spillway_registration::provider::ProviderKind;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What this process does; `--roles` overrides it.
    pub roles: Roles,
    pub node: NodeConfig,
    pub secrets: SecretsConfig,
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
    /// Overload control.
    pub admission: OverloadConfig,
    pub store: StoreConfig,
    pub bus: BusConfig,
    pub gateway: spillway_gateway::Config,
    pub registration: spillway_registration::Config,
    pub mailbox: spillway_mailbox::Config,
    pub directory: spillway_directory::Config,
    pub control: spillway_control::Config,
    /// Who delivers codes, when it is only one at no cost; `registration.providers` has room for several.
    pub provider: ProviderConfig,
    /// Changes to the table that `spillway --print-limits` prints, by name.
    pub quotas: QuotaConfig,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// What this process is called in the control role's list and on the bus. Empty: the name of the host.
    pub name: String,
    /// Folder of the embedded store and, unless `secrets.file` says otherwise, of the secrets. Made if it is missing.
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
            name: String::new(),
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
    /// only while the sandbox is the provider, and in a fleet only with `--allow-sandbox-codes`.
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

/// The short form of a list of one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderConfig {
    pub kind: ProviderKind,
    pub sandbox: SandboxConfig,
    pub http: HttpConfig,
    pub twilio: TwilioConfig,
    pub smpp: SmppConfig,
}

/// Settings that are well formed and cannot work together.
#[derive(Debug, thiserror::Error)]
pub enum ConfigProblem {
    #[error("listen.sandbox_codes is {0}: codes may be read on a loopback address only")]
    CodesExposed(SocketAddr),
    #[error(
        "roles is {0}, but with bus.kind = \"local\" all roles are in one process: leave roles out, or set bus.kind = \"nats\""
    )]
    RolesWithoutBus(Roles),
    #[error("roles is empty: name at least one of {}", Roles::default())]
    NoRoles,
    #[error(
        "bus.kind is \"nats\", but bus.nats.servers is empty: name at least one, such as nats://127.0.0.1:4222"
    )]
    NoServers,
    #[error(
        "bus.kind is \"nats\", so other processes need the store too: set store.kind = \"cql\" for the roles {0}"
    )]
    StoreNotShared(Roles),
    #[error(
        "secrets.file is not set: all processes of a fleet need the same secrets; make the file with `spillway secrets new FILE`"
    )]
    SecretsNotShared,
    #[error("the [telemetry.traces] section cannot be used")]
    Traces(#[from] spillway_chassis::traces::TracesError),
    #[error("the [admission] section cannot be used")]
    Admission(#[from] spillway_admission::AdmissionConfigError),
    #[error("the [quotas] section cannot be used")]
    Quotas(#[from] spillway_admission::QuotaConfigError),
    #[error("the [mailbox] section cannot be used")]
    Mailbox(#[from] spillway_mailbox::ConfigError),
    #[error("the [directory] section cannot be used")]
    Directory(#[from] spillway_directory::ConfigError),
    #[error("the [gateway] section cannot be used")]
    Gateway(#[from] spillway_gateway::ConfigError),
    #[error("the [store.cql] section cannot be used")]
    Cql(#[from] spillway_store::cql::ConfigError),
    #[error("the [registration] section cannot be used")]
    Registration(#[from] spillway_registration::ConfigError),
    #[error("the [control] section cannot be used")]
    Control(#[from] spillway_control::ConfigError),
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
        self.check_fleet()?;
        self.telemetry.traces.check()?;
        self.admission.check()?;
        self.quotas.validate()?;
        self.mailbox.check()?;
        self.directory.check()?;
        self.gateway.check()?;
        self.registration.check()?;
        self.control.check()?;
        if self.store.kind == StoreKind::Cql {
            self.store.cql.check()?;
        }
        Ok(())
    }

    /// Who delivers codes: the list, or else the one of the section `[provider]`, named after its kind.
    pub(crate) fn providers(&self) -> Vec<ListedProvider> {
        if !self.registration.providers.is_empty() {
            return self.registration.providers.clone();
        }
        let ProviderConfig { kind, sandbox, http, twilio, smpp } = self.provider.clone();
        let mut listed = ListedProvider { kind, sandbox, http, twilio, smpp, ..ListedProvider::default() };
        let name = match kind {
            ProviderKind::Sandbox => "sandbox",
            ProviderKind::Http => "http",
            ProviderKind::Twilio => "twilio",
            ProviderKind::Smpp => {
                // It makes no calls.
                listed.transports = vec![TransportName::Sms];
                "smpp"
            }
        };
        listed.name = name.to_owned();
        vec![listed]
    }

    /// Other processes do the rest of the work.
    pub fn is_fleet(&self) -> bool {
        self.bus.kind == BusKind::Nats
    }

    fn check_fleet(&self) -> Result<(), ConfigProblem> {
        if self.roles.is_empty() {
            return Err(ConfigProblem::NoRoles);
        }
        if !self.is_fleet() {
            let whole = self.roles == Roles::default();
            return if whole { Ok(()) } else { Err(ConfigProblem::RolesWithoutBus(self.roles.clone())) };
        }
        if self.bus.nats.servers.is_empty() {
            return Err(ConfigProblem::NoServers);
        }
        if self.roles.need_store() && self.store.kind == StoreKind::Embedded {
            return Err(ConfigProblem::StoreNotShared(self.roles.clone()));
        }
        if self.secrets.file.is_none() {
            return Err(ConfigProblem::SecretsNotShared);
        }
        Ok(())
    }

    /// What this process is called.
    pub(crate) fn node_name(&self) -> String {
        match self.node.name.as_str() {
            "" => std::fs::read_to_string("/proc/sys/kernel/hostname")
                .map_or_else(|_| "unnamed".to_owned(), |name| name.trim().to_owned()),
            name => name.to_owned(),
        }
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

    fn written(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("written.toml");
        std::fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn a_list_of_providers_comes_before_the_short_form() {
        let short = written("[provider]\nkind = 'sandbox'\n[provider.sandbox]\nloss = 0.5");
        let [only] = &short.providers()[..] else { panic!("{:?}", short.providers()) };
        assert_eq!((only.name.as_str(), only.sandbox.loss), ("sandbox", 0.5));

        let list = written(
            "[provider]\nkind = 'http'\n[registration.budget]\nday = 100_000_000\n\
             [[registration.providers]]\nname = 'a'\nkind = 'sandbox'\ncost = { default = 50_000, 49 = 75_000 }\n\
             [[registration.providers]]\nname = 'b'\ntransports = ['sms']\ncountries = [49, 1]\nrate_per_second = 50",
        );
        list.check().unwrap();
        let names: Vec<String> = list.providers().into_iter().map(|provider| provider.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(to_toml(&written(&to_toml(&list))), to_toml(&list));
    }

    /// A setting that the example shows in a comment, and not the words around it.
    fn shown(line: &str) -> Option<&str> {
        let setting = line.strip_prefix("# ")?;
        let is_key = |key: &str| key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let is_setting = setting.split_once(" = ").is_some_and(|(key, _)| is_key(key));
        (setting.starts_with('[') || is_setting).then_some(setting)
    }

    #[test]
    fn what_the_example_shows_in_comments_can_be_used() {
        let example = include_str!("../../../deploy/spillway.toml");
        let lines =
            example.lines().filter_map(|line| if line.starts_with('#') { shown(line) } else { Some(line) });
        let config = written(&lines.collect::<Vec<_>>().join("\n"));
        config.check().unwrap();
        let kinds: Vec<ProviderKind> = config.providers().iter().map(|provider| provider.kind).collect();
        assert_eq!(kinds, [ProviderKind::Twilio, ProviderKind::Http, ProviderKind::Smpp]);
        assert!(config.gateway.room.required && config.gateway.room.attestation.is_some());
        assert!(config.control.room.opens_at.is_some() && config.registration.budget != Default::default());
    }

    #[test]
    fn wrong_providers_are_told_with_their_key() {
        let unlimited = written("[[registration.providers]]\nname = 'a'\ncost = { default = 1 }");
        let problem = unlimited.check().unwrap_err();
        let told = spillway_rpc::Chain(&problem).to_string();
        assert!(told.contains("[registration]") && told.contains("a.cost") && !told.contains('\n'), "{told}");
    }

    #[test]
    fn the_example_of_a_fleet_can_be_used() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/fleet.toml");
        let config = read(&example);
        config.check().unwrap();
        assert!(config.is_fleet());
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("printed.toml");
        let printed = to_toml(&Config::default());
        std::fs::write(&file, &printed).unwrap();
        assert_eq!(to_toml(&read(&file)), printed);
    }

    fn fleet(roles: &[Role]) -> Config {
        let mut config = Config { roles: roles.iter().copied().collect(), ..Config::default() };
        config.bus.kind = BusKind::Nats;
        config.bus.nats.servers = vec!["nats://127.0.0.1:4222".to_owned()];
        config.store.kind = StoreKind::Cql;
        config.secrets.file = Some(PathBuf::from("secrets.toml"));
        config
    }

    #[test]
    fn a_process_of_a_fleet_says_what_it_lacks() {
        fleet(&[Role::Mailbox, Role::Control]).check().unwrap();
        let problem = |change: fn(&mut Config)| {
            let mut config = fleet(&[Role::Mailbox]);
            change(&mut config);
            config.check().unwrap_err()
        };
        assert!(matches!(problem(|c| c.roles = Roles::from_iter([])), ConfigProblem::NoRoles));
        assert!(matches!(problem(|c| c.bus.kind = BusKind::Local), ConfigProblem::RolesWithoutBus(_)));
        assert!(matches!(problem(|c| c.bus.nats.servers.clear()), ConfigProblem::NoServers));
        assert!(matches!(problem(|c| c.store.kind = StoreKind::Embedded), ConfigProblem::StoreNotShared(_)));
        assert!(matches!(problem(|c| c.secrets.file = None), ConfigProblem::SecretsNotShared));
    }

    #[test]
    fn a_gateway_needs_no_store() {
        let mut config = fleet(&[Role::Gateway]);
        config.store.kind = StoreKind::Embedded;
        config.check().unwrap();
    }

    #[test]
    fn codes_stay_on_this_machine() {
        let mut config = Config::default();
        config.listen.sandbox_codes = SocketAddr::from(([0, 0, 0, 0], 7702));
        assert!(matches!(config.check(), Err(ConfigProblem::CodesExposed(_))));
    }
}
