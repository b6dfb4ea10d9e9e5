//! Overload controllers in virtual time.

mod client;
mod cpu;
mod events;
mod fault;
mod measure;
mod plan;
mod policy;
mod random;
mod slab;
mod station;
mod time;
mod world;

pub use client::Cohort;
pub use fault::Fault;
pub use policy::{Law, Policy};
pub use time::Nanos;
