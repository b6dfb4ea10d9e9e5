//! Other systems under the same schedule, so that a comparison is fair.
//!
//! A [`Peer`] is driven by what drives Spillway: the same arrivals, latency from the same planned moment, the same people with the
//! same payloads, the same ledger and the same report. What differs is what a person's session is made of, and that is all
//! that a peer implements. What decides whether two figures may be set beside each other, the durability of an acknowledgement above all, is
//! found out from the running system where it tells, and said in its [`Terms`]. What a peer has no equal of is refused before
//! the run ([`check`]).

mod address;
#[cfg(test)]
mod conformance;
mod error;
#[cfg(test)]
mod fake;
mod life;
mod nats;
mod playable;
mod postgres;
mod table;
mod terms;
mod user;
mod xmpp;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use spillway_types::Guid;

pub use address::{Address, AddressError, System, redacted};
pub use error::{Cause, PeerError};
pub(crate) use life::{PeerLife, join};
pub use playable::{NotPlayable, check, playable};
pub use table::{Side, rules, table};
pub use terms::{CLASS_KEY, Class, DOES_NOT_KEY, Durability, Terms};
pub(crate) use user::PeerUser;

/// A system that is not Spillway, ready for a run. What it makes there has the run's name, and is its own.
#[async_trait]
pub trait Peer: Debug + Send + Sync {
    fn terms(&self) -> &Terms;

    /// Gives person `index` whatever an account is there. Again is no error.
    async fn sign_up(&self, index: u32) -> Result<(), PeerError>;

    /// Opens that person's session.
    async fn open(&self, index: u32) -> Result<Session, PeerError>;

    /// Takes away what the run made there, for the people below `people`.
    async fn clear(&self, people: u32) -> Result<(), PeerError>;
}

/// Somebody who is online: both ways end when they are dropped.
#[derive(Debug)]
pub struct Session {
    pub outgoing: Arc<dyn Outgoing>,
    pub incoming: Box<dyn Incoming>,
}

#[async_trait]
pub trait Outgoing: Debug + Send + Sync {
    /// Resolves when the system has said that the message is safe with it.
    async fn send(&self, to: u32, id: Guid, content: Vec<u8>) -> Result<(), PeerError>;
}

#[async_trait]
pub trait Incoming: Debug + Send {
    /// Waits for the next message. Cancel-safe. After an error the session is over.
    async fn next(&mut self) -> Result<Mail, PeerError>;

    /// Tells the system that the last message was taken, and need not come again. To be called before the next one is asked for.
    async fn ack(&mut self) -> Result<(), PeerError>;
}

/// A message that arrived.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The same when it comes again. `None`: it is from somebody else.
    pub id: Option<Guid>,
    pub content: Bytes,
}

/// Connects to a system and makes there what `run` needs.
///
/// # Errors
///
/// When it does not answer, or cannot do what is needed of it.
pub async fn connect(address: &Address, run: u64, admin: &[String]) -> Result<Arc<dyn Peer>, PeerError> {
    Ok(match address.system() {
        System::Nats => Arc::new(nats::Nats::connect(address, run, admin).await?),
        System::Postgres => Arc::new(postgres::Postgres::connect(address, run).await?),
        System::Xmpp => Arc::new(xmpp::Xmpp::connect(address, run).await?),
    })
}
