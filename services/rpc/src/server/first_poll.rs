//! Calls are polled for the first time where they arrive.
//!
//! hyper gives each call a task of its own. Most of what is answered from memory, refusals above all, is done at its first poll:
//! for those a task is an allocation, two ways through the scheduler, and often the waking of another thread, for nothing. So
//! the task that reads a connection polls what it has just read, all of it before it writes, so that the answers leave in one
//! write; only what has to wait for something becomes a task.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;

use super::quiet::Quiet;

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The calls of one connection that were read and not polled yet. Clones share them.
///
/// An executor for hyper, which must not be given work but by polling the connection: nobody looks for it otherwise. (What gives it
/// work at other times are upgrades of a CONNECT, to which no gRPC server agrees.)
#[derive(Clone, Default)]
pub(super) struct Arrived(Arc<Mutex<Vec<Call>>>);

impl<F> Executor<F> for Arrived
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        self.lock().push(Box::pin(call));
    }
}

impl Arrived {
    /// False when there were none.
    fn poll_all(&self, cx: &mut Context<'_>) -> bool {
        let mut calls = std::mem::take(&mut *self.lock());
        if calls.is_empty() {
            return false;
        }
        for mut call in calls.drain(..) {
            if call.as_mut().poll(cx).is_pending() {
                // Polled again at once by its own task, which it wakes from then on. The connection waits for it.
                TokioExecutor::new().execute(call);
            }
        }
        // For the next ones, without another allocation.
        let mut arrived = self.lock();
        if arrived.capacity() < calls.capacity() {
            calls.append(&mut arrived);
            *arrived = calls;
        }
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Call>> {
        // Whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection of hyper, with the calls that arrive on it.
pub(super) struct Driven<C> {
    pub(super) connection: Pin<Box<C>>,
    pub(super) arrived: Arrived,
    pub(super) quiet: Quiet,
}

impl<C: Future> Future for Driven<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.get_mut();
        loop {
            // Reads all that is there, and writes what there is to answer.
            if let Poll::Ready(outcome) = this.connection.as_mut().poll(cx) {
                // Who called and left: what he asked for is begun all the same, as it would have been a moment earlier.
                this.arrived.poll_all(cx);
                return Poll::Ready(outcome);
            }
            let arrived = this.arrived.poll_all(cx);
            this.quiet.polled();
            if !arrived {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::sync::oneshot;

    use super::*;

    /// Begins these calls when it is polled first, and then only counts.
    fn connection(
        arrived: &Arrived,
        calls: Vec<Call>,
        polls: &Arc<AtomicU32>,
    ) -> Driven<impl Future<Output = ()>> {
        let (of, polls, mut calls) = (arrived.clone(), Arc::clone(polls), Some(calls));
        let connection = Box::pin(poll_fn(move |_cx| {
            polls.fetch_add(1, Relaxed);
            for call in calls.take().into_iter().flatten() {
                of.execute(call);
            }
            Poll::Pending
        }));
        Driven { connection, arrived: arrived.clone(), quiet: Quiet::new() }
    }

    fn tasks() -> usize {
        tokio::runtime::Handle::current().metrics().num_alive_tasks()
    }

    #[tokio::test]
    async fn what_is_done_at_once_is_no_task_and_all_of_it_is_written_together() {
        let (arrived, polls, done) =
            (Arrived::default(), Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let call = || -> Call {
            let done = Arc::clone(&done);
            Box::pin(async move { _ = done.fetch_add(1, Relaxed) })
        };
        let mut driven = connection(&arrived, (0..8).map(|_| call()).collect(), &polls);
        assert!(futures::poll!(&mut driven).is_pending());
        assert_eq!((done.load(Relaxed), tasks()), (8, 0));
        assert_eq!(polls.load(Relaxed), 2, "to read them, and to write the answers");
    }

    #[tokio::test]
    async fn what_has_to_wait_goes_on_without_its_connection() {
        let (arrived, polls) = (Arrived::default(), Arc::default());
        let ((release, released), (tell, told)) = (oneshot::channel::<()>(), oneshot::channel());
        let waits: Call = Box::pin(async move {
            released.await.unwrap();
            tell.send(()).unwrap();
        });
        let mut driven = connection(&arrived, vec![waits, Box::pin(pending())], &polls);
        assert!(futures::poll!(&mut driven).is_pending());
        assert_eq!(tasks(), 2);
        drop(driven);
        release.send(()).unwrap();
        told.await.unwrap();
    }
}
