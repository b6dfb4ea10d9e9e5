//! Rows that are due at the same time and go to the database in one request.
//!
//! A request costs a node about as much as the small rows in it. So while a lane has [`UNDER_WAY`] requests under way, its
//! rows wait for one of them to end, for [`Limits`] to be reached, or for [`LINGER`], whichever is first: on a quiet day nobody
//! waits, and on a busy one no number of requests bounds the rate.
//!
//! Whoever waited longest sends for all. When its future is dropped, nobody knows what became of the request, and each
//! of the others sends its row again by itself: rows must be idempotent.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::StoreError;

/// Requests of a lane below which a row does not wait. Fewer put more rows together; with less than four, the node or
/// this end of the connection has nothing to do while an answer is on its way.
const UNDER_WAY: usize = 4;
/// A node that takes longer than this for a request is slow, and the next request may go to another.
const LINGER: Duration = Duration::from_millis(5);

/// How much goes into one request, of more than one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

pub(super) trait Row: Clone + Send + Sync {
    /// As the database counts it towards what a request may have.
    fn bytes(&self) -> usize;
}

pub(super) trait Writer: Send + Sync {
    type Row: Row;

    /// Writes at least one row. After an error some may be written.
    fn write(&self, rows: &[Self::Row]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Rows of one lane may share a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LaneId(pub(super) u64);

#[derive(Debug)]
pub(super) struct Together<W: Writer> {
    writer: W,
    lanes: Arc<Lanes<W::Row>>,
}

#[derive(Debug)]
struct Lanes<R> {
    limits: Limits,
    /// Those that have something under way.
    busy: Mutex<HashMap<LaneId, Lane<R>>>,
}

#[derive(Debug)]
struct Lane<R> {
    under_way: usize,
    waiting: Vec<Waiting<R>>,
    /// Of those that wait.
    bytes: usize,
}

#[derive(Debug)]
struct Waiting<R> {
    row: R,
    turn: oneshot::Sender<Turn<R>>,
}

/// What whoever waits is told.
#[derive(Debug)]
enum Turn<R> {
    /// Send these after your own.
    Lead(Place<R>, Vec<Waiting<R>>),
    /// Another one sent your row.
    Done(Result<(), StoreError>),
}

#[derive(Debug)]
enum Entered<R> {
    Go(Place<R>),
    Wait(oneshot::Receiver<Turn<R>>),
}

/// A request that is under way, until it is dropped.
#[derive(Debug)]
struct Place<R> {
    lanes: Arc<Lanes<R>>,
    /// None: nobody came to take the place.
    lane: Option<LaneId>,
}

impl<W: Writer> Together<W> {
    pub(super) fn new(writer: W, limits: Limits) -> Self {
        Self { writer, lanes: Arc::new(Lanes { limits, busy: Mutex::default() }) }
    }

    pub(super) const fn writer(&self) -> &W {
        &self.writer
    }

    /// Writes a row. Those that share a request share its error.
    pub(super) async fn write(&self, lane: LaneId, row: W::Row) -> Result<(), StoreError> {
        let mut turn = match self.lanes.enter(lane, &row) {
            Entered::Go(_place) => return self.writer.write(&[row]).await,
            Entered::Wait(turn) => turn,
        };
        let told = match timeout(LINGER, &mut turn).await {
            Ok(told) => told,
            Err(_) => {
                self.lanes.go_on(lane);
                turn.await
            }
        };
        match told {
            Ok(Turn::Lead(_place, others)) => self.lead(row, others).await,
            Ok(Turn::Done(result)) => result,
            // Whoever led was given up.
            Err(_) => self.writer.write(&[row]).await,
        }
    }

    async fn lead(&self, row: W::Row, others: Vec<Waiting<W::Row>>) -> Result<(), StoreError> {
        let mut rows = Vec::with_capacity(1 + others.len());
        rows.push(row);
        let mut turns = Vec::with_capacity(others.len());
        for Waiting { row, turn } in others {
            rows.push(row);
            turns.push(turn);
        }
        let result = self.writer.write(&rows).await;
        for turn in turns {
            // Somebody who is gone needs no answer.
            drop(turn.send(Turn::Done(result.clone())));
        }
        result
    }
}

impl<R: Row> Lanes<R> {
    fn enter(self: &Arc<Self>, id: LaneId, row: &R) -> Entered<R> {
        let bytes = row.bytes();
        let mut busy = self.lock();
        let lane = busy.entry(id).or_default();
        if lane.under_way < UNDER_WAY || self.limits.rows <= 1 || bytes >= self.limits.bytes {
            lane.under_way += 1;
            return Entered::Go(Place { lanes: Arc::clone(self), lane: Some(id) });
        }
        if lane.bytes + bytes > self.limits.bytes {
            self.send_off(id, lane);
        }
        let (turn, told) = oneshot::channel();
        lane.waiting.push(Waiting { row: row.clone(), turn });
        lane.bytes += bytes;
        if lane.waiting.len() >= self.limits.rows {
            self.send_off(id, lane);
        }
        Entered::Wait(told)
    }

    /// Sends off those that wait, however much is under way.
    fn go_on(self: &Arc<Self>, id: LaneId) {
        if let Some(lane) = self.lock().get_mut(&id) {
            self.send_off(id, lane);
        }
    }
}

impl<R> Lanes<R> {
    fn lock(&self) -> MutexGuard<'_, HashMap<LaneId, Lane<R>>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the first of those that wait, and are still there, lead the others.
    fn send_off(self: &Arc<Self>, id: LaneId, lane: &mut Lane<R>) {
        let mut waiting = mem::take(&mut lane.waiting).into_iter();
        lane.bytes = 0;
        while let Some(Waiting { turn, .. }) = waiting.next() {
            let place = Place { lanes: Arc::clone(self), lane: Some(id) };
            match turn.send(Turn::Lead(place, waiting.collect())) {
                Ok(()) => {
                    lane.under_way += 1;
                    return;
                }
                Err(Turn::Lead(mut place, others)) => {
                    // Its end would look for the lock that is held here.
                    place.lane = None;
                    waiting = others.into_iter();
                }
                Err(Turn::Done(_)) => return,
            }
        }
    }

    fn leave(self: &Arc<Self>, id: LaneId) {
        let mut busy = self.lock();
        let Some(lane) = busy.get_mut(&id) else { return };
        lane.under_way = lane.under_way.saturating_sub(1);
        if lane.under_way < UNDER_WAY {
            self.send_off(id, lane);
        }
        if lane.under_way == 0 {
            busy.remove(&id);
        }
    }
}

impl<R> Default for Lane<R> {
    fn default() -> Self {
        Self { under_way: 0, waiting: Vec::new(), bytes: 0 }
    }
}

impl<R> Drop for Place<R> {
    fn drop(&mut self) {
        if let Some(lane) = self.lane {
            self.lanes.leave(lane);
        }
    }
}
