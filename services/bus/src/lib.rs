//! Hints between roles. A hint is never the truth: every one of them may be lost, and then mail is late and not lost.
//!
//! [`LocalBus`] connects the roles of one process, [`nats::NatsBus`] those of a fleet. `conformance` holds the cases that every implementation runs.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod local;
pub mod nats;
mod queue;
mod subject;
pub mod work;

use async_trait::async_trait;
use bytes::Bytes;

pub use local::LocalBus;
pub use subject::Subject;

/// Why a hint could not be given to the bus.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BusError {
    #[error("the bus is not connected")]
    Disconnected,
    /// The server takes hints more slowly than this process makes them.
    #[error("too many hints wait to leave this process")]
    Full,
    #[error("the hint is larger than the bus carries")]
    TooLarge,
    #[error("the bus does not permit this process to subscribe to that")]
    Refused,
}

/// What a subscriber gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Hint(Bytes),
    /// Hints were dropped, because this subscriber was slow or the connection was lost: look at the store.
    Lagged,
}

/// One subject's hints. Dropping it ends the interest.
#[async_trait]
pub trait Subscription: std::fmt::Debug + Send + 'static {
    /// Waits for the next event. Cancel-safe. `None`: the bus has closed.
    async fn next(&mut self) -> Option<Event>;
}

#[async_trait]
pub trait Bus: std::fmt::Debug + Send + Sync {
    /// Gives a hint to whoever is interested now. Does not wait for them, and does not say whether there were any.
    async fn publish(&self, subject: Subject, hint: Bytes) -> Result<(), BusError>;

    /// When this answers, hints published from then on reach the subscription, unless they are lost. A hint published
    /// just before may arrive as well.
    async fn subscribe(&self, subject: Subject) -> Result<Box<dyn Subscription>, BusError>;
}
