//! What one subscriber has not read yet.
//!
//! A publisher never waits: when a queue is at its bound, the hint is dropped and the subscriber is told once, at the
//! place of the gap. There is no buffer until the first hint, and none again after the last, because a process holds
//! a queue for every connected device and nearly all of them are empty.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::Event;

/// What a subscriber may leave unread, in hints.
pub(crate) const QUEUE_HINTS_MAX: usize = 64;

/// And in bytes: a hint may carry a message of 64 KiB, and 64 of those for each slow device would be no bound.
pub(crate) const QUEUE_BYTES_MAX: usize = 256 * 1024;

#[derive(Default)]
pub(crate) struct Queue(Mutex<QueueState>);

#[derive(Default)]
struct QueueState {
    hints: VecDeque<Bytes>,
    bytes: usize,
    /// Hints were dropped after the queued ones. Until the subscriber has been told, the rest is dropped too: its look
    /// at the store comes after that, and covers them.
    lagged: bool,
    closed: bool,
    /// The subscriber, while it waits. One is enough, since `next` takes the subscription exclusively.
    waiting: Option<Waker>,
}

impl Queue {
    /// Answers with whom to wake.
    pub(crate) fn push(&self, hint: &Bytes) -> Option<Waker> {
        let mut state = lock(&self.0);
        if state.lagged {
            return None;
        }
        // A large hint goes through when it is alone: whispers are not stored, so a look at the store cannot replace one.
        let too_many_bytes = !state.hints.is_empty() && state.bytes + hint.len() > QUEUE_BYTES_MAX;
        if state.hints.len() == QUEUE_HINTS_MAX || too_many_bytes {
            state.lagged = true;
        } else {
            state.bytes += hint.len();
            state.hints.push_back(hint.clone());
        }
        state.waiting.take()
    }

    pub(crate) fn close(&self) -> Option<Waker> {
        let mut state = lock(&self.0);
        state.closed = true;
        state.waiting.take()
    }

    /// Marks a gap where hints may have been lost on their way here. Answers with whom to wake.
    pub(crate) fn lag(&self) -> Option<Waker> {
        let mut state = lock(&self.0);
        state.lagged = true;
        state.waiting.take()
    }

    /// One at a time. Cancel-safe. `None`: closed, and everything was read.
    pub(crate) async fn next(&self) -> Option<Event> {
        poll_fn(|cx| self.poll(cx.waker())).await
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        lock(&self.0).hints.capacity()
    }

    fn poll(&self, waker: &Waker) -> Poll<Option<Event>> {
        let mut state = lock(&self.0);
        if let Some(hint) = state.hints.pop_front() {
            state.bytes -= hint.len();
            if state.hints.is_empty() {
                state.hints = VecDeque::new();
            }
            Poll::Ready(Some(Event::Hint(hint)))
        } else if mem::take(&mut state.lagged) {
            Poll::Ready(Some(Event::Lagged))
        } else if state.closed {
            Poll::Ready(None)
        } else {
            match &mut state.waiting {
                Some(waiting) => waiting.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
            Poll::Pending
        }
    }
}

/// No code that can panic runs under these locks, so a poisoned one holds nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
