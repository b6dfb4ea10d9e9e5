//! One run on several machines: a coordinator who plans and judges, and workers who play a part each (loadtest/surge/docs/workers.md).
//!
//! [`Part`] says what is whose. [`wire`] has the words, [`Link`] carries them over a NATS server of the load tool's own, and [`Spool`] sees to it that
//! each second is counted once. A worker keeps a run folder like any run and tells what it writes there ([`Tie`], `worker`); the coordinator
//! (`run::coordinate`, [`Staff`]) adds it up as `surge merge` adds up the folders, so a coordinator that is gone can be made up for.
//! [`Crossings`] put together what two workers saw of one message.

mod clock;
mod crossing;
mod error;
mod link;
mod local;
mod login;
mod part;
mod session;
mod spool;
mod staff;
mod tie;
pub mod wire;
mod worker;

pub use clock::{Offset, PINGS, Ping};
pub use crossing::{Crossing, Crossings, Seen};
pub use error::WorkersError;
pub use link::{Link, LinkError};
pub(crate) use local::{LocalWorkers, OwnNats};
pub(crate) use login::Login;
pub use part::Part;
pub(crate) use session::Session;
pub use spool::{Heard, Spool};
pub(crate) use staff::{LOOK_EVERY, Seconds, Staff, Worker, check_people, lag_of, offered_of};
pub use tie::Tie;
pub use wire::{Inheritance, Progressed};
pub(crate) use worker::{hash_of, work};
