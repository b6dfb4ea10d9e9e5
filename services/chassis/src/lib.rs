//! What every Spillway process shares: owned tasks, an ordered drain, signals, telemetry, health, the admin port
//! and configuration loading.
//!
//! Nothing here is global except what the operating system makes so (signal handlers, the panic hook and the
//! tracing subscriber, each installed by the binary alone), so many nodes can run in one test process. No gRPC and
//! no business rule lives here.
//!
//! A binary puts the parts together in this order:
//!
//! ```no_run
//! # use spillway_chassis::{*, signals::StopSignals, telemetry::{self, TelemetryConfig}};
//! # use std::time::Duration;
//! # async fn run(listener: tokio::net::TcpListener) -> Result<u8, Box<dyn std::error::Error>> {
//! let attributes = traces::Attributes { version: "1.0", instance: "node-1".to_owned() };
//! let log_level = telemetry::init(&TelemetryConfig::default(), attributes)?;
//! let tasks = Tasks::new();
//! let signals = StopSignals::of_process()?;
//! let mut drain = Drain::new(&tasks);
//! let health = Health::new(drain.handle());
//! let registry = prometheus::Registry::new();
//! let sessions = tasks.child();
//! // Roles are built here: each registers its health components and spawns on its own group.
//! AdminServer::new(health, drain.handle(), registry, log_level).serve(listener, &tasks)?;
//! drain.step_tasks("sessions", Duration::from_secs(20), sessions);
//! drain.step_tasks("everything else, admin port included", Duration::from_secs(2), tasks);
//! Ok(drain.run(signals).await.code())
//! # }
//! ```

pub mod admin;
pub mod config;
mod drain;
pub mod exemplars;
mod fatal;
mod health;
pub mod metrics;
pub mod outbound;
pub mod signals;
mod tasks;
pub mod telemetry;
pub mod traces;

pub use admin::{AdminConfig, AdminServer};
pub use drain::{Drain, DrainHandle, Exit, Phase};
pub use fatal::Fatal;
pub use health::{Component, Condition, Health, HealthReport, HealthWatch};
pub use tasks::{StillRunning, Tasks};
