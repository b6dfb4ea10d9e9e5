//! The bus over real servers.

#![allow(clippy::unwrap_used, reason = "a test may end anywhere")]

#[path = "all/hints.rs"]
mod hints;
#[path = "all/permissions.rs"]
mod permissions;
#[path = "all/proxy.rs"]
mod proxy;
#[path = "all/server.rs"]
mod server;
