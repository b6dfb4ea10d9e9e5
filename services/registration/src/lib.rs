//! The registration role: from a phone number to an account, and what an account has: devices, keys, a number.
//!
//! Invariants:
//! - One number has one account, however many race for it: the number's claim in the store decides which.
//! - An account is changed only by a write that is conditional on the version that was read.
//! - Every operation may stop half way and be repeated; the order of its writes is chosen for that. Operations that
//!   change an account also run to their end when their caller leaves.
//! - Money for a code is reserved before it is sent, and a budget that is used up sends none.
//! - Whoever pumps codes is not told that he gets none.
//! - Numbers, codes and credentials are stored as keyed hashes; a number also sealed, while a code is owed to it.
//!
//! Deliberately not here: quotas (the gateway has them), tokens and tickets (the gateway makes them), mail (the mailbox
//! role), and look-ups by number (the directory role).

mod accounts;
mod authenticate;
mod change_number;
mod check_code;
mod config;
mod create_account;
mod credential;
mod decode;
mod delete_account;
mod delivery;
mod dispatch;
mod error;
mod fetch_keys;
mod get_devices;
mod grpc;
mod link;
mod link_token;
mod list_devices;
mod metrics;
mod passes;
mod places;
pub mod provider;
mod remove_device;
mod resend_code;
mod routing;
pub mod sandbox;
mod secrets;
mod sessions;
mod set_discoverable;
mod start_link;
mod start_verification;
mod turns;
mod upload_keys;
mod verification;

use std::future::Future;
use std::sync::Arc;

use prometheus::Registry;
use spillway_api::internal::v1::mailbox_client::MailboxClient;
use spillway_api::internal::v1::registration_server::RegistrationServer;
use spillway_bus::Bus;
use spillway_bus::work::WorkQueue;
use spillway_chassis::Tasks;
use spillway_rpc::Channel;
use spillway_store::{Accounts, Directory, Keys, Leases, Verifications};
use spillway_types::{Clock, Secret};

pub use config::{
    BudgetConfig, Config, ConfigError, CostConfig, CountryCode, CountryCodeError, DevicesConfig,
    DispatchConfig, GuardConfig, KeysConfig, RoutingConfig, VerificationConfig,
};
pub use metrics::describe_metrics;
pub use routing::{Capacity, CountryCapacity, PlaceCount, PlaceKey};
pub use secrets::Secrets;

use delivery::DeliveryDelay;
use dispatch::{Dispatch, HandOver, Routes, UnderWay};
use metrics::Metrics;
use provider::Carrier;
use sessions::Sessions;
use turns::Turns;
use verification::{Rules, View};

/// What the role works with.
#[derive(Debug)]
pub struct Deps {
    pub accounts: Arc<dyn Accounts>,
    pub keys: Arc<dyn Keys>,
    pub verifications: Arc<dyn Verifications>,
    pub directory: Arc<dyn Directory>,
    /// For the ledger of what codes may cost.
    pub leases: Arc<dyn Leases>,
    pub mailbox: MailboxClient<Channel>,
    pub bus: Arc<dyn Bus>,
    /// For queued codes, in lieu of looking for them in the store. All workers of a fleet share one.
    pub work: Arc<dyn WorkQueue>,
    /// At least one.
    pub carriers: Vec<Carrier>,
    pub secrets: Secrets,
    pub clock: Arc<dyn Clock>,
    /// For the dispatcher of codes, and for operations whose caller has left.
    pub tasks: Tasks,
    pub registry: Registry,
}

/// The registration role. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct Registration(Arc<Role>);

/// Each operation is a method, in a file of its own.
#[derive(Debug)]
struct Role {
    config: Config,
    accounts: Arc<dyn Accounts>,
    keys: Arc<dyn Keys>,
    directory: Arc<dyn Directory>,
    mailbox: MailboxClient<Channel>,
    bus: Arc<dyn Bus>,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    metrics: Metrics,
    sessions: Sessions,
    delivery: Arc<DeliveryDelay>,
    dispatch: Dispatch,
    turns: Turns,
}

impl Registration {
    /// Starts the dispatcher, which first looks in the store for codes that are queued.
    pub fn new(config: Config, deps: Deps) -> Self {
        let metrics = Metrics::new(&deps.registry);
        deps.carriers.iter().for_each(|carrier| metrics.expect_provider(&carrier.terms.name));
        let sessions = Sessions::new(deps.verifications, Arc::clone(&deps.clock));
        let delivery = Arc::new(DeliveryDelay::default());
        let routes = Routes::new(&config, deps.carriers, Arc::clone(&deps.clock), metrics.clone());
        let hand_over = HandOver {
            config: config.dispatch.clone(),
            verification: config.verification.clone(),
            sessions: sessions.clone(),
            routes: Arc::new(routes),
            secrets: deps.secrets.clone(),
            delivery: Arc::clone(&delivery),
            metrics: metrics.clone(),
            under_way: Arc::new(UnderWay::default()),
        };
        let routes = Arc::clone(&hand_over.routes);
        let ledger = (deps.leases, Arc::clone(&deps.clock));
        deps.tasks
            .spawn_critical("pumped places", places::hear(routes, Arc::clone(&deps.bus), deps.tasks.clone()));
        Self(Arc::new(Role {
            dispatch: Dispatch::start(hand_over, config.routing.grace_min, deps.work, ledger, &deps.tasks),
            config,
            accounts: deps.accounts,
            keys: deps.keys,
            directory: deps.directory,
            mailbox: deps.mailbox,
            bus: deps.bus,
            secrets: deps.secrets,
            clock: deps.clock,
            tasks: deps.tasks,
            metrics,
            sessions,
            delivery,
            turns: Turns::default(),
        }))
    }

    /// How many codes can be sent at present, so that no more sign-ups are let in.
    pub fn capacity(&self) -> Capacity {
        self.0.dispatch.capacity()
    }

    pub fn into_server(self) -> RegistrationServer<Self> {
        RegistrationServer::new(self)
    }

    /// Runs an operation to its end, also when the caller does not wait for it.
    async fn to_the_end<T, F>(&self, name: &'static str, operation: impl FnOnce(Arc<Role>) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        match self.0.tasks.spawn(name, operation(Arc::clone(&self.0))).await {
            Ok(outcome) => outcome,
            // Tasks are never aborted, so this is a panic of the operation, and goes on as one.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Role {
    fn rules(&self) -> Rules<'_> {
        Rules(&self.config.verification)
    }

    fn view(&self, session: &spillway_store::verifications::Verification, secret: &Secret) -> View {
        self.rules().view(session, secret, self.delivery.estimate(), self.clock.now())
    }
}
