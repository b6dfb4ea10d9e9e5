//! The default store: one folder on this machine's disk, over fjall.
//!
//! All writes go through one thread, which commits them in groups ([`committer`]): a write is answered after the
//! fsync of its group. While one sync runs, the next group forms; under load a short pause lets more share it.
//!
//! Invariants:
//! - One process at a time has the folder, by a lock on a file in it.
//! - Every commit is synced before the next is written. So after a crash at most the last batch of the journal is
//!   torn, and nobody was told that it is durable; [`journal`] relies on that to tell a torn tail from damage.
//! - A commit that fails stops the store for good. What the kernel did with the pages of a failed fsync is unknown,
//!   so trying again could acknowledge what is not there. See "Can Applications Recover from fsync Failures?"
//!   (Rebello et al., USENIX ATC 2020).
//! - Readers hold the database only while they read, so that closing the store releases the folder.
//!
//! Deliberately not here: caches of values (fjall's block cache and memtables are enough), replication, backups.

mod access;
pub(crate) mod accounts;
pub(crate) mod codec;
mod committer;
mod config;
mod directory;
mod failure;
mod folder;
mod graves;
mod journal;
pub(crate) mod keys;
mod leases;
mod mailboxes;
mod memtables;
mod metrics;
pub(crate) mod scan;
mod space;
mod tables;
mod transaction;
pub(crate) mod verifications;

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;

use prometheus::Registry;
use spillway_types::Clock;
use tokio::sync::{mpsc, oneshot, watch};

pub use config::Config;
pub use failure::Failure;
pub use metrics::describe_metrics;

use crate::{OpenError, Store, Writes};
use access::Access;
use committer::{Commit, Committer, Message};
use folder::Folder;
use memtables::Freeing;
use metrics::Metrics;
use tables::Tables;

/// Owns an open store: dropping or closing it stops the writes and gives the folder back. Handles of the [`Store`]
/// may outlive it and then answer [`StoreError::Stopped`](crate::StoreError::Stopped).
#[must_use = "the store closes when its handle is dropped"]
pub struct EmbeddedHandle {
    stop: Option<Stop>,
    failure: watch::Receiver<Option<Failure>>,
    released: oneshot::Receiver<()>,
}

struct Stop {
    /// A place in the queue that is kept for the last message, so that stopping neither waits nor fails.
    last: mpsc::OwnedPermit<Message>,
    committing: JoinHandle<()>,
    freeing: Freeing,
}

impl Stop {
    /// Blocks until the writes that were queued are finished and neither thread has the folder.
    fn stop(self) {
        self.last.send(Message::Close);
        let joined = self.committing.join();
        debug_assert!(joined.is_ok(), "the commit thread catches its panics");
        self.freeing.stop();
    }
}

/// Opens the store in the folder of `config`, or makes a new one if the folder is empty or missing. Blocks while the
/// journal is replayed, which is bounded by the size of the journal and not of the store.
pub fn open(
    config: &Config,
    registry: &Registry,
    clock: Arc<dyn Clock>,
) -> Result<(Store, EmbeddedHandle), OpenError> {
    open_with(config, registry, clock, committer::durable())
}

/// `commit` is how a group becomes durable; tests pass one that fails.
fn open_with(
    config: &Config,
    registry: &Registry,
    clock: Arc<dyn Clock>,
    commit: Commit,
) -> Result<(Store, EmbeddedHandle), OpenError> {
    let folder = Folder::open(&config.path)?;
    let io = |source| OpenError::Io { path: config.path.clone(), source };
    let metrics = Arc::new(Metrics::register(registry).map_err(|error| io(error.into()))?);
    let (released_sender, released) = oneshot::channel();
    let tables = Arc::new(Tables::open(folder, config, released_sender)?);
    let freeing = Freeing::spawn(Arc::downgrade(&tables)).map_err(|error| io(error.into()))?;

    let (queue, messages) = mpsc::channel(committer::QUEUE_MAX);
    let last = queue.clone().try_reserve_owned().expect("the queue is new and empty");
    let (failed, failure) = watch::channel(None);
    let writes = Writes::default();
    let access = Access::new(&tables, queue, Arc::clone(&metrics), writes.clone(), failure.clone());
    let committer = Committer::new(tables, messages, commit, config, Arc::clone(&clock), metrics);
    let committing = std::thread::Builder::new()
        .name("store-commit".to_owned())
        .spawn(move || committer.run(&failed))
        .map_err(|error| io(error.into()))?;

    let store = Store {
        accounts: Arc::new(accounts::EmbeddedAccounts(access.clone())),
        keys: Arc::new(keys::EmbeddedKeys(access.clone())),
        verifications: Arc::new(verifications::EmbeddedVerifications(access.clone())),
        directory: Arc::new(directory::EmbeddedDirectory::new(access.clone(), Arc::clone(&clock))),
        leases: Arc::new(leases::EmbeddedLeases(access.clone())),
        mailboxes: Arc::new(mailboxes::EmbeddedMailboxes::new(access)),
        writes,
    };
    Ok((store, EmbeddedHandle { stop: Some(Stop { last, committing, freeing }), failure, released }))
}

impl EmbeddedHandle {
    /// Resolves when the store has stopped because of a failure, with the reason; never otherwise. The process
    /// should then exit: a restart finds everything that was acknowledged.
    pub fn failed(&self) -> impl Future<Output = Failure> + Send + 'static {
        let mut failure = self.failure.clone();
        async move {
            match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
                Ok(Some(failure)) => failure,
                _ => std::future::pending().await,
            }
        }
    }

    /// Finishes the writes that were queued, then releases the folder. Returns when another process could open it.
    pub async fn close(mut self) {
        if let Some(stop) = self.stop.take() {
            let stopped = tokio::task::spawn_blocking(move || stop.stop()).await;
            debug_assert!(stopped.is_ok(), "stopping does not panic");
        }
        // Reads that are under way keep the database open until they end. The sender never sends: it is dropped
        // with the last of them.
        (&mut self.released).await.unwrap_or_default();
    }
}

impl Drop for EmbeddedHandle {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.stop();
        }
    }
}

impl fmt::Debug for EmbeddedHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedHandle").field("failure", &*self.failure.borrow()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
