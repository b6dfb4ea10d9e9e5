//! A peer in this process, with faults: what a run must notice of a real one.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use spillway_types::Guid;
use tokio::sync::Notify;

use super::{Class, Durability, Incoming, Mail, Outgoing, Peer, PeerError, Session, Terms};

/// What becomes of every tenth message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Acknowledged and gone.
    Lost,
    /// Twice, as the same message.
    Twice,
    /// Twice, as two messages.
    Copied,
    /// Its last byte is another one.
    Changed,
    Refused,
}

#[derive(Debug)]
pub(super) struct Fake {
    terms: Terms,
    mailboxes: Arc<Mailboxes>,
}

#[derive(Debug)]
struct Mailboxes {
    fault: Fault,
    sent: AtomicU64,
    kept: Mutex<HashMap<u32, VecDeque<Mail>>>,
    new: Notify,
}

#[derive(Debug)]
struct Outbox(Arc<Mailboxes>);

#[derive(Debug)]
struct Inbox(Arc<Mailboxes>, u32);

impl Fake {
    pub(super) fn new(fault: Fault) -> Self {
        let mailboxes =
            Mailboxes { fault, sent: AtomicU64::new(0), kept: Mutex::default(), new: Notify::new() };
        let words = || "a test".to_owned();
        let terms = Terms {
            system: words(),
            durability: Durability { class: Class::D0, words: words() },
            acknowledged: words(),
            delivery: words(),
            connections: words(),
            does_not: vec![words()],
        };
        Self { terms, mailboxes: Arc::new(mailboxes) }
    }
}

#[async_trait]
impl Peer for Fake {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    async fn sign_up(&self, _: u32) -> Result<(), PeerError> {
        Ok(())
    }

    async fn open(&self, index: u32) -> Result<Session, PeerError> {
        let outgoing = Arc::new(Outbox(self.mailboxes.clone()));
        Ok(Session { outgoing, incoming: Box::new(Inbox(self.mailboxes.clone(), index)) })
    }

    async fn clear(&self, _: u32) -> Result<(), PeerError> {
        Ok(())
    }
}

#[async_trait]
impl Outgoing for Outbox {
    async fn send(&self, to: u32, id: Guid, mut content: Vec<u8>) -> Result<(), PeerError> {
        let is_tenth = self.0.sent.fetch_add(1, Relaxed) % 10 == 9;
        let fault = if is_tenth { self.0.fault } else { Fault::None };
        let mut ids = vec![id];
        match fault {
            Fault::None => {}
            Fault::Lost => ids.clear(),
            Fault::Twice => ids.push(id),
            Fault::Copied => ids.push(Guid::random()),
            Fault::Changed => *content.last_mut().unwrap() ^= 1,
            Fault::Refused => return Err(PeerError::refused("send", "FULL", "every tenth is refused")),
        }
        let mail = |id| Mail { id: Some(id), content: content.clone().into() };
        self.0.kept.lock().unwrap().entry(to).or_default().extend(ids.into_iter().map(mail));
        self.0.new.notify_waiters();
        Ok(())
    }
}

#[async_trait]
impl Incoming for Inbox {
    async fn next(&mut self) -> Result<Mail, PeerError> {
        loop {
            let new = self.0.new.notified();
            let first = self.0.kept.lock().unwrap().get(&self.1).and_then(|kept| kept.front().cloned());
            match first {
                Some(mail) => return Ok(mail),
                None => new.await,
            }
        }
    }

    async fn ack(&mut self) -> Result<(), PeerError> {
        self.0.kept.lock().unwrap().entry(self.1).or_default().pop_front();
        Ok(())
    }
}
