//! One list of cases, run over both homes of a service, and what only a socket can do.

#![allow(clippy::unwrap_used, reason = "a test may end anywhere")]

#[path = "all/deadline.rs"]
mod deadline;
#[path = "all/homes.rs"]
mod homes;
#[path = "all/metrics.rs"]
mod metrics;
#[path = "all/port.rs"]
mod port;
#[path = "all/tls.rs"]
mod tls;
#[path = "all/world.rs"]
mod world;
