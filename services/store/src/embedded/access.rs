//! How the traits' implementations reach the tables: reads on the caller's side, writes through the commit thread.

use std::fmt;
use std::sync::{Arc, Weak};

use tokio::sync::{mpsc, watch};

use super::committer::{Message, Pending};
use super::failure::Failure;
use super::metrics::{Metrics, Operation};
use super::tables::Tables;
use super::transaction::Transaction;
use crate::{StoreError, Writes};

#[derive(Clone)]
pub(super) struct Access {
    /// The commit thread has the lasting reference; a reader holds one while it reads.
    tables: Weak<Tables>,
    queue: mpsc::Sender<Message>,
    metrics: Arc<Metrics>,
    writes: Writes,
    failure: watch::Receiver<Option<Failure>>,
}

impl Access {
    pub(super) fn new(
        tables: &Arc<Tables>,
        queue: mpsc::Sender<Message>,
        metrics: Arc<Metrics>,
        writes: Writes,
        failure: watch::Receiver<Option<Failure>>,
    ) -> Self {
        Self { tables: Arc::downgrade(tables), queue, metrics, writes, failure }
    }

    /// For reads of a few keys. They run on the caller's thread: nearly always all is in memory, and the rare block
    /// that is not costs one disk read, which is less than handing the work to another thread and back would cost
    /// every time.
    pub(super) fn tables(&self) -> Result<Arc<Tables>, StoreError> {
        self.tables.upgrade().ok_or_else(|| self.stopped())
    }

    /// For scans and long lists of keys, which may read many blocks and are kept off the runtime's threads.
    pub(super) async fn scan<T, F>(&self, scan: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Tables) -> Result<T, StoreError> + Send + 'static,
    {
        let tables = self.tables()?;
        match tokio::task::spawn_blocking(move || scan(&tables)).await {
            Ok(result) => result,
            // The runtime is shutting down, or the scan panicked.
            Err(error) => Err(StoreError::Unavailable(Arc::new(error))),
        }
    }

    /// Queues a write and waits until its group is durable. `bytes` is what it adds, approximately.
    pub(super) async fn write<T, F>(
        &self,
        operation: Operation,
        bytes: usize,
        work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let under_way = operation.written().map(|of| self.writes.begin(of));
        let result = self.commit(operation, bytes, work).await;
        if let Some(under_way) = under_way {
            under_way.end(&result);
        }
        result
    }

    async fn commit<T, F>(&self, operation: Operation, bytes: usize, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (pending, answer) = Pending::new(operation, bytes, work);
        let unanswered = || {
            let stopped = self.stopped();
            self.metrics.answered(operation, Err(&stopped));
            stopped
        };
        self.queue.send(Message::Write(Box::new(pending))).await.map_err(|_| unanswered())?;
        answer.await.unwrap_or_else(|_| Err(unanswered()))
    }

    fn stopped(&self) -> StoreError {
        let reason = match &*self.failure.borrow() {
            Some(failure) => failure.to_string(),
            None => "it was closed".to_owned(),
        };
        StoreError::Stopped(reason)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("failure", &*self.failure.borrow()).finish_non_exhaustive()
    }
}
