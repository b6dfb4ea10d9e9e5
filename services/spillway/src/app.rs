//! One process: its roles, in the order in which they depend on each other, and their end in the opposite order.

mod backends;
mod ladder;
mod reload;
mod roles;
mod status;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::routing::get;
use prometheus::Registry;
use spillway_chassis::exemplars::Exemplars;
use spillway_chassis::signals::{Hangups, StopSignals};
use spillway_chassis::telemetry::LogLevel;
use spillway_chassis::{AdminServer, Drain, DrainHandle, Exit, Health, Tasks, traces};
use spillway_registration::provider::ProvidersError;
use spillway_rpc::{ServerTls, TlsError};
use spillway_store::OpenError;
use spillway_store::leases::HolderId;
use spillway_types::Clock;

use crate::config::Config;
use crate::listeners::{Addresses, Listeners};
use crate::metrics;
use crate::overload::{Overload, OverloadError};
use crate::secrets::{self, Secrets, SecretsError};
use backends::{BusError, StoreHandle};
use reload::Limits;
pub use reload::ReadConfig;
use roles::{Node, Ports, PublicPort};
use status::Status;

/// What is left when the roles have ended: the admin port, and whatever hung.
const LAST_STEP_MAX: Duration = Duration::from_secs(2);
/// A group commit and a flush of what is in memory.
const STORE_CLOSE_MAX: Duration = Duration::from_secs(10);

/// For the collector to take what waits. It is given a little less, so that the step does not look hung.
const TRACES_MAX: Duration = Duration::from_secs(2);

/// Why a process could not start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("the [bus.nats] section cannot be used")]
    Bus(#[from] BusError),
    #[error("the TLS of the public port cannot be set up")]
    Tls(#[from] TlsError),
    #[error("the [admission] section cannot be used")]
    Overload(#[from] OverloadError),
    #[error("the limits cannot be set up")]
    Quotas(#[from] spillway_admission::QuotaConfigError),
    #[error("the mailbox role cannot start")]
    Mailbox(#[from] spillway_mailbox::BuildError),
    #[error("the directory role cannot start")]
    Directory(#[from] spillway_directory::BuildError),
    #[error("the control role cannot start")]
    Control(#[from] spillway_control::BuildError),
    #[error("the [gateway.room.attestation] section cannot be used")]
    Attestation(#[from] spillway_gateway::WebhookConfigError),
    #[error("the providers of codes cannot be used")]
    Providers(#[from] ProvidersError),
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

impl App {
    /// Waits for the store and the bus, starts the roles and serves. The admin port answers from the beginning and says
    /// what is waited for: a database that is not there yet, or, for a few seconds, the embedded store's journal.
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
        read_config: ReadConfig,
    ) -> Result<Self, BuildError> {
        let addresses = listeners.addresses()?;
        let Listeners { public, admin, sandbox_codes, scaler } = listeners;
        let tasks = Tasks::new();
        let mut drain = Drain::new(&tasks);
        let registry = Registry::new();
        traces::register(&registry)?;
        metrics::build_info(&registry, &config.roles.to_string())?;
        let exemplars = Exemplars::default();
        let health = Health::new(drain.handle());
        let ready = health.component("node", "starting");
        let control_page = roles::ControlPage::default();
        let overload = Overload::new(config.admission.clone(), &registry);
        let limits = Limits::new(config.quotas.clone(), overload.clone());
        let name = config.node_name();
        let identity = status::Identity { name: name.clone(), roles: config.roles.to_string() };
        let status = Status::start(identity, &health, &overload, &control_page, &tasks);
        let admin_port = admin_server(limits.clone(), &health, &drain.handle(), &registry, log_level)
            .route("/admission", get(ladder::page(overload.clone())))
            .route("/ladder", ladder::route(overload.clone()))
            .route("/control", get(control_page.clone().handler()))
            .route("/room", control_page.clone().room());
        let admin_port = admin_port.with_exemplars(&exemplars);
        status.mount(admin_port, &tasks).serve(admin, &tasks)?;

        let secrets = secrets(&config)?;
        let tls = config.tls.clone().map(ServerTls::load).transpose()?;
        tls.as_ref().map(|tls| tls.register(&registry)).transpose()?;
        // The edge ends first, then the work of the other roles, then the bus they answered over.
        let (edge, roles, links) = (tasks.child(), tasks.child(), tasks.child());
        // Large futures that are awaited once.
        let bus = Box::pin(backends::bus(&config, &name, &health, &registry, &links)).await?;
        let (store, store_handle) =
            Box::pin(backends::store(&config, &health, &registry, &clock, &tasks)).await?;
        store_handle.watch(&drain.handle(), &tasks);
        let node = Node {
            wiring: roles::wiring(&config, &registry, &exemplars, bus.calls, overload.clone(), &roles),
            process: HolderId(rand::random()),
            limits: limits.clone(),
            bus: bus.hints,
            work: bus.work,
            drain: drain.handle(),
            registration: OnceLock::new(),
            sessions: OnceLock::new(),
            edge,
            roles,
            config,
            clock,
            registry,
            exemplars,
            secrets,
            store,
        };
        let public = public.map(|listener| PublicPort { listener, tls: tls.clone() });
        let ports = Ports { public, sandbox_codes, scaler };
        let sessions_gone = Box::pin(node.start(ports, &health, &control_page, &status)).await?;
        overload.start(&node.roles)?;
        node.start_beacon(name);
        if let Some(tls) = &tls {
            tls.watch(&node.edge);
        }
        reload::on_hangup(hangups, tls, limits, node.config.clone(), read_config, &node.edge);
        plan_drain(&node, &mut drain, sessions_gone, store_handle, links, tasks);
        drain.register(&node.registry)?;
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
        tracing::info!(addresses = %self.addresses, "serving");
        self.drain.run(stop).await
    }
}

fn secrets(config: &Config) -> Result<Secrets, SecretsError> {
    match &config.secrets.file {
        Some(file) => secrets::load(file),
        None => secrets::load_or_create(&config.node.data, &config.store_folder()),
    }
}

fn admin_server(
    limits: Limits,
    health: &Health,
    drain: &DrainHandle,
    registry: &Registry,
    log_level: LogLevel,
) -> AdminServer {
    AdminServer::new(health.clone(), drain.clone(), registry.clone(), log_level)
        .route("/limits", get(move || std::future::ready(limits.table())))
}

async fn last_traces() {
    if traces::is_on() {
        let bound = TRACES_MAX - Duration::from_millis(500);
        // It blocks. If it panicked there is nothing left to save.
        tokio::task::spawn_blocking(move || traces::shut_down(bound)).await.ok();
    }
}

/// Edge first, store last: nobody's call loses what it depends on.
fn plan_drain(
    node: &Node,
    drain: &mut Drain,
    sessions_gone: impl Future<Output = ()> + Send + 'static,
    store: StoreHandle,
    links: Tasks,
    tasks: Tasks,
) {
    let notice = node.config.node.drain_notice;
    let session = &node.config.gateway.session;
    let calls = node.config.node.drain_calls;
    drain
        // Balancers see that health has turned; calls still arrive and are served.
        .step("notice", notice + Duration::from_secs(1), tokio::time::sleep(notice))
        // Devices were told to come back elsewhere, spread over this time.
        .step("sessions", session.migrate_spread + session.migrate_grace, sessions_gone)
        .step_tasks("connections", calls, node.edge.clone())
        .step_tasks("roles", calls, node.roles.clone())
        .step_tasks("bus", LAST_STEP_MAX, links)
        .step("store", STORE_CLOSE_MAX, store.close())
        // What has ended by now was traced to its end.
        .step("traces", TRACES_MAX, last_traces())
        .step_tasks("the rest", LAST_STEP_MAX, tasks);
}
