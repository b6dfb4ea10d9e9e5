//! The control role: one process that acts for the whole fleet, and a view of the fleet in every process of the role.
//!
//! Each process of the role contends for one lease ([`spillway_store::Leases`]) and collects the load beacons of all
//! processes, so whoever gets the lease next knows the fleet already.
//!
//! Invariants:
//! - An act needs a `Tenure`, whose time ends by the holder's own monotonic clock before anybody else can take the
//!   lease. `lease` holds the times and the argument; `lease/simulation.rs` plays it against pauses, wrong clocks and a
//!   store that does not answer.
//! - What was decided within a tenure may still be under way when it ends. It carries the fencing token, and receivers
//!   ignore a lower token than they have seen.
//! - Numbers of the waiting room are lent only up to a mark that this holder has stored (`room`), so none is lent twice.
//! - An autoscaler that asks (`scaler`) gets a number only while most of the fleet is heard.
//! - Beacons are hints. Losing them delays a number and decides nothing for good.
//!
//! Deliberately absent: any duty that the fleet cannot do without for a minute. Whatever listens to the holder must go
//! on with what it heard last.

mod announce;
mod campaign;
mod codes;
mod collect;
mod config;
mod fence;
mod fleet;
mod follow;
mod grpc;
mod heed;
mod lease;
mod metrics;
mod page;
mod role;
mod room;
mod scaler;
mod store_room;
mod tenure;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use spillway_api::internal::v1::control_server::ControlServer;
use spillway_bus::Bus;
use spillway_chassis::Tasks;
use spillway_store::Leases;
use spillway_store::leases::HolderId;
use spillway_types::Clock;

pub use config::{Config, ConfigError, RoomConfig, ScalerConfig};

use crate::campaign::Campaign;
use crate::fleet::Fleet;
use crate::metrics::Metrics;
pub use crate::metrics::describe_metrics;
pub use crate::page::RoleDemand;
use crate::room::Room;
pub use crate::room::{NoRoomOrder, RoomOrder};
pub use crate::scaler::Scaler;
use crate::tenure::Guard;

/// The longest request and the longest reply stay within what a bus carries.
const REQUEST_BYTES_MAX: usize = 512 * 1024;
const REPLY_BYTES_MAX: usize = 512 * 1024;

/// What the role works with.
#[derive(Debug)]
pub struct Deps {
    pub leases: Arc<dyn Leases>,
    pub bus: Arc<dyn Bus>,
    /// For the times in messages. The lease is measured with monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Cancelling them gives the lease back, so that another process has it within a second.
    pub tasks: Tasks,
    pub registry: Registry,
    /// This process, as in its beacons. Random, and new at each start.
    pub process: HolderId,
}

/// Why the role cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the control settings cannot be used")]
    Config(#[from] ConfigError),
    #[error("the control metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// The role. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    process: HolderId,
    guard: Guard,
    fleet: Fleet,
    /// How long processes are heard before it is known what there is to do.
    listen_first: Duration,
    room: Room,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Control {
    /// Also starts the role's tasks, so it must be called within a runtime.
    ///
    /// # Errors
    ///
    /// When a setting cannot work, or the registry already has this role's metrics.
    pub fn new(config: Config, deps: Deps) -> Result<Self, BuildError> {
        config.check()?;
        let shared = Shared {
            process: deps.process,
            guard: Guard::default(),
            fleet: Fleet::new(config.processes_max, config.beacon_silence),
            // Beacons come each second, and a process that has lost the bus needs some to find it again.
            listen_first: config.beacon_silence * 2,
            room: Room::new(config.room, config.processes_max),
            bus: deps.bus,
            clock: deps.clock,
            metrics: Metrics::register(&deps.registry)?,
        };
        let control = Self { shared: Arc::new(shared) };
        let (shared, leases) = (Arc::clone(&control.shared), Arc::clone(&deps.leases));
        room::register::keep(shared, leases, config.call_timeout, &deps.tasks);
        let campaign = Campaign::new(&config, deps.leases, Arc::clone(&control.shared));
        campaign.start(&deps.tasks);
        control.collect(&deps.tasks);
        control.heed(&deps.tasks);
        control.announce(&deps.tasks);
        Ok(control)
    }

    /// What an operator wants of the waiting room. To be told to every process of the role, because any may hold the lease next.
    pub fn order_room(&self, order: RoomOrder) {
        self.shared.room.order(order);
    }

    /// How the waiting room stands, in one line.
    pub fn room_text(&self) -> String {
        self.shared.room.text()
    }

    /// The service, with its limits on the size of messages.
    pub fn into_server(self) -> ControlServer<Self> {
        ControlServer::new(self)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(REPLY_BYTES_MAX)
    }
}
