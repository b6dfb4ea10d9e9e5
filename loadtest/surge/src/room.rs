//! The waiting room as those who waited in it saw it: what they were told, when their turn came, who was overtaken.
//!
//! Everything is seen at the devices. Only two things are taken from the service's word: when a turn had come, which it
//! tells whoever asks after that, and how many sign-ups a second it means to let in.

mod figures;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use figures::{Estimates, RoomFigures, SecondInRoom, by_second};

/// Those whose turn came last, for whoever watches.
const LAST: usize = 32;

/// What all people of a run saw. Recording takes one lock, once for each person, when the wait is over.
#[derive(Debug)]
pub struct Room {
    started: Instant,
    visits: Mutex<Vec<Visit>>,
    entered: AtomicU64,
    admitted: AtomicU64,
    waiting: AtomicU64,
}

/// One person's way through the room. Times count from the start of the measured part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Visit {
    /// When a place was asked for.
    pub asked: Duration,
    /// When it was there. Whoever asks after that comes later.
    pub entered: Duration,
    /// The first range that was told.
    pub told: Option<Told>,
    /// Places that were over before they could be used.
    pub places_lost: u32,
    pub end: End,
}

/// That the turn comes between `low` and `high` after `at`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    pub at: Duration,
    pub low: Duration,
    pub high: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// `turn`: when it had come, if that is known; `at`: when the device knew, and had its pass.
    Admitted { turn: Option<Duration>, at: Duration },
    /// Has a place, and the run was over before the turn came. Nothing went wrong.
    Waiting { at: Duration },
    /// Gave up after an error.
    Failed { at: Duration },
}

/// How the room looks now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Now {
    pub entered: u64,
    pub admitted: u64,
    pub waiting: u64,
    /// Of those whose turn came last: the middle of what they were told, and what they waited, in seconds.
    pub told_and_waited_s: Option<(f64, f64)>,
}

impl Room {
    pub fn new(started: Instant) -> Arc<Self> {
        Arc::new(Self {
            started,
            visits: Mutex::default(),
            entered: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        })
    }

    /// Somebody asks for a place now.
    pub fn visit(self: &Arc<Self>) -> Visitor {
        let asked = self.since_start(Instant::now());
        Visitor { room: Arc::clone(self), asked, entered: None, told: None, places_lost: 0, failed: false }
    }

    pub fn now(&self) -> Now {
        let visits = self.visits();
        let last = visits.iter().rev().take(LAST).filter_map(Visit::told_and_waited_s);
        let (mut count, mut told, mut waited) = (0, 0.0, 0.0);
        for (of_told, of_waited) in last {
            count += 1;
            told += of_told;
            waited += of_waited;
        }
        Now {
            entered: self.entered.load(Relaxed),
            admitted: self.admitted.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            told_and_waited_s: (count > 0).then(|| (told / f64::from(count), waited / f64::from(count))),
        }
    }

    /// Everybody whose wait is over, in the order in which it was.
    pub fn ended(&self) -> Vec<Visit> {
        self.visits().clone()
    }

    fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.started)
    }

    fn visits(&self) -> MutexGuard<'_, Vec<Visit>> {
        // A push is whole or has not happened.
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    /// When the turn came, if that is known. Never before a place was asked for: an empty room has called whoever comes.
    pub fn turn(&self) -> Option<Duration> {
        match self.end {
            End::Admitted { turn, .. } => turn.map(|turn| turn.max(self.asked)),
            End::Waiting { .. } | End::Failed { .. } => None,
        }
    }

    /// From asking for a place to the turn.
    pub fn waited(&self) -> Option<Duration> {
        self.turn().map(|turn| turn - self.asked)
    }

    fn told_and_waited_s(&self) -> Option<(f64, f64)> {
        let (told, turn) = self.told.zip(self.turn())?;
        Some((told.middle_s(), turn.saturating_sub(told.at).as_secs_f64()))
    }
}

impl Told {
    fn middle_s(&self) -> f64 {
        (self.low + self.high).as_secs_f64() / 2.0
    }
}

/// Somebody in the room. Who is dropped there still waits, unless something failed.
#[derive(Debug)]
#[must_use = "dropping it ends the visit"]
pub struct Visitor {
    room: Arc<Room>,
    asked: Duration,
    entered: Option<Duration>,
    told: Option<Told>,
    places_lost: u32,
    failed: bool,
}

impl Visitor {
    /// There is a place. The first of several counts: the later ones are the service's fault.
    pub fn has_place(&mut self) {
        if self.entered.is_none() {
            self.entered = Some(self.room.since_start(Instant::now()));
            self.room.entered.fetch_add(1, Relaxed);
            self.room.waiting.fetch_add(1, Relaxed);
        }
    }

    /// The turn comes in between `low` and `high` from now.
    pub fn told(&mut self, (low, high): (Duration, Duration)) {
        let at = self.room.since_start(Instant::now());
        self.told.get_or_insert(Told { at, low, high });
    }

    pub fn lost_place(&mut self) {
        self.places_lost += 1;
    }

    pub fn failed(mut self) {
        self.failed = true;
    }

    pub fn admitted(mut self, turn: Option<Instant>) {
        self.room.admitted.fetch_add(1, Relaxed);
        let turn = turn.map(|turn| self.room.since_start(turn));
        let at = self.room.since_start(Instant::now());
        self.end(End::Admitted { turn, at });
    }

    fn end(&mut self, end: End) {
        let Some(entered) = self.entered.take() else { return };
        self.room.waiting.fetch_sub(1, Relaxed);
        let Self { asked, told, places_lost, .. } = *self;
        self.room.visits().push(Visit { asked, entered, told, places_lost, end });
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let at = self.room.since_start(Instant::now());
        self.end(if self.failed { End::Failed { at } } else { End::Waiting { at } });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_dropped_with_a_place_waits_and_without_one_was_never_there() {
        let room = Room::new(Instant::now());
        drop(room.visit());
        let mut waits = room.visit();
        waits.has_place();
        let mut fails = room.visit();
        fails.has_place();
        assert_eq!(room.now(), Now { entered: 2, waiting: 2, ..Now::default() });
        fails.failed();
        drop(waits);
        let ends: Vec<_> = room.ended().iter().map(|visit| visit.end).collect();
        assert_eq!(ends, [End::Failed { at: Duration::ZERO }, End::Waiting { at: Duration::ZERO }]);
        assert_eq!(room.now().waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_range_counts_and_the_turn_is_when_it_came_and_not_when_it_was_noticed() {
        let seconds = Duration::from_secs;
        let room = Room::new(Instant::now());
        let mut visitor = room.visit();
        visitor.has_place();
        visitor.told((seconds(10), seconds(20)));
        tokio::time::advance(seconds(8)).await;
        visitor.told((seconds(0), seconds(10)));
        tokio::time::advance(seconds(8)).await;
        visitor.admitted(Instant::now().checked_sub(seconds(3)));
        let [visit] = room.ended()[..] else { panic!("one visit") };
        assert_eq!(visit.told, Some(Told { at: Duration::ZERO, low: seconds(10), high: seconds(20) }));
        assert_eq!((visit.turn(), visit.waited()), (Some(seconds(13)), Some(seconds(13))));
        assert_eq!(room.now().told_and_waited_s, Some((15.0, 13.0)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_room_called_before_anybody_came() {
        let room = Room::new(Instant::now());
        tokio::time::advance(Duration::from_secs(5)).await;
        let mut visitor = room.visit();
        visitor.has_place();
        visitor.admitted(Instant::now().checked_sub(Duration::from_millis(900)));
        assert_eq!(room.ended()[0].waited(), Some(Duration::ZERO));
    }
}
