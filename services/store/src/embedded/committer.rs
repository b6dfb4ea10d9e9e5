//! Group commit: one thread that does all writing.
//!
//! The thread takes what is queued, runs it against one transaction, syncs, and only then answers. fjall holds its
//! journal's lock through a sync, so a second thread would only wait for the first.
//!
//! A write that lost its caller is still run whole: dropping the future that waits for the answer cancels nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use fjall::SingleWriterWriteTx;
use spillway_types::Clock;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::config::Config;
use super::failure::Failure;
use super::graves::Graves;
use super::metrics::{Metrics, Operation};
use super::space::Space;
use super::tables::Tables;
use super::transaction::Transaction;
use crate::StoreError;

/// Writes that may wait for their group to begin; more wait in their callers.
pub(super) const QUEUE_MAX: usize = 4_096;
/// Writes in a group. An fsync shared by so many costs each next to nothing, and a larger group would only make the
/// first wait for the last.
const GROUP_MAX: usize = 1_024;
/// What a group may add to the journal, approximately.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A group smaller than this is not worth a pause.
const COMPANY_MIN: usize = 4;
/// What PostgreSQL calls `commit_delay`: a few fsyncs of a good disk, so that their time is spent on one that several
/// times as many share. Under load the processor time of the spared syncs is worth more than the pause costs.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes a group durable.
pub(super) type Commit = Box<dyn FnMut(SingleWriterWriteTx<'_>) -> fjall::Result<()> + Send>;

pub(super) fn durable() -> Commit {
    Box::new(|group| group.commit())
}

pub(super) enum Message {
    Write(Box<dyn Write>),
    Close,
}

/// A write in the queue, then in a group.
pub(super) trait Write: Send {
    fn operation(&self) -> Operation;
    /// What it adds to the journal, approximately.
    fn bytes(&self) -> usize;
    fn refuse(&mut self, error: StoreError);
    fn run(&mut self, transaction: &mut Transaction<'_>);
    /// Called when the group is durable. A write that is dropped without an answer tells its caller so.
    fn answer(self: Box<Self>, metrics: &Metrics);
}

pub(super) struct Committer {
    tables: Arc<Tables>,
    messages: mpsc::Receiver<Message>,
    commit: Commit,
    group: Vec<Box<dyn Write>>,
    last_group: usize,
    graves: Graves,
    space: Space,
    metrics: Arc<Metrics>,
}

impl Committer {
    pub(super) fn new(
        tables: Arc<Tables>,
        messages: mpsc::Receiver<Message>,
        commit: Commit,
        config: &Config,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let space = Space::new(tables.path().to_owned(), config.reserve_bytes);
        let group = Vec::with_capacity(GROUP_MAX);
        Self { tables, messages, commit, group, last_group: 0, graves: Graves::new(clock), space, metrics }
    }

    /// Runs until the store is closed or has failed.
    pub(super) fn run(mut self, failed: &watch::Sender<Option<Failure>>) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.commit_groups()));
        let failure = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => Failure::of_commit(self.tables.path(), error),
            Err(_) => Failure::Panicked { path: self.tables.path().to_owned() },
        };
        // Told before the waiting writes are dropped with `self`, so that their callers find the reason.
        failed.send_replace(Some(failure));
    }

    fn commit_groups(&mut self) -> fjall::Result<()> {
        while self.gather() {
            self.commit_group()?;
        }
        Ok(())
    }

    /// Waits for a write and takes along what is queued behind it. False when the store is closed and the queue empty.
    fn gather(&mut self) -> bool {
        self.wait_for_company();
        let mut bytes = 0;
        while self.group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
            let message = if self.group.is_empty() {
                self.messages.blocking_recv()
            } else {
                self.messages.try_recv().ok()
            };
            match message {
                Some(Message::Write(write)) => {
                    bytes += write.bytes();
                    self.group.push(write);
                }
                // What was queued before this is still received.
                Some(Message::Close) => self.messages.close(),
                None => break,
            }
        }
        !self.group.is_empty()
    }

    /// Callers whose writes have just been answered come back with the next ones a moment later. Without a pause they
    /// fall into two halves that take turns, and every sync is shared by half as many. A lone caller is not delayed.
    fn wait_for_company(&self) {
        if self.last_group >= COMPANY_MIN && self.messages.len() < self.last_group {
            std::thread::sleep(PAUSE);
        }
    }

    fn commit_group(&mut self) -> fjall::Result<()> {
        self.last_group = self.group.len();
        self.metrics.group(self.group.len(), self.messages.len());
        let has_room = self.space.has_room(&self.metrics);
        let began = Instant::now();
        let mut transaction = Transaction::begin(&self.tables, &mut self.graves);
        for write in &mut self.group {
            if has_room || !write.operation().needs_room() {
                write.run(&mut transaction);
            } else {
                write.refuse(StoreError::DiskFull);
            }
        }
        transaction.commit(&mut self.commit)?;
        self.metrics.committed(began.elapsed());
        for write in self.group.drain(..) {
            write.answer(&self.metrics);
        }
        Ok(())
    }
}

/// A write whose caller waits for a `T`.
pub(super) struct Pending<T, F> {
    operation: Operation,
    bytes: usize,
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Pending<T, F>
where
    T: Send,
    F: FnOnce(&mut Transaction<'_>) -> Result<T, StoreError> + Send,
{
    pub(super) fn new(
        operation: Operation,
        bytes: usize,
        work: F,
    ) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (caller, answer) = oneshot::channel();
        (Self { operation, bytes, work: Some(work), result: None, caller }, answer)
    }
}

impl<T, F> Write for Pending<T, F>
where
    T: Send,
    F: FnOnce(&mut Transaction<'_>) -> Result<T, StoreError> + Send,
{
    fn operation(&self) -> Operation {
        self.operation
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn refuse(&mut self, error: StoreError) {
        self.result = Some(Err(error));
    }

    fn run(&mut self, transaction: &mut Transaction<'_>) {
        if let Some(work) = self.work.take() {
            self.result = Some(work(transaction));
        }
    }

    fn answer(self: Box<Self>, metrics: &Metrics) {
        if let Some(result) = self.result {
            metrics.answered(self.operation, result.as_ref().map(|_| ()));
            // A caller that left does not need the answer; the write is done all the same.
            drop(self.caller.send(result));
        }
    }
}
