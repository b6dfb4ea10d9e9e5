//! The composer: which roles run in this process, and how they reach each other.
//!
//! Tests build the same [`App`] as the binary. It holds no rule of its own: [`Config`] puts the crates' settings
//! together, [`App::build`] the roles, and `wiring` alone knows where a role lives.

mod app;
pub mod cli;
mod config;
mod descriptors;
mod listeners;
mod memory;
mod secrets;
mod wiring;

pub use app::{App, BuildError};
pub use config::{Config, ConfigProblem, ListenConfig, NodeConfig, ProviderConfig, ProviderKind};
pub use listeners::{Addresses, Listeners, ListenersError};
pub use secrets::SecretsError;
