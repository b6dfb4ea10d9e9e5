//! The directory role: which numbers of an address book have an account that wants to be found.
//!
//! Invariants: a phone number is neither stored nor logged here; it becomes a keyed hash at once, and only the hash
//! reaches the store. Who may ask how often is decided at the gateway, which knows who asks.
//!
//! Deliberately absent: hiding from the operator which numbers are asked about. That takes an enclave or a private
//! set intersection, and neither is cheap on the day when everybody uploads an address book.

mod config;
mod grpc;
mod lookup;
mod metrics;

use std::sync::Arc;

use prometheus::Registry;
use spillway_api::internal::v1::directory_server::DirectoryServer;
use spillway_store::Directory as DirectoryStore;
use spillway_types::Pepper;

pub use config::{Config, ConfigError};

use crate::metrics::Metrics;

/// What the role works with.
#[derive(Debug)]
pub struct Deps {
    pub directory: Arc<dyn DirectoryStore>,
    /// The one under which the registration role stores numbers.
    pub pepper: Pepper,
    pub registry: Registry,
}

/// The role.
#[derive(Debug)]
pub struct Directory {
    config: Config,
    directory: Arc<dyn DirectoryStore>,
    pepper: Pepper,
    metrics: Metrics,
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
    /// # Errors
    ///
    /// When a setting cannot work, or the registry already has this role's metrics.
    pub fn new(config: Config, deps: Deps) -> Result<Self, BuildError> {
        config.check()?;
        let metrics = Metrics::register(&deps.registry)?;
        Ok(Self { config, directory: deps.directory, pepper: deps.pepper, metrics })
    }

    /// The service, with its limits on the size of messages.
    pub fn into_server(self) -> DirectoryServer<Self> {
        // A number has at most 16 bytes and two of framing; a match adds an account id and the framing of three fields.
        let request_bytes_max = 32 * self.config.numbers_max;
        let reply_bytes_max = 64 * self.config.numbers_max;
        DirectoryServer::new(self)
            .max_decoding_message_size(request_bytes_max.max(MESSAGE_BYTES_MIN))
            .max_encoding_message_size(reply_bytes_max.max(MESSAGE_BYTES_MIN))
    }
}

/// Below this a limit would refuse an address book for one long entry, and save nothing.
const MESSAGE_BYTES_MIN: usize = 64 * 1024;
