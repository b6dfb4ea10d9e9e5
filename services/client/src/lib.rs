//! The reference client: how a device should speak to Spillway.
//!
//! It waits for its turn in the waiting room, signs up, keeps its identity, sends with a guid so that repeating is safe, retries only what may be retried and
//! no more than a budget allows, comes back when it was told to, keeps to itself what it was told would be refused, has fewer calls under
//! way while it is not answered, and drops messages that it has seen.
//!
//! It does no cryptography but for its place in the room: envelopes go in and come out opaque. It starts no tasks: whoever awaits drives it.

mod addresses;
mod attest;
mod call;
mod connect;
mod cooperation;
mod dedup;
mod door;
mod identity;
mod meter;
mod send;
mod session;
mod sign_up;

pub use attest::Attest;
pub use call::CallError;
pub use connect::{Client, ClientConfig, ConnectError};
pub use dedup::Dedup;
pub use door::{Admission, DeviceSecret, Place, Standing, Wait};
pub use identity::Identity;
pub use meter::Meter;
pub use send::{Outgoing, Sent};
pub use session::{Delivery, Session, SessionEvent, SessionHandle, SessionOpen};
pub use sign_up::{Enrolled, NewDevice, Verification};
pub use spillway_admission::RetryPolicy;
