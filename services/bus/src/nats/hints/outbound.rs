//! Hints that go out.
//!
//! A publisher appends to a buffer, and the link writes what has gathered there in one piece: no task and no wait for
//! each hint. When the buffer is full the hint is dropped and counted. What comes while the connection is away waits in it,
//! because the receivers' connections may be well, and they would not look for what they were not told of.
//!
//! What a connection had taken when it broke may be lost, and no receiver would learn of that, since its own connection
//! is well. So what was written is kept until the server has confirmed a later second's PING, and written again after
//! a reconnect. Receivers may get a hint twice by that; hints are made for it.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::link::{Link, Ping};
use super::metrics::Metrics;
use super::protocol::{self, Message, ServerInfo};
use super::session::{Denial, Traffic};
use super::subjects::Subjects;
use crate::queue::lock;
use crate::{BusError, Subject};

/// What may wait to be written, and what is kept in case it must be written again: half a second at 100,000 small hints
/// a second, or 64 of the largest.
const BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Less than this waiting to be written, and the link gets more.
const UNSENT_BYTES_LOW: usize = 256 * 1024;

/// A hint from before this is not worth writing again. It covers the time in which a dead connection is noticed.
const REPLAY_AGE_MAX: Duration = Duration::from_secs(60);

pub(super) struct Outbound {
    subjects: Arc<Subjects>,
    buffer: Mutex<Buffer>,
    wake: Arc<Notify>,
    metrics: Metrics,
}

#[derive(Default)]
struct Buffer {
    connected: bool,
    /// Of the server that we are, or were, connected to; 0 before.
    payload_bytes_max: usize,
    bytes: BytesMut,
    /// Hints in `bytes`, and when the first of them came.
    hints: u64,
    since: Option<Instant>,
}

impl Outbound {
    pub(super) fn new(subjects: Arc<Subjects>, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { subjects, buffer: Mutex::default(), wake: Arc::default(), metrics })
    }

    pub(super) fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    pub(super) fn publish(&self, subject: &Subject, hint: &[u8]) -> Result<(), BusError> {
        let name = self.subjects.name(subject);
        let mut buffer = lock(&self.buffer);
        let aged = buffer.forget_aged();
        let outcome = buffer.push(&name, hint);
        drop(buffer);
        self.metrics.dropped_disconnected.inc_by(aged);
        match &outcome {
            Ok(()) => {
                self.metrics.outward.hints.inc();
                self.wake.notify_one();
            }
            Err(BusError::TooLarge) => self.metrics.dropped_too_large.inc(),
            Err(BusError::Full) => self.metrics.dropped_full.inc(),
            Err(_) => self.metrics.dropped_disconnected.inc(),
        }
        outcome
    }
}

impl Buffer {
    fn push(&mut self, name: &str, hint: &[u8]) -> Result<(), BusError> {
        if self.payload_bytes_max == 0 {
            return Err(BusError::Disconnected);
        }
        if hint.len() > self.payload_bytes_max {
            return Err(BusError::TooLarge);
        }
        if self.bytes.len() + hint.len() > BUFFER_BYTES_MAX {
            return Err(BusError::Full);
        }
        protocol::publish(name, hint, &mut self.bytes);
        self.hints += 1;
        self.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// What has waited too long for a connection, so that something newer may wait. How many hints that were.
    fn forget_aged(&mut self) -> u64 {
        if self.connected || self.since.is_none_or(|since| since.elapsed() <= REPLAY_AGE_MAX) {
            return 0;
        }
        let hints = self.hints;
        drop(self.take());
        hints
    }

    // Not `split`, which would keep the largest allocation of all times.
    fn take(&mut self) -> Bytes {
        (self.hints, self.since) = (0, None);
        mem::take(&mut self.bytes).freeze()
    }
}

/// The link's side of [`Outbound`].
pub(super) struct OutboundTraffic {
    outbound: Arc<Outbound>,
    written: Written,
    /// What this connection has to write again before anything else.
    replay: Vec<Bytes>,
    denied: bool,
}

/// What may have to be written again, oldest first.
#[derive(Debug, Default)]
struct Written {
    batches: VecDeque<Batch>,
    bytes: usize,
    /// PINGs that have been sent after batches, and PONGs to them.
    pings: u64,
    pongs: u64,
}

#[derive(Debug)]
struct Batch {
    bytes: Bytes,
    at: Instant,
    /// The number of the PING that comes after it.
    ping: u64,
}

impl Written {
    fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.batches.push_back(Batch { bytes, at: Instant::now(), ping: self.pings });
        while self.bytes > BUFFER_BYTES_MAX {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.bytes -= batch.bytes.len();
        }
    }

    /// One PONG more than is needed, so that a server that dies at once after it has had a second to pass hints on.
    fn confirmed(&mut self) {
        while self.batches.front().is_some_and(|batch| batch.ping < self.pongs) {
            self.pop();
        }
        self.pongs += 1;
    }

    /// What is to be written on a new connection. It counts as written there.
    fn replay(&mut self) -> Vec<Bytes> {
        while self.batches.front().is_some_and(|batch| batch.at.elapsed() > REPLAY_AGE_MAX) {
            self.pop();
        }
        (self.pings, self.pongs) = (0, 0);
        self.batches.iter_mut().for_each(|batch| batch.ping = 0);
        self.batches.iter().map(|batch| batch.bytes.clone()).collect()
    }
}

impl OutboundTraffic {
    pub(super) fn new(outbound: Arc<Outbound>) -> Self {
        Self { outbound, written: Written::default(), replay: Vec::new(), denied: false }
    }
}

impl Traffic for OutboundTraffic {
    fn connected(&mut self, info: &ServerInfo) {
        let mut buffer = lock(&self.outbound.buffer);
        buffer.connected = true;
        buffer.payload_bytes_max = info.max_payload;
        self.replay = self.written.replay();
        self.denied = false;
    }

    fn refill(&mut self, link: &mut Link) {
        mem::take(&mut self.replay).into_iter().for_each(|batch| link.send(batch));
        if link.unsent() >= UNSENT_BYTES_LOW {
            return;
        }
        let bytes = lock(&self.outbound.buffer).take();
        if !bytes.is_empty() {
            link.send(bytes.clone());
            self.written.push(bytes);
        }
    }

    fn message(&mut self, _message: &Message) {}

    fn confirmed(&mut self) {
        self.written.confirmed();
    }

    fn denied(&mut self, denial: Denial<'_>) {
        self.outbound.metrics.dropped_refused.inc();
        if !mem::replace(&mut self.denied, true) {
            let (Denial::Publish(name) | Denial::Subscribe(name)) = denial;
            let kind = name.rsplit_once('.').map_or(name, |(kind, _)| kind);
            tracing::warn!(subject = kind, "NATS does not permit this process to publish");
        }
    }

    fn tick(&mut self, link: &mut Link) {
        if !self.written.batches.is_empty() {
            self.written.pings += 1;
            link.ping(Ping::Barrier);
        }
    }

    fn disconnected(&mut self) {
        let mut buffer = lock(&self.outbound.buffer);
        buffer.connected = false;
        self.written.push(buffer.take());
    }

    fn closed(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(byte: u8) -> Bytes {
        vec![byte; 10].into()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_is_kept_until_a_later_ping_is_confirmed() {
        let mut written = Written::default();
        written.push(batch(1));
        written.pings += 1;
        written.push(batch(2));
        written.confirmed();
        assert_eq!(written.batches.len(), 2);
        written.pings += 1;
        written.confirmed();
        assert_eq!(written.replay(), [batch(2)]);
        assert_eq!(written.bytes, 10);

        // On the new connection the count begins again.
        written.pings += 1;
        written.confirmed();
        assert_eq!(written.replay(), [batch(2)]);
        for _ in 0..2 {
            written.pings += 1;
            written.confirmed();
        }
        assert_eq!((written.replay(), written.bytes), (vec![], 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_in_bytes_and_age() {
        let mut written = Written::default();
        let quarter = Bytes::from(vec![0; BUFFER_BYTES_MAX / 4]);
        (0..6).for_each(|_| written.push(quarter.clone()));
        assert_eq!((written.batches.len(), written.bytes), (4, BUFFER_BYTES_MAX));
        tokio::time::advance(REPLAY_AGE_MAX).await;
        written.push(batch(1));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(written.replay(), [batch(1)]);
    }

    #[test]
    fn a_hint_that_cannot_go_is_refused_at_once() {
        let mut buffer = Buffer::default();
        assert!(
            matches!(buffer.push("a", b""), Err(BusError::Disconnected)),
            "the first server is not known yet"
        );
        (buffer.connected, buffer.payload_bytes_max) = (true, 1024 * 1024);
        let hint = vec![0; 1024 * 1024];
        for _ in 0..3 {
            buffer.push("a", &hint).unwrap();
        }
        assert!(matches!(buffer.push("a", &hint), Err(BusError::Full)));
        buffer.push("a", b"a small one still fits").unwrap();
        assert!(matches!(buffer.push("a", &vec![0; 1024 * 1024 + 1]), Err(BusError::TooLarge)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_the_connection_is_away_waits_but_not_for_ever() {
        let mut buffer = Buffer { payload_bytes_max: 1024, ..Buffer::default() };
        buffer.push("a", b"1").unwrap();
        tokio::time::advance(REPLAY_AGE_MAX).await;
        assert_eq!(buffer.forget_aged(), 0);
        buffer.push("a", b"2").unwrap();
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(buffer.forget_aged(), 2);
        buffer.push("a", b"3").unwrap();
        let mut expected = BytesMut::new();
        protocol::publish("a", b"3", &mut expected);
        assert_eq!((buffer.take(), buffer.forget_aged()), (expected.freeze(), 0));
    }
}
