//! One list of cases, run over all homes of a service, and what only a socket or the bus can do.

#![allow(clippy::unwrap_used, reason = "a test may end anywhere")]

#[path = "all/admission.rs"]
mod admission;
#[path = "all/bus.rs"]
mod bus;
#[path = "all/deadline.rs"]
mod deadline;
#[path = "all/homes.rs"]
mod homes;
#[path = "all/metrics.rs"]
mod metrics;
#[path = "all/port.rs"]
mod port;
#[path = "all/proxy.rs"]
mod proxy;
#[path = "all/tls.rs"]
mod tls;
#[path = "all/world.rs"]
mod world;
