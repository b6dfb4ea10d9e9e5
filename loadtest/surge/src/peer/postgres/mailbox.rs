//! Rows of one person.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use spillway_types::Guid;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::pool::{Pool, failed};
use super::wakes::Wakes;
use crate::peer::{Incoming, Mail, Outgoing, PeerError};

/// Between two looks of somebody who is told nothing: what a lost notification costs.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// Rows of one look.
pub(super) const READ_AT_ONCE: usize = 100;

#[derive(Debug)]
pub(super) struct Outbox {
    pool: Arc<Pool>,
    wakes: Arc<Wakes>,
}

#[derive(Debug)]
pub(super) struct Inbox {
    pool: Arc<Pool>,
    woken: Arc<Notify>,
    person: i32,
    /// There may be more than was read.
    to_look: bool,
    /// Read, and not handed over.
    read: VecDeque<(i64, Mail)>,
    /// Handed over, and not acknowledged.
    last: Option<i64>,
}

/// As a column has it. People are numbered from 0, and no run has two thousand million.
pub(super) fn number(index: u32) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

impl Outbox {
    pub(super) fn new(pool: Arc<Pool>, wakes: Arc<Wakes>) -> Self {
        Self { pool, wakes }
    }
}

impl Inbox {
    pub(super) fn new(pool: Arc<Pool>, woken: Arc<Notify>, person: i32) -> Self {
        // What came before anybody listened woke nobody.
        Self { pool, woken, person, to_look: true, read: VecDeque::new(), last: None }
    }

    /// Reads what is there, the first of it. What was handed over was deleted before.
    async fn look(&mut self) -> Result<(), PeerError> {
        let connection = self.pool.get().await?;
        let rows = connection.client.query(&connection.statements.read, &[&self.person]).await;
        let rows = rows.map_err(|error| failed("read mail", error))?;
        self.to_look = rows.len() == READ_AT_ONCE;
        for row in rows {
            let (place, id, content): (i64, &[u8], &[u8]) = (row.get(0), row.get(1), row.get(2));
            let mail = Mail { id: Guid::try_from(id).ok(), content: Bytes::copy_from_slice(content) };
            self.read.push_back((place, mail));
        }
        Ok(())
    }
}

#[async_trait]
impl Outgoing for Outbox {
    async fn send(&self, to: u32, id: Guid, content: Vec<u8>) -> Result<(), PeerError> {
        let connection = self.pool.get().await?;
        let id: &[u8] = id.as_bytes();
        // Resolves when the server is ready for the next statement, which is after the commit.
        let sent =
            connection.client.execute(&connection.statements.send, &[&number(to), &id, &content]).await;
        sent.map_err(|error| failed("insert a message", error))?;
        self.wakes.tell(to);
        Ok(())
    }
}

#[async_trait]
impl Incoming for Inbox {
    async fn next(&mut self) -> Result<Mail, PeerError> {
        loop {
            if let Some((place, mail)) = self.read.pop_front() {
                self.last = Some(place);
                return Ok(mail);
            }
            if !self.to_look {
                timeout(LOOKS_EVERY, self.woken.notified()).await.ok();
                // Kept, should this be cancelled before the look is over.
                self.to_look = true;
            }
            self.look().await?;
        }
    }

    async fn ack(&mut self) -> Result<(), PeerError> {
        let Some(place) = self.last.take() else { return Ok(()) };
        let connection = self.pool.get().await?;
        let deleted = connection.client.execute(&connection.statements.delete, &[&self.person, &place]).await;
        deleted.map(|_| ()).map_err(|error| failed("delete a message", error))
    }
}
