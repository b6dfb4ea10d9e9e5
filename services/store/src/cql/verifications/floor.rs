//! From where the queue has to be searched.
//!
//! Entries are written for the present minute, so an old minute that was found empty stays empty, and the tombstones
//! in it need not be walked over again each time. It is only a shortcut: an entry that another process writes for an
//! old minute, as moving a store does, is found at the next full search.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often everything is searched all the same.
const FULL_SEARCH_EVERY: Duration = Duration::from_secs(300);
/// The newest minutes are never left out: entries for them may be on their way, from clocks that are a little behind.
const FRESH_MINUTES: i64 = 3;

#[derive(Debug, Default)]
pub(super) struct Floor(Mutex<Option<State>>);

#[derive(Clone, Copy, Debug)]
struct State {
    /// Nothing was found before it.
    minute: i64,
    full_search_at: Instant,
}

impl Floor {
    /// Where a search begins that would have to begin at `oldest`.
    pub(super) fn start(&self, oldest: i64, now: Instant) -> i64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            Some(State { minute, full_search_at }) if now < full_search_at => minute.max(oldest),
            _ => {
                *state = Some(State { minute: oldest, full_search_at: now + FULL_SEARCH_EVERY });
                oldest
            }
        }
    }

    /// A search that went on at most to `newest` found nothing before `first`.
    pub(super) fn raise(&self, first: Option<i64>, newest: i64) {
        let fresh = newest - FRESH_MINUTES + 1;
        self.change(|minute| minute.max(first.map_or(fresh, |first| first.min(fresh))));
    }

    /// An entry was written.
    pub(super) fn lower(&self, entry: i64) {
        self.change(|minute| minute.min(entry));
    }

    fn change(&self, change: impl FnOnce(i64) -> i64) {
        if let Some(state) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            state.minute = change(state.minute);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn empty_minutes_are_left_out_until_the_next_full_search() {
        let floor = Floor::default();
        let now = Instant::now();
        assert_eq!(floor.start(40, now), 40);
        floor.raise(None, 101);
        assert_eq!(floor.start(41, now), 99, "the newest three are searched");
        assert_eq!(floor.start(100, now), 100);
        floor.lower(70);
        assert_eq!(floor.start(41, now), 70);
        floor.raise(Some(90), 102);
        assert_eq!(floor.start(42, now), 90, "the oldest that waits");
        assert_eq!(floor.start(45, now + FULL_SEARCH_EVERY), 45);
    }
}
