//! The directory role: which numbers of an address book have an account that wants to be found.
//!
//! A question is hashed, shown to a filter in memory that knows who is certainly not there (`filter`), and only what is left
//! is read from the store, once however many ask (`reads`). What keeps the filter true is in `keeper`.
//!
//! Invariants: a phone number is neither stored nor logged here; it becomes a keyed hash at once, and only the hash
//! reaches the store. Nobody who can be found is denied for more than a minute, and nobody who hides is found a minute
//! later. Who may ask how often is decided at the gateway, which knows who asks.
//!
//! Deliberately absent: hiding from the operator which numbers are asked about. That takes an enclave or a private
//! set intersection, and neither is cheap on the day when everybody uploads an address book.

mod config;
#[cfg(test)]
mod fake;
mod filter;
mod grpc;
mod keeper;
mod lookup;
mod metrics;
mod reads;
#[cfg(test)]
mod simulation;

use std::sync::Arc;

use prometheus::Registry;
use spillway_api::internal::v1::directory_server::DirectoryServer;
use spillway_bus::Bus;
use spillway_chassis::{Component, Tasks};
use spillway_store::Directory as DirectoryStore;
use spillway_types::{Clock, Pepper};

pub use config::{Config, ConfigError, FilterConfig};
pub use metrics::describe_metrics;

use crate::filter::Filter;
use crate::metrics::{Metrics, ReadMetrics};
use crate::reads::Reads;

/// What the role works with.
#[derive(Debug)]
pub struct Deps {
    pub directory: Arc<dyn DirectoryStore>,
    /// The one under which the registration role stores numbers.
    pub pepper: Pepper,
    /// Tells of new entries.
    pub bus: Arc<dyn Bus>,
    pub clock: Arc<dyn Clock>,
    /// This process, as in its beacons.
    pub process: [u8; 16],
    /// For what keeps the filter true.
    pub tasks: Tasks,
    /// Ready when the first filter is, or after [`FilterConfig::ready_within`].
    pub health: Component,
    pub registry: Registry,
}

/// The role.
#[derive(Debug)]
pub struct Directory {
    config: Config,
    filter: Arc<Filter>,
    reads: Reads,
    pepper: Pepper,
    metrics: Arc<Metrics>,
}

/// Why the role cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the directory settings cannot be used")]
    Config(#[from] ConfigError),
    #[error("the directory metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

impl Directory {
    /// Starts to read which numbers there are, and to listen for new ones.
    ///
    /// # Errors
    ///
    /// When a setting cannot work, or the registry already has this role's metrics.
    pub fn new(config: Config, deps: Deps) -> Result<Self, BuildError> {
        config.check()?;
        let Deps { directory: store, pepper, bus, clock, process, tasks, health, registry } = deps;
        let metrics = Arc::new(Metrics::register(&registry)?);
        let reads = Reads::new(Arc::clone(&store), ReadMetrics::register(&registry)?);
        let filter = Arc::new(Filter::new(config.filter.bytes_max));
        let keeping = keeper::Deps {
            filter: Arc::clone(&filter),
            store,
            bus,
            clock,
            metrics: Arc::clone(&metrics),
            jitter: f64::from(process[0]) / 127.5 - 1.0,
        };
        keeper::start(config.filter.clone(), keeping, health, &tasks);
        Ok(Self { config, filter, reads, pepper, metrics })
    }

    /// The service, with its limits on the size of messages.
    pub fn into_server(self) -> DirectoryServer<Self> {
        // A number has at most 16 bytes and two of framing; a match adds an account id and the framing of three fields.
        let request_bytes_max = 32 * self.config.numbers_max;
        // A number that is left open takes at most two bytes instead.
        let reply_bytes_max = 64 * self.config.numbers_max;
        DirectoryServer::new(self)
            .max_decoding_message_size(request_bytes_max.max(MESSAGE_BYTES_MIN))
            .max_encoding_message_size(reply_bytes_max.max(MESSAGE_BYTES_MIN))
    }
}

/// Below this a limit would refuse an address book for one long entry, and save nothing.
const MESSAGE_BYTES_MIN: usize = 64 * 1024;
