//! Roles in processes of their own, over a real NATS and a real CQL database that tests share.
//!
//! Every fleet has keyspaces, subjects and a stream of its own, which go when it goes. What happens when processes
//! or servers die under load is elsewhere.

/// Money for codes, shared by processes.
mod budget;
/// One statement at a time, without a driver.
mod cql;
mod drain;
/// What cannot work, and what is said about it.
mod errors;
/// A port that somebody listens on later.
mod gate;
mod member;
/// What is watched.
mod metrics;
/// From one process to a fleet.
mod migration;
/// A NATS server with settings of its own.
mod own_nats;
/// `spillway schema`.
mod schema;
pub(crate) mod site;
/// One trace through several processes.
mod traces;
/// Before its servers are there.
mod waiting;
/// What people do, through processes of one role each.
mod whole_path;
