//! Real processes on this machine: NATS, Cassandra and Spillway's roles, started, stopped, killed and frozen for
//! people (`cargo xtask fleet`), for load runs and for tests.
//!
//! Everything of a fleet is in one folder: `fleet.json` (what belongs to it and how each process is started), `run/`
//! (which process runs, see [`process`]), `logs/`, `settings/`, `data/`. Who holds only the folder can attach, look and
//! stop. Ports are fixed when a fleet is planned, so that a process comes back where it was.
//!
//! A process ends with its owner, whatever ends the owner, until [`Fleet::detach`] lets it go. Linux only, because it
//! reads `/proc`. Deliberately not here: building binaries, and anything on other machines.

mod cache;
mod cassandra;
mod fleet;

mod java;
mod lifeline;
mod nats;
mod node;
mod ports;
mod probe;
pub mod process;
mod roles;
mod spec;

pub use cache::{Cache, FetchError};
pub use cassandra::{CassandraSpec, CommitlogSync};
pub use fleet::{Down, Fleet, FleetError};
pub use nats::NatsSpec;
pub use node::{Node, NodeError, NodeKind, NodePlan, Probe, Readiness};
pub use ports::PortError;
pub use probe::{get as http_get, put as http_put};
pub use process::{Ended, Process, ProcessError, Signal};
pub use roles::Role;
pub use spec::{BackEnd, FleetSpec};
