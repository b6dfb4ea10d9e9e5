//! The store and the bus: opened from the settings, waited for, and watched, so that readiness tells the truth.

use std::error::Error;
use std::fmt::Display;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use rand::Rng as _;
use spillway_bus::nats::{ConnectError, JetStreamWorkQueue, Nats, NatsBus, Requests, Responders, hints};
use spillway_bus::work::{LocalWorkQueue, WorkQueue};
use spillway_bus::{Bus, LocalBus};
use spillway_chassis::{Component, DrainHandle, Health, Tasks};
use spillway_store::cql::{self, CqlHandle};
use spillway_store::embedded::{self, EmbeddedHandle};
use spillway_store::{OpenError, Store};
use spillway_types::Clock;
use tokio::sync::watch;

use crate::config::{BusKind, Config, Role, StoreKind};
use crate::wiring::{Calls, CallsOverBus};

/// Between tries to open a database that does not answer, about: often enough that nobody notices.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Between questions whether the database still answers.
const PING_EVERY: Duration = Duration::from_secs(2);
/// Failed questions in a row before the store counts as gone: one may fall into the death of one node.
const PINGS_FAILED_MAX: u32 = 3;
/// Codes that wait for a worker of this process; what does not fit is found in the store.
const LOCAL_WORK_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is not zero");

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Hints(#[from] hints::StartError),
}

/// What the roles of this process reach the others with.
pub(super) struct Links {
    pub(super) hints: Arc<dyn Bus>,
    pub(super) work: Arc<dyn WorkQueue>,
    pub(super) calls: Calls,
}

/// Begins to connect and does not wait: a role can start without, and comes up by itself.
pub(super) async fn bus(
    config: &Config,
    name: &str,
    health: &Health,
    registry: &Registry,
    tasks: &Tasks,
) -> Result<Links, BusError> {
    if config.bus.kind == BusKind::Local {
        return Ok(Links {
            hints: Arc::new(LocalBus::new()),
            work: Arc::new(LocalWorkQueue::new(LOCAL_WORK_MAX)),
            calls: Calls::InProcess,
        });
    }
    let settings = &config.bus.nats;
    let roles: Vec<_> = config.roles.iter().map(Role::name).collect();
    let nats = Nats::new(settings.clone(), &roles.join("-"), registry, tasks)?;
    let hints = NatsBus::start(settings, &format!("spillway {name}"), tasks, registry)?;
    for link in hints.links() {
        let connected = |state: &hints::LinkState| state.is_connected();
        report(health.component(leaked(&link.name), "connecting"), link.state, connected, tasks);
    }
    let mut states = Vec::new();
    let requests = Requests::open(&nats).await?;
    states.push(("bus requests", requests.state()));
    let responders = Responders::open(&nats).await?;
    states.push(("bus calls", responders.state()));
    let work: Arc<dyn WorkQueue> = match config.roles.has(Role::Registration) {
        true => {
            let work = JetStreamWorkQueue::connect(&nats, "verification", config.bus.work.clone()).await?;
            states.push(("bus work", work.state()));
            Arc::new(work)
        }
        false => Arc::new(LocalWorkQueue::new(LOCAL_WORK_MAX)),
    };
    for (name, state) in states {
        report(health.component(name, "connecting"), state, |state| state.is_connected(), tasks);
    }
    let calls = CallsOverBus { nats, requests, responders, config: config.bus.calls.clone() };
    Ok(Links { hints: Arc::new(hints), work, calls: Calls::OverBus(Box::new(calls)) })
}

/// A component's name lives as long as the process, and there are a few of them.
fn leaked(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}

/// Follows a connection's state for ever.
fn report<S>(component: Component, mut state: watch::Receiver<S>, is_connected: fn(&S) -> bool, tasks: &Tasks)
where
    S: Display + Send + Sync + 'static,
{
    let stopped = tasks.cancelled();
    tasks.spawn("bus health", async move {
        tokio::pin!(stopped);
        loop {
            let condition = {
                let state = state.borrow_and_update();
                (!is_connected(&state)).then(|| state.to_string())
            };
            match condition {
                None => component.ready(),
                Some(why) => component.not_ready(why),
            }
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return },
                () = &mut stopped => return,
            }
        }
    });
}

/// Owns the store of this process, until the drain closes it.
#[derive(Debug)]
pub(super) enum StoreHandle {
    /// Only a gateway is here.
    None,
    Embedded(EmbeddedHandle),
    /// Closes when its last handle is gone; every answered write is with the database already.
    Cql,
}

/// Opens the store if a role here needs one, and waits for a database that does not answer yet.
pub(super) async fn store(
    config: &Config,
    health: &Health,
    registry: &Registry,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<(Option<Store>, StoreHandle), OpenError> {
    if !config.roles.need_store() {
        return Ok((None, StoreHandle::None));
    }
    let component = health.component("store", "opening");
    match config.store.kind {
        StoreKind::Embedded => {
            let settings = embedded::Config { path: config.store_folder(), ..config.store.embedded.clone() };
            let (store, handle) = embedded::open(&settings, registry, Arc::clone(clock))?;
            component.ready();
            Ok((Some(store), StoreHandle::Embedded(handle)))
        }
        StoreKind::Cql => {
            let (store, handle) = cql_when_it_answers(&config.store.cql, &component, registry, clock).await?;
            component.ready();
            ping(handle, component, tasks);
            Ok((Some(store), StoreHandle::Cql))
        }
    }
}

async fn cql_when_it_answers(
    config: &cql::Config,
    component: &Component,
    registry: &Registry,
    clock: &Arc<dyn Clock>,
) -> Result<(Store, CqlHandle), OpenError> {
    loop {
        match cql::open(config, registry, Arc::clone(clock)).await {
            Err(error) if is_worth_waiting(&error) => component.starting(with_sources(&error)),
            outcome => return outcome,
        }
        let pause = TRY_AGAIN.mul_f64(rand::rng().random_range(0.5..1.5));
        tokio::time::sleep(pause).await;
    }
}

/// Somebody else may be about to apply the schema, as the hook of a deployment does while the first pods start.
const fn is_worth_waiting(error: &OpenError) -> bool {
    error.is_transient() || matches!(error, OpenError::NoSchema { .. } | OpenError::OlderSchema { .. })
}

fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // The driver's errors quote their sources.
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

fn ping(handle: CqlHandle, component: Component, tasks: &Tasks) {
    let stopped = tasks.cancelled();
    tasks.spawn("store health", async move {
        tokio::pin!(stopped);
        let mut failed = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep(PING_EVERY) => {}
                () = &mut stopped => return,
            }
            match handle.ping().await {
                Ok(()) => {
                    failed = 0;
                    component.ready();
                }
                Err(error) => {
                    failed += 1;
                    if failed >= PINGS_FAILED_MAX {
                        component.not_ready(with_sources(&error));
                    }
                }
            }
        }
    });
}

impl StoreHandle {
    /// A store that cannot promise durability any more must not acknowledge, so the process ends and is started again.
    pub(super) fn watch(&self, drain: &DrainHandle, tasks: &Tasks) {
        let StoreHandle::Embedded(handle) = self else { return };
        let (failed, drain, stopped) = (handle.failed(), drain.clone(), tasks.cancelled());
        tasks.spawn("store failure", async move {
            tokio::select! {
                failure = failed => drain.fatal(failure.to_string()),
                () = stopped => {}
            }
        });
    }

    pub(super) async fn close(self) {
        if let StoreHandle::Embedded(handle) = self {
            handle.close().await;
        }
    }
}
