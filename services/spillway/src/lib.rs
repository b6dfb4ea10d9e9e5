//! The composer: which roles run in this process, and how they reach each other.
//!
//! Tests build the same [`App`] as the binary. It holds no rule of its own: [`Config`] puts the crates' settings
//! together, [`App::build`] the roles, and `wiring` alone knows where a role lives.

mod app;
mod beacon;
pub mod cli;
mod config;
mod descriptors;
mod listeners;
mod memory;
mod metrics;
mod overload;
mod secrets;
mod wiring;

pub use app::{App, BuildError, ReadConfig};
pub use config::{
    BusConfig, BusKind, Config, ConfigProblem, ListenConfig, NodeConfig, OverloadConfig, ProviderConfig,
    ProviderKind, Role, Roles, SecretsConfig, StoreConfig, StoreKind,
};
pub use listeners::{Addresses, Listeners, ListenersError, SandboxCodes};
pub use secrets::SecretsError;
