//! The edge: holds the connections of devices, and no data.
//!
//! A unary call is decoded, its caller proved (`grpc`), charged to a quota and handed to the role that serves it; a
//! send is the one operation with work of its own (`send`, `append_all`). A session is a task that carries mail
//! from the mailbox to one device's stream and acks the other way (`session`).
//!
//! Invariants: a sender hears OK only after every copy is durable; a session deletes from the mailbox only what its
//! device acknowledged; whatever a gateway remembers (devices of accounts, used tickets, changed accounts, quotas, numbers asked about) it
//! can forget, at the price of a look-up. Nothing here touches a store.
//!
//! Deliberately absent: a map of who is connected where. A session listens to its device's subject on the bus, and
//! whoever has news says it there.

mod account;
mod account_events;
mod append_all;
mod arrival;
mod asked;
mod attestation;
mod auth;
mod balance;
mod changed_accounts;
mod class;
mod config;
mod device_cache;
mod devices;
mod discover;
mod enrolled;
mod forward;
mod grpc;
mod hear;
mod inner;
mod keys;
mod metrics;
mod quota;
mod room;
mod send;
mod session;
mod sign_up;
mod signed;
mod ticket;
mod token;
mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use spillway_admission::Quotas;
use spillway_api::internal::v1::RoleTotal;
use spillway_api::internal::v1::control_client::ControlClient;
use spillway_api::internal::v1::directory_client::DirectoryClient;
use spillway_api::internal::v1::mailbox_client::MailboxClient;
use spillway_api::internal::v1::registration_client::RegistrationClient;
use spillway_api::v1::account_server::AccountServer;
use spillway_api::v1::contacts_server::ContactsServer;
use spillway_api::v1::devices_server::DevicesServer;
use spillway_api::v1::keys_server::KeysServer;
use spillway_api::v1::messages_server::MessagesServer;
use spillway_api::v1::sign_up_server::SignUpServer;
use spillway_api::v1::status_server::StatusServer;
use spillway_bus::Bus;
use spillway_chassis::exemplars::Exemplars;
use spillway_chassis::{DrainHandle, Tasks};
use spillway_rpc::{Channel, Hop};
use spillway_types::{Clock, MessageIdGenerator, Secret};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::account_events::AccountEvents;
use crate::append_all::Appender;
use crate::asked::Asked;
use crate::auth::Authenticator;
use crate::balance::Balance;
use crate::changed_accounts::ChangedAccounts;
use crate::class::Classes;
use crate::device_cache::DeviceCache;
use crate::metrics::Metrics;
use crate::room::Room;

pub use attestation::{
    Attestation, AttestationError, Evidence, Verdict, WebhookAttestation, WebhookConfig, WebhookConfigError,
};
pub use class::DeviceCalls;
pub use config::{
    AttestationConfig, Config, ConfigError, DeviceCacheConfig, DiscoverConfig, IdentityConfig, RoomConfig,
    SendConfig, SessionConfig,
};
pub use grpc::{Api, StatusApi};
pub use metrics::describe_metrics;
pub use room::RoomView;
pub use session::Outgoing;

/// What a gateway needs from the process that it runs in.
#[derive(Debug)]
pub struct Deps {
    pub registration: RegistrationClient<Channel>,
    pub mailbox: MailboxClient<Channel>,
    pub directory: DirectoryClient<Channel>,
    pub control: ControlClient<Channel>,
    pub bus: Arc<dyn Bus>,
    pub quotas: Arc<Quotas>,
    /// Whom the room asks about devices. `None`: any device may claim its turn.
    pub attestation: Option<Arc<dyn Attestation>>,
    /// This process, as in its beacons.
    pub process: [u8; 16],
    /// Signs tokens and tickets. The same at all gateways.
    pub token_key: Secret,
    /// Where the calls of devices arrive, classified by [`DeviceCalls`]. What it has switched off is left out here.
    pub hop: Hop,
    pub clock: Arc<dyn Clock>,
    /// Runs the sessions. A drain should cancel it no sooner than `migrate_spread + migrate_grace` after it begins.
    pub tasks: Tasks,
    pub drain: DrainHandle,
    pub registry: prometheus::Registry,
    /// Traced deliveries are noted in them.
    pub exemplars: Exemplars,
}

/// The gateway role.
#[derive(Debug)]
pub struct Gateway {
    parts: Arc<Parts>,
}

/// What a gateway knows, for people. Clones are handles on the same.
#[derive(Clone, Debug)]
pub struct GatewayOutlook {
    parts: Arc<Parts>,
}

impl GatewayOutlook {
    /// `None`: control has not been heard yet.
    pub fn room(&self) -> Option<RoomView> {
        self.parts.room.view()
    }

    /// Empty: control has not been heard lately.
    pub fn fleet(&self) -> Vec<RoleTotal> {
        self.parts.balance.fleet(Instant::now())
    }

    pub fn sessions(&self) -> i64 {
        self.parts.metrics.sessions_open.get()
    }
}

/// The public services, to be added to a server.
#[derive(Clone, Debug)]
pub struct Services {
    pub sign_up: SignUpServer<Api>,
    pub devices: DevicesServer<Api>,
    pub account: AccountServer<Api>,
    pub keys: KeysServer<Api>,
    pub contacts: ContactsServer<Api>,
    pub messages: MessagesServer<Api>,
    pub status: StatusServer<StatusApi>,
}

/// What operations share.
#[derive(Debug)]
struct Parts {
    config: Config,
    registration: RegistrationClient<Channel>,
    mailbox: MailboxClient<Channel>,
    directory: DirectoryClient<Channel>,
    bus: Arc<dyn Bus>,
    quotas: Arc<Quotas>,
    asked: Asked,
    room: Room,
    balance: Balance,
    hop: Hop,
    clock: Arc<dyn Clock>,
    /// See [`SessionConfig::reads_in_turn`].
    reads_in_turn: Arc<Semaphore>,
    /// Sessions, apart from the rest so that a drain can wait for them.
    sessions: Tasks,
    /// When the newest session opened, in microseconds since the Unix epoch.
    last_opened_us: AtomicU64,
    drain: DrainHandle,
    auth: Authenticator,
    classes: Classes,
    devices: Arc<DeviceCache>,
    appender: Appender,
    metrics: Arc<Metrics>,
}

impl Gateway {
    /// Starts to listen for changed accounts; serves nothing yet.
    pub fn new(config: Config, deps: Deps) -> Self {
        let metrics = Metrics::register(&deps.registry, &deps.exemplars);
        let devices =
            Arc::new(DeviceCache::new(&config.devices, deps.registration.clone(), Arc::clone(&metrics)));
        let identity = &config.identity;
        let changed = Arc::new(ChangedAccounts::new(identity.changed_accounts_max, identity.ticket_lifetime));
        let events = AccountEvents {
            bus: Arc::clone(&deps.bus),
            devices: Arc::clone(&devices),
            changed: Arc::clone(&changed),
            clock: Arc::clone(&deps.clock),
        };
        events.follow(&deps.tasks);
        let auth = Authenticator::new(
            identity,
            &deps.token_key,
            deps.registration.clone(),
            Arc::clone(&devices),
            changed,
            Arc::clone(&deps.quotas),
            Arc::clone(&deps.clock),
        );
        let appender = Appender {
            mailbox: deps.mailbox.clone(),
            ids: Arc::new(MessageIdGenerator::new(Arc::clone(&deps.clock))),
            config: config.send.clone(),
            tasks: deps.tasks.clone(),
            metrics: Arc::clone(&metrics),
        };
        let classes = Classes::new(&deps.token_key, Arc::clone(&deps.clock));
        let room = room::Deps {
            process: deps.process,
            control: deps.control,
            attestation: deps.attestation,
            hop: deps.hop.clone(),
            clock: Arc::clone(&deps.clock),
            secret: deps.token_key.derive("spillway gateway: waiting room", &[]),
        };
        let room = Room::new(config.room.clone(), room);
        room.report_each_second(&deps.tasks);
        let balance = Balance::new();
        let (hop, drain, max) = (deps.hop.clone(), deps.drain.clone(), config.session.rebalance_max);
        balance.start(hop, drain, Arc::clone(&metrics), max, &deps.tasks);
        hear::control(Arc::clone(&deps.bus), room.clone(), balance.clone(), &deps.tasks);
        let Deps { registration, mailbox, directory, bus, quotas, hop, clock, tasks, drain, .. } = deps;
        let reads_in_turn = Arc::new(Semaphore::new(config.session.reads_in_turn()));
        let parts = Parts {
            asked: Asked::new(&config.discover),
            config,
            registration,
            mailbox,
            directory,
            bus,
            quotas,
            room,
            balance,
            hop,
            clock,
            reads_in_turn,
            sessions: tasks.child(),
            last_opened_us: AtomicU64::new(0),
            drain,
            auth,
            classes,
            devices,
            appender,
            metrics,
        };
        Self { parts: Arc::new(parts) }
    }

    /// Resolves when no session is open, which a drain waits for.
    pub fn sessions_gone(&self) -> impl Future<Output = ()> + Send + 'static {
        let sessions = self.parts.sessions.clone();
        async move { sessions.ended().await }
    }

    /// How the waiting room stands, and what each role of the fleet has to do, as this gateway has heard last.
    pub fn outlook(&self) -> GatewayOutlook {
        GatewayOutlook { parts: Arc::clone(&self.parts) }
    }

    /// How many sessions are open.
    pub fn sessions_open(&self) -> prometheus::IntGauge {
        self.parts.metrics.sessions_open.clone()
    }

    /// `request_bytes_max` is the server's bound for one message.
    pub fn into_services(self, request_bytes_max: usize) -> Services {
        let status = StatusApi { hop: self.parts.hop.clone(), room: self.parts.room.clone() };
        let (api, max) = (Api(self.parts), request_bytes_max);
        Services {
            sign_up: SignUpServer::new(api.clone()).max_decoding_message_size(max),
            devices: DevicesServer::new(api.clone()).max_decoding_message_size(max),
            account: AccountServer::new(api.clone()).max_decoding_message_size(max),
            keys: KeysServer::new(api.clone()).max_decoding_message_size(max),
            contacts: ContactsServer::new(api.clone()).max_decoding_message_size(max),
            messages: MessagesServer::new(api).max_decoding_message_size(max),
            status: StatusServer::new(status),
        }
    }
}
