//! One process: its roles, in the order in which they depend on each other, and their end in the opposite order.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use prometheus::Registry;
use spillway_admission::{QuotaMetrics, Quotas, TokioClock};
use spillway_bus::{Bus, LocalBus};
use spillway_chassis::signals::{Hangups, StopSignals};
use spillway_chassis::telemetry::LogLevel;
use spillway_chassis::{AdminServer, Drain, DrainHandle, Exit, Health, Tasks};
use spillway_directory::Directory;
use spillway_gateway::Gateway;
use spillway_mailbox::Mailbox;
use spillway_registration::Registration;
use spillway_registration::provider::{HttpConfigError, HttpProvider, Provider, Sandbox};
use spillway_registration::sandbox::Codes;
use spillway_rpc::{ClientMetrics, Server, ServerMetrics, ServerTls, TlsError};
use spillway_store::embedded::{self, EmbeddedHandle};
use spillway_store::{OpenError, Store};
use spillway_types::Clock;

use crate::config::{Config, ProviderKind};
use crate::listeners::{Addresses, Listeners};
use crate::secrets::{self, Secrets, SecretsError};
use crate::wiring::Wiring;

/// What is left when the roles have ended: the admin port, and whatever hung.
const LAST_STEP_MAX: Duration = Duration::from_secs(2);
/// A group commit and a flush of what is in memory.
const STORE_CLOSE_MAX: Duration = Duration::from_secs(10);

/// Why a process could not start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("the TLS of the public port cannot be set up")]
    Tls(#[from] TlsError),
    #[error("the limits cannot be set up")]
    Quotas(#[from] spillway_admission::QuotaConfigError),
    #[error("the mailbox role cannot start")]
    Mailbox(#[from] spillway_mailbox::BuildError),
    #[error("the directory role cannot start")]
    Directory(#[from] spillway_directory::BuildError),
    #[error("the [provider.http] section cannot be used")]
    HttpProvider(#[from] HttpConfigError),
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    #[error("a socket cannot be used")]
    Socket(#[from] io::Error),
}

/// A process that serves.
#[derive(Debug)]
pub struct App {
    addresses: Addresses,
    drain: Drain,
}

/// What every role of this process shares.
struct Node {
    config: Config,
    clock: Arc<dyn Clock>,
    registry: Registry,
    bus: Arc<dyn Bus>,
    secrets: Secrets,
    store: Store,
    wiring: Wiring,
    drain: DrainHandle,
    /// The gateway's sessions and connections, which end first.
    edge: Tasks,
    /// Work of the other roles, which ends when nobody calls them any more.
    roles: Tasks,
}

impl App {
    /// Opens the store, starts the roles and serves. Opening replays the store's journal, for at most a few seconds.
    ///
    /// # Errors
    ///
    /// When a part cannot start; the text says which setting or file to look at.
    pub async fn build(
        config: Config,
        listeners: Listeners,
        clock: Arc<dyn Clock>,
        log_level: LogLevel,
        hangups: Hangups,
    ) -> Result<Self, BuildError> {
        let addresses = listeners.addresses()?;
        let tasks = Tasks::new();
        let mut drain = Drain::new(&tasks);
        let registry = Registry::new();
        let health = Health::new(drain.handle());
        let ready = health.component("node", "starting");

        let folder = config.store_folder();
        let secrets = secrets::load_or_create(&config.node.data, &folder)?;
        let store_config = embedded::Config { path: folder, ..config.store };
        let (store, store_handle) = embedded::open(&store_config, &registry, Arc::clone(&clock))?;
        watch_store(&store_handle, &drain.handle(), &tasks);
        let node = Node {
            wiring: wiring(&config, &registry),
            bus: Arc::new(LocalBus::new()),
            drain: drain.handle(),
            edge: tasks.child(),
            roles: tasks.child(),
            config,
            clock,
            registry,
            secrets,
            store,
        };
        let Listeners { public, admin, sandbox_codes } = listeners;
        let (provider, codes) = node.provider()?;
        if let (Some(listener), Some(codes)) = (sandbox_codes, codes) {
            node.serve_codes(listener, codes);
        }
        let gateway = node.gateway(provider)?;
        let sessions_gone = gateway.sessions_gone();
        let tls = node.config.tls.clone().map(ServerTls::load).transpose()?;
        node.serve_public(gateway, public, tls.clone(), &health);
        if let Some(tls) = tls {
            tls.watch(&node.edge);
            reload_on_hangup(tls, hangups, &node.edge);
        }
        node.admin(&health, log_level).serve(admin, &tasks)?;
        node.plan_drain(&mut drain, sessions_gone, store_handle, tasks);
        ready.ready();
        Ok(Self { addresses, drain })
    }

    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Starts the drain as a signal would.
    pub fn drain_handle(&self) -> DrainHandle {
        self.drain.handle()
    }

    /// Serves until the process is told to stop, then drains.
    pub async fn run(self, stop: StopSignals) -> Exit {
        tracing::info!(public = %self.addresses.public, admin = %self.addresses.admin, "serving");
        self.drain.run(stop).await
    }
}

impl Node {
    fn provider(&self) -> Result<(Arc<dyn Provider>, Option<Sandbox>), BuildError> {
        Ok(match self.config.provider.kind {
            ProviderKind::Sandbox => {
                tracing::warn!("the sandbox provider is in use: codes reach nobody's phone");
                let sandbox = Sandbox::new(self.config.provider.sandbox.clone(), &self.roles);
                (Arc::new(sandbox.clone()), Some(sandbox))
            }
            ProviderKind::Http => (Arc::new(HttpProvider::new(&self.config.provider.http)?), None),
        })
    }

    fn gateway(&self, provider: Arc<dyn Provider>) -> Result<Gateway, BuildError> {
        let mailbox = self.wiring.mailbox(self.mailbox()?);
        let registration = Registration::new(
            self.config.registration.clone(),
            spillway_registration::Deps {
                accounts: Arc::clone(&self.store.accounts),
                keys: Arc::clone(&self.store.keys),
                verifications: Arc::clone(&self.store.verifications),
                directory: Arc::clone(&self.store.directory),
                mailbox: mailbox.clone(),
                bus: Arc::clone(&self.bus),
                provider,
                secrets: spillway_registration::Secrets::derive(
                    &self.secrets.master,
                    self.secrets.pepper.clone(),
                ),
                clock: Arc::clone(&self.clock),
                tasks: self.roles.clone(),
                registry: self.registry.clone(),
            },
        );
        let quota_metrics = QuotaMetrics::register(&self.registry)?;
        let quotas = Quotas::new(&self.config.quotas, TokioClock, quota_metrics)?;
        let deps = spillway_gateway::Deps {
            registration: self.wiring.registration(registration),
            mailbox,
            directory: self.wiring.directory(self.directory()?),
            bus: Arc::clone(&self.bus),
            quotas: Arc::new(quotas),
            token_key: self.secrets.master.derive("spillway gateway: tokens and tickets", &[]),
            clock: Arc::clone(&self.clock),
            tasks: self.edge.clone(),
            drain: self.drain.clone(),
            registry: self.registry.clone(),
        };
        Ok(Gateway::new(self.config.gateway.clone(), deps))
    }

    fn mailbox(&self) -> Result<Mailbox, spillway_mailbox::BuildError> {
        let deps = spillway_mailbox::Deps {
            mailboxes: Arc::clone(&self.store.mailboxes),
            bus: Arc::clone(&self.bus),
            clock: Arc::clone(&self.clock),
            tasks: self.roles.clone(),
            registry: self.registry.clone(),
        };
        Mailbox::new(self.config.mailbox.clone(), deps)
    }

    fn directory(&self) -> Result<Directory, spillway_directory::BuildError> {
        let deps = spillway_directory::Deps {
            directory: Arc::clone(&self.store.directory),
            pepper: self.secrets.pepper.clone(),
            registry: self.registry.clone(),
        };
        Directory::new(self.config.directory.clone(), deps)
    }

    fn serve_public(
        &self,
        gateway: Gateway,
        listener: tokio::net::TcpListener,
        tls: Option<ServerTls>,
        health: &Health,
    ) {
        let bytes_max = self.config.rpc.request_bytes_max;
        let services = gateway.into_services(bytes_max);
        Server::new(self.config.rpc.clone(), "public", &self.wiring.server_metrics)
            .add_service(services.sign_up)
            .add_service(services.devices)
            .add_service(services.account)
            .add_service(services.keys)
            .add_service(services.contacts)
            .add_service(services.messages)
            .add_health(health, &self.edge)
            .add_reflection()
            .serve(listener, tls, &self.edge);
    }

    fn serve_codes(&self, listener: tokio::net::TcpListener, sandbox: Sandbox) {
        Server::new(self.config.rpc.clone(), "sandbox_codes", &self.wiring.server_metrics)
            .add_service(Codes::into_server(sandbox))
            .add_reflection()
            .serve(listener, None, &self.roles);
    }

    fn admin(&self, health: &Health, log_level: LogLevel) -> AdminServer {
        let limits = spillway_admission::render_table(&self.config.quotas);
        AdminServer::new(health.clone(), self.drain.clone(), self.registry.clone(), log_level)
            .route("/limits", get(move || std::future::ready(limits.clone())))
    }

    /// Edge first, store last: nobody's call loses what it depends on.
    fn plan_drain(
        &self,
        drain: &mut Drain,
        sessions_gone: impl Future<Output = ()> + Send + 'static,
        store: EmbeddedHandle,
        tasks: Tasks,
    ) {
        let notice = self.config.node.drain_notice;
        let session = &self.config.gateway.session;
        let calls = self.config.node.drain_calls;
        drain
            // Balancers see that health has turned; calls still arrive and are served.
            .step("notice", notice + Duration::from_secs(1), tokio::time::sleep(notice))
            // Devices were told to come back elsewhere, spread over this time.
            .step("sessions", session.migrate_spread + session.migrate_grace, sessions_gone)
            .step_tasks("connections", calls, self.edge.clone())
            .step_tasks("roles", calls, self.roles.clone())
            .step("store", STORE_CLOSE_MAX, store.close())
            .step_tasks("the rest", LAST_STEP_MAX, tasks);
    }
}

fn wiring(config: &Config, registry: &Registry) -> Wiring {
    Wiring {
        server_config: config.rpc.clone(),
        client_config: config.calls.clone(),
        server_metrics: ServerMetrics::new(registry),
        client_metrics: ClientMetrics::new(registry),
    }
}

/// A store that cannot promise durability any more must not acknowledge, so the process ends and is started again.
fn watch_store(store: &EmbeddedHandle, drain: &DrainHandle, tasks: &Tasks) {
    let (failed, drain, stopped) = (store.failed(), drain.clone(), tasks.cancelled());
    tasks.spawn("store failure", async move {
        tokio::select! {
            failure = failed => drain.fatal(failure.to_string()),
            () = stopped => {}
        }
    });
}

fn reload_on_hangup(tls: ServerTls, mut hangups: Hangups, tasks: &Tasks) {
    let stopped = tasks.cancelled();
    tasks.spawn("tls reload", async move {
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = hangups.recv() => tls.reload_and_log(),
                () = &mut stopped => return,
            }
        }
    });
}
