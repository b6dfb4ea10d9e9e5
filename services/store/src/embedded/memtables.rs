//! Frees flushed memtables where nobody waits for it.
//!
//! fjall (3.1.13, lsm-tree 3.1.10, `SuperVersions::maintenance`) drops the last reference to a memtable while it holds
//! the lock that every read and write of the table takes. A memtable of messages has some 100,000 keys and values to
//! free, one by one: 37 ms were measured, several times as long as a commit. So a thread of ours holds a reference to
//! each memtable for as long as fjall does, and a little longer.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fjall::AbstractTree;

use super::tables::Tables;

/// Much shorter than the time in which a memtable fills up, so that none is missed. One that is missed costs a pause
/// and nothing else.
const INTERVAL: Duration = Duration::from_millis(250);

/// The thread that frees. It holds the tables for moments, and with them the folder, so closing the store ends it.
pub(super) struct Freeing {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Freeing {
    pub(super) fn spawn(tables: Weak<Tables>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::sync_channel(0);
        let thread = thread::Builder::new().name("store-free".to_owned()).spawn(move || {
            run(&tables, || stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout));
        })?;
        Ok(Self { stop, thread })
    }

    pub(super) fn stop(self) {
        drop(self.stop);
        let joined = self.thread.join();
        debug_assert!(joined.is_ok(), "nothing here panics");
    }
}

/// `wait` waits for the interval, or says that it is over.
fn run(tables: &Weak<Tables>, wait: impl Fn() -> bool) {
    let mut held = Vec::new();
    while let Some(tables) = tables.upgrade() {
        for table in tables.all() {
            let active = table.inner().tree.active_memtable();
            if !held.iter().any(|memtable| Arc::ptr_eq(memtable, &active)) {
                held.push(active);
            }
        }
        // Closing the store waits for whoever has the tables.
        drop(tables);
        if !wait() {
            break;
        }
        held.retain(|memtable| Arc::strong_count(memtable) > 1);
    }
}
