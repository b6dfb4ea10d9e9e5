//! What a worker has to tell and its coordinator has not confirmed; and, on the other side, what of it was heard.
//!
//! NATS delivers at most once, and a figure that is counted twice is as wrong as one that is missing. So ticks have numbers: the coordinator takes
//! each number once and in order, says up to where it came, and the worker sends again from there. All of it is in the worker's own folder before it
//! is told.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::wire::{Progressed, Tick};

/// Bytes of crossings in one message; with a second's rows and histograms it stays below the 512 KB that the strictest server takes.
const CROSSINGS_MAX: usize = 64 * 1024;
/// Ticks that wait to be confirmed: an hour of seconds. A worker that is not heard for longer than that goes on for its folder alone.
const KEPT_MAX: usize = 3_600;

/// What was journaled, as text as it stands in the files, and waits to be confirmed.
#[derive(Debug, Default)]
pub struct Spool {
    kept: Mutex<Kept>,
    more: Notify,
}

#[derive(Debug)]
struct Kept {
    worker: u32,
    /// The number of the next one.
    next: u64,
    ticks: VecDeque<Tick>,
    given_up: bool,
}

impl Default for Kept {
    fn default() -> Self {
        Self { worker: 0, next: 1, ticks: VecDeque::new(), given_up: false }
    }
}

impl Spool {
    pub fn of(worker: u32) -> Self {
        let kept = Mutex::new(Kept { worker, ..Kept::default() });
        Self { kept, more: Notify::new() }
    }

    /// Adds what was journaled at once. Crossings go first, so that whoever hears how far the worker is has heard of them.
    pub fn push(&self, rows: String, histograms: String, crossings: &str, progressed: Progressed) {
        {
            let mut kept = self.kept();
            let mut rest = crossings;
            while rest.len() > CROSSINGS_MAX {
                let cut = rest.as_bytes()[..CROSSINGS_MAX].iter().rposition(|byte| *byte == b'\n');
                let (piece, left) = rest.split_at(cut.map_or(rest.len(), |at| at + 1));
                rest = left;
                kept.push(|tick| Tick { crossings: piece.to_owned(), ..tick });
            }
            let crossings = rest.to_owned();
            kept.push(|tick| Tick { rows, histograms, crossings, progressed: Some(progressed), ..tick });
        }
        self.more.notify_one();
    }

    /// Forgets what was heard.
    pub fn confirm(&self, heard: u64) {
        self.kept().ticks.retain(|tick| tick.seq > heard);
    }

    /// What was not confirmed, from a number on.
    pub fn from(&self, seq: u64) -> Vec<Tick> {
        self.kept().ticks.iter().filter(|tick| tick.seq >= seq).cloned().collect()
    }

    /// Whose it is.
    pub fn worker(&self) -> u32 {
        self.kept().worker
    }

    /// The number of the last one.
    pub fn last(&self) -> u64 {
        self.kept().next - 1
    }

    /// Whether some of it is only in the folder.
    pub fn has_given_up(&self) -> bool {
        self.kept().given_up
    }

    /// Resolves when there is more than there was. Cancel-safe.
    pub async fn more(&self) {
        self.more.notified().await;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, with: impl FnOnce(Tick) -> Tick) {
        let tick = with(Tick { worker: self.worker, seq: self.next, ..Tick::default() });
        self.next += 1;
        self.given_up |= self.ticks.len() >= KEPT_MAX;
        if !self.given_up {
            self.ticks.push_back(tick);
        }
    }
}

/// Which ticks of a worker were heard: each once, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    up_to: u64,
}

impl Heard {
    /// Whether this one is the next, and so is to be counted. A repetition is not, nor is one behind a gap: that one comes again.
    pub fn take(&mut self, seq: u64) -> bool {
        let is_next = seq == self.up_to + 1;
        self.up_to += u64::from(is_next);
        is_next
    }

    pub const fn up_to(&self) -> u64 {
        self.up_to
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(count: usize) -> String {
        (0..count).map(|n| format!("acked 1 2 1 {n}\n")).collect()
    }

    proptest! {
        /// Messages are lost and repeated, and come late: what is heard in the end is what was told.
        #[test]
        fn each_tick_counts_once_whatever_is_lost_or_repeated(
            ticks in 1..40usize, fates in prop::collection::vec(0..4u8, 1..400)
        ) {
            let spool = Spool::of(2);
            for n in 0..ticks {
                spool.push(format!("{n}\n"), String::new(), "", Progressed::default());
            }
            let (mut heard, mut text) = (Heard::default(), String::new());
            let mut fates = fates.into_iter();
            let mut hear = |tick: &Tick, heard: &mut Heard| {
                if heard.take(tick.seq) {
                    text.push_str(&tick.rows);
                }
            };
            for _ in 0..10 * ticks {
                for tick in spool.from(heard.up_to() + 1) {
                    match fates.next().unwrap_or(3) {
                        0 => {}
                        1 => {
                            hear(&tick, &mut heard);
                            hear(&tick, &mut heard);
                        }
                        // Confirmed too late: sent once more than it had to be.
                        2 => hear(&tick, &mut heard),
                        _ => {
                            hear(&tick, &mut heard);
                            spool.confirm(heard.up_to());
                        }
                    }
                }
            }
            prop_assert_eq!(heard.up_to(), spool.last());
            prop_assert_eq!(text, (0..ticks).map(|n| format!("{n}\n")).collect::<String>());
            spool.confirm(heard.up_to());
            prop_assert!(spool.from(0).is_empty());
        }

        #[test]
        fn crossings_are_cut_between_lines_and_come_before_what_is_said_of_them(count in 0..12_000usize) {
            let spool = Spool::of(1);
            spool.push("row\n".to_owned(), "log\n".to_owned(), &lines(count), Progressed::default());
            let ticks = spool.from(1);
            let crossings: String = ticks.iter().map(|tick| tick.crossings.as_str()).collect();
            prop_assert_eq!(crossings, lines(count));
            for (tick, seq) in ticks.iter().zip(1..) {
                prop_assert_eq!(tick.seq, seq);
                prop_assert!(tick.crossings.len() <= CROSSINGS_MAX);
                prop_assert!(tick.crossings.is_empty() || tick.crossings.ends_with('\n'));
                prop_assert_eq!(tick.progressed.is_some(), seq == ticks.len() as u64);
            }
        }
    }

    #[test]
    fn who_is_never_confirmed_stops_keeping_and_says_so() {
        let spool = Spool::of(1);
        for _ in 0..=KEPT_MAX {
            assert!(!spool.has_given_up());
            spool.push(String::new(), String::new(), "", Progressed::default());
        }
        assert!(spool.has_given_up());
    }
}
