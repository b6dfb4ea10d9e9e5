//! The roles of this process, put together from their settings and from what all of them share.

use std::future::ready;
use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use prometheus::{IntGauge, Registry};
use spillway_admission::{QuotaMetrics, Quotas, TokioClock};
use spillway_api::internal::v1::control_client::ControlClient;
use spillway_api::internal::v1::directory_client::DirectoryClient;
use spillway_api::internal::v1::mailbox_client::MailboxClient;
use spillway_api::internal::v1::registration_client::RegistrationClient;
use spillway_bus::Bus;
use spillway_bus::work::WorkQueue;
use spillway_chassis::exemplars::Exemplars;
use spillway_chassis::{DrainHandle, Health, Tasks};
use spillway_control::{Control, RoomOrder};
use spillway_directory::Directory;
use spillway_gateway::{Attestation, DeviceCalls, Gateway, WebhookAttestation};
use spillway_mailbox::Mailbox;
use spillway_registration::Registration;
use spillway_registration::provider::{self, Carrier, Carriers};
use spillway_registration::sandbox::Codes;
use spillway_rpc::{Channel, ClientMetrics, Hop, Server, ServerMetrics, ServerTls};
use spillway_store::Store;
use spillway_store::leases::HolderId;
use spillway_types::{Clock, Secret};
use tokio::net::TcpListener;

use super::BuildError;
use super::reload::Limits;
use super::status::Status;
use crate::beacon;
use crate::config::{Config, Role};
use crate::overload::Overload;
use crate::secrets::Secrets;
use crate::wiring::{Calls, Wiring};

/// Calls that a gateway is meant to serve at a time, until its admission has measured what it can: four times what a worker takes,
/// because a gateway mostly waits for workers.
const GATEWAY_SEATS: u64 = 4_096;

/// What every role of this process shares.
pub(super) struct Node {
    pub(super) config: Config,
    /// Random, and new at each start.
    pub(super) process: HolderId,
    pub(super) limits: Limits,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) registry: Registry,
    pub(super) exemplars: Exemplars,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) work: Arc<dyn WorkQueue>,
    pub(super) secrets: Secrets,
    /// A process that is only a gateway has none.
    pub(super) store: Option<Store>,
    pub(super) wiring: Wiring,
    pub(super) drain: DrainHandle,
    /// The gateway's sessions and connections, which end first.
    pub(super) edge: Tasks,
    /// Once it has started, if it is in this process.
    pub(super) registration: OnceLock<Registration>,
    /// How many sessions a gateway has, once it has started.
    pub(super) sessions: OnceLock<IntGauge>,
    /// Work of the other roles, which ends when nobody calls them any more.
    pub(super) roles: Tasks,
}

/// Where devices arrive.
pub(super) struct PublicPort {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<ServerTls>,
}

/// Every port of the roles.
pub(super) struct Ports {
    pub(super) public: Option<PublicPort>,
    pub(super) sandbox_codes: Option<TcpListener>,
    pub(super) scaler: Option<TcpListener>,
}

const NO_CONTROL: &str = "this process has no control role\n";

/// Whom a gateway calls.
struct Callees {
    registration: RegistrationClient<Channel>,
    mailbox: MailboxClient<Channel>,
    directory: DirectoryClient<Channel>,
    control: ControlClient<Channel>,
}

/// What the control role shows on the admin port, once it has started.
#[derive(Clone, Default)]
pub(super) struct ControlPage(Arc<OnceLock<Control>>);

impl ControlPage {
    /// GET says how the waiting room stands; PUT takes an order.
    pub(super) fn room(self) -> MethodRouter {
        get(show_room).put(order_room).with_state(self)
    }

    pub(super) fn get(&self) -> Option<&Control> {
        self.0.get()
    }

    fn show(&self, control: Control) {
        assert!(self.0.set(control).is_ok(), "the control role starts once");
    }

    pub(super) fn handler(self) -> impl Fn() -> std::future::Ready<Response> + Clone + Send + 'static {
        move || {
            ready(match self.0.get() {
                Some(control) => control.page().into_response(),
                None => (StatusCode::NOT_FOUND, NO_CONTROL).into_response(),
            })
        }
    }
}

async fn show_room(State(page): State<ControlPage>) -> (StatusCode, String) {
    match page.0.get() {
        Some(control) => (StatusCode::OK, control.room_text() + "\n"),
        None => (StatusCode::NOT_FOUND, NO_CONTROL.to_owned()),
    }
}

async fn order_room(State(page): State<ControlPage>, order: String) -> (StatusCode, String) {
    match order.trim().parse::<RoomOrder>() {
        Ok(order) => {
            if let Some(control) = page.0.get() {
                control.order_room(order);
                tracing::warn!(%order, "an operator steers the waiting room");
            }
            show_room(State(page)).await
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

pub(super) fn wiring(
    config: &Config,
    registry: &Registry,
    exemplars: &Exemplars,
    calls: Calls,
    overload: Overload,
    tasks: &Tasks,
) -> Wiring {
    Wiring {
        server_config: config.rpc.clone(),
        client_config: config.calls.clone(),
        server_metrics: ServerMetrics::with_exemplars(registry, exemplars),
        client_metrics: ClientMetrics::with_exemplars(registry, exemplars),
        calls,
        overload,
        tasks: tasks.clone(),
    }
}

impl Node {
    /// Starts the roles of this process, callees before callers. What it returns resolves when no session is left.
    pub(super) async fn start(
        &self,
        ports: Ports,
        health: &Health,
        control_page: &ControlPage,
        status: &Status,
    ) -> Result<BoxFuture<'static, ()>, BuildError> {
        let Ports { public, sandbox_codes, scaler } = ports;
        let control = self.start_if(Role::Control, |node, _| node.control())?;
        if let Some(control) = &control {
            control_page.show(control.clone());
            if let Some(listener) = scaler {
                self.serve_scaler(control, listener, health);
            }
        }
        let control = self.wiring.control(control).await?;
        let mailbox = self.wiring.mailbox(self.start_if(Role::Mailbox, Self::mailbox)?).await?;
        let directory = self.start_if(Role::Directory, |node, store| node.directory(store, health))?;
        let directory = self.wiring.directory(directory).await?;
        let registration = match self.has(Role::Registration) {
            true => {
                let registration = self.registration(mailbox.clone(), sandbox_codes)?;
                Some(self.registration.get_or_init(|| registration).clone())
            }
            false => None,
        };
        let registration = self.wiring.registration(registration).await?;
        let Some(public) = public else {
            return Ok(ready(()).boxed());
        };
        let token_key = self.secrets.master.derive("spillway gateway: tokens and tickets", &[]);
        let classes = DeviceCalls::new(&self.config.gateway.identity, &token_key, &self.clock);
        let hop = self.wiring.overload.gateway(classes)?;
        let callees = Callees { registration, mailbox, directory, control };
        let gateway = self.gateway(callees, token_key, hop.clone())?;
        self.sessions.get_or_init(|| gateway.sessions_open());
        status.show_gateway(gateway.outlook());
        let sessions_gone = gateway.sessions_gone();
        self.serve_public(gateway, hop, public, health);
        Ok(sessions_gone.boxed())
    }

    /// Tells the control role, wherever it is, what there is to do here.
    pub(super) fn start_beacon(&self, name: String) {
        let identity = beacon::Identity { process: self.process, name };
        let seats = |role| match role {
            Role::Gateway => GATEWAY_SEATS,
            _ => self.config.bus.calls.concurrency_max as u64,
        };
        let roles = self.config.roles.iter().map(|role| (role, seats(role))).collect();
        let sources = beacon::Sources {
            calls: self.wiring.server_metrics.clone(),
            clock: Arc::clone(&self.clock),
            overload: self.wiring.overload.clone(),
            registration: self.registration.get().cloned(),
            sessions: self.sessions.get().cloned(),
            writes: self.store.as_ref().map(|store| store.writes.clone()),
        };
        beacon::start(identity, roles, Arc::clone(&self.bus), sources, &self.roles);
    }

    fn has(&self, role: Role) -> bool {
        self.config.roles.has(role)
    }

    fn start_if<T>(
        &self,
        role: Role,
        start: impl FnOnce(&Self, &Store) -> Result<T, BuildError>,
    ) -> Result<Option<T>, BuildError> {
        if self.has(role) { start(self, self.store()).map(Some) } else { Ok(None) }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("every role but the gateway has a store")
    }

    fn carriers(&self, codes: Option<TcpListener>) -> Result<Vec<Carrier>, BuildError> {
        let Carriers { carriers, sandbox } = provider::build(&self.config.providers(), &self.roles)?;
        let Some(sandbox) = sandbox else { return Ok(carriers) };
        tracing::warn!("a sandbox provider is in use: its codes reach nobody's phone");
        if let Some(listener) = codes {
            Server::new(self.config.rpc.clone(), "sandbox_codes", &self.wiring.server_metrics)
                .add_service(Codes::into_server(sandbox))
                .add_reflection()
                .serve(listener, None, &self.roles);
        }
        Ok(carriers)
    }

    fn registration(
        &self,
        mailbox: MailboxClient<Channel>,
        codes: Option<TcpListener>,
    ) -> Result<Registration, BuildError> {
        let store = self.store();
        let deps = spillway_registration::Deps {
            accounts: Arc::clone(&store.accounts),
            keys: Arc::clone(&store.keys),
            verifications: Arc::clone(&store.verifications),
            directory: Arc::clone(&store.directory),
            leases: Arc::clone(&store.leases),
            mailbox,
            bus: Arc::clone(&self.bus),
            work: Arc::clone(&self.work),
            carriers: self.carriers(codes)?,
            secrets: spillway_registration::Secrets::derive(
                &self.secrets.master,
                self.secrets.pepper.clone(),
            ),
            clock: Arc::clone(&self.clock),
            tasks: self.roles.clone(),
            registry: self.registry.clone(),
        };
        Ok(Registration::new(self.config.registration.clone(), deps))
    }

    fn mailbox(&self, store: &Store) -> Result<Mailbox, BuildError> {
        let deps = spillway_mailbox::Deps {
            mailboxes: Arc::clone(&store.mailboxes),
            bus: Arc::clone(&self.bus),
            clock: Arc::clone(&self.clock),
            tasks: self.roles.clone(),
            registry: self.registry.clone(),
        };
        Ok(Mailbox::new(self.config.mailbox.clone(), deps)?)
    }

    fn directory(&self, store: &Store, health: &Health) -> Result<Directory, BuildError> {
        let deps = spillway_directory::Deps {
            directory: Arc::clone(&store.directory),
            pepper: self.secrets.pepper.clone(),
            bus: Arc::clone(&self.bus),
            clock: Arc::clone(&self.clock),
            process: self.process.0,
            tasks: self.roles.clone(),
            health: health.component("directory", "reading which numbers there are"),
            registry: self.registry.clone(),
        };
        Ok(Directory::new(self.config.directory.clone(), deps)?)
    }

    fn control(&self) -> Result<Control, BuildError> {
        let deps = spillway_control::Deps {
            leases: Arc::clone(&self.store().leases),
            bus: Arc::clone(&self.bus),
            clock: Arc::clone(&self.clock),
            tasks: self.roles.clone(),
            registry: self.registry.clone(),
            process: self.process,
        };
        Ok(Control::new(self.config.control.clone(), deps)?)
    }

    fn gateway(&self, callees: Callees, token_key: Secret, hop: Hop) -> Result<Gateway, BuildError> {
        let Callees { registration, mailbox, directory, control } = callees;
        let quota_metrics = QuotaMetrics::register(&self.registry)?;
        let quotas = Arc::new(Quotas::new(&self.config.quotas, TokioClock, quota_metrics)?);
        self.limits.enforce(&quotas);
        let attestation = self.config.gateway.room.attestation.as_ref();
        let attestation = attestation.map(|config| WebhookAttestation::new(&config.webhook)).transpose()?;
        let deps = spillway_gateway::Deps {
            registration,
            mailbox,
            directory,
            control,
            bus: Arc::clone(&self.bus),
            quotas,
            attestation: attestation.map(|attestation| Arc::new(attestation) as Arc<dyn Attestation>),
            process: self.process.0,
            token_key,
            hop,
            clock: Arc::clone(&self.clock),
            tasks: self.edge.clone(),
            drain: self.drain.clone(),
            registry: self.registry.clone(),
            exemplars: self.exemplars.clone(),
        };
        Ok(Gateway::new(self.config.gateway.clone(), deps))
    }

    fn serve_scaler(&self, control: &Control, listener: TcpListener, health: &Health) {
        // Not admitted like calls of devices: whoever adds replicas must be answered when all are overloaded.
        Server::new(self.config.rpc.clone(), "scaler", &self.wiring.server_metrics)
            .add_service(control.scaler(&self.roles))
            .add_health(health, &self.roles)
            .add_reflection()
            .serve(listener, None, &self.roles);
    }

    fn serve_public(&self, gateway: Gateway, hop: Hop, port: PublicPort, health: &Health) {
        let services = gateway.into_services(self.config.rpc.request_bytes_max);
        Server::new(self.config.rpc.clone(), "public", &self.wiring.server_metrics)
            .add_service(services.sign_up)
            .add_service(services.devices)
            .add_service(services.account)
            .add_service(services.keys)
            .add_service(services.contacts)
            .add_service(services.messages)
            .add_service(services.status)
            .add_health(health, &self.edge)
            .add_reflection()
            .admit(hop)
            .serve(port.listener, port.tls, &self.edge);
    }
}
