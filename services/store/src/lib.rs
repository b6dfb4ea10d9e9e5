//! What Spillway keeps. The only crate that may depend on a database.
//!
//! One trait per owner; the semantics are in their docs, and [`conformance`] checks them for every implementation.
//! [`embedded`] is the default: one folder on this machine's disk. [`cql`] is for a fleet: ScyllaDB or Cassandra.
//!
//! Invariants:
//! - A write that was answered is durable: it survives `kill -9` and, as far as the disk tells the truth, loss of power.
//! - Every write is idempotent or conditional on a version, so that a caller who got no answer may repeat it.
//! - No phone number, credential or code is stored; only keyed hashes of them.

pub mod accounts;
pub mod directory;
mod error;
pub mod keys;
pub mod leases;
pub mod mailboxes;
pub mod transfer;
pub mod verifications;
mod writes;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod cql;
pub mod embedded;

use std::sync::Arc;

pub use accounts::Accounts;
pub use directory::Directory;
pub use error::{OpenError, StoreError};
pub use keys::Keys;
pub use leases::Leases;
pub use mailboxes::Mailboxes;
pub use verifications::Verifications;
pub use writes::{WriteTotals, Writes, Written};

/// The outcome of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Cas {
    Applied,
    /// The stored version is another. Read again and decide again.
    Conflict,
}

/// Handles to one store, a field for each owner.
#[derive(Clone, Debug)]
pub struct Store {
    pub accounts: Arc<dyn Accounts>,
    pub keys: Arc<dyn Keys>,
    pub verifications: Arc<dyn Verifications>,
    pub directory: Arc<dyn Directory>,
    pub leases: Arc<dyn Leases>,
    pub mailboxes: Arc<dyn Mailboxes>,
    /// How what is written through these handles fares.
    pub writes: Writes,
}
