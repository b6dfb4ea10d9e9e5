//! The log of what was put lately. In memory: only the process that has the store open can have put anything, and what it
//! put before it started is there for its first walk.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use spillway_types::{NumberMac, Timestamp};

use crate::directory::PutLog;

/// At 48 bytes each, 12 MB. Two minutes of the sign-ups that a process with two processors can take.
const NUMBERS_MAX: usize = 1 << 18;

#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    /// In the order of the calls, which is that of their times unless the clock was set back.
    puts: VecDeque<(Timestamp, NumberMac)>,
    /// The latest time of those that were dropped.
    forgotten: Option<Timestamp>,
}

impl Recent {
    pub(super) fn note(&self, number: NumberMac, at: Timestamp) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if log.puts.len() == NUMBERS_MAX {
            let dropped = log.puts.pop_front().map(|(at, _)| at);
            log.forgotten = log.forgotten.max(dropped);
        }
        log.puts.push_back((at, number));
    }

    pub(super) fn between(&self, from: Timestamp, until: Timestamp) -> PutLog {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if log.forgotten.is_some_and(|forgotten| forgotten >= from) {
            return PutLog::Forgotten;
        }
        let puts = log.puts.iter().filter(|(at, _)| (from..until).contains(at));
        PutLog::Numbers(puts.map(|(_, number)| *number).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn number(n: usize) -> NumberMac {
        let mut bytes = [1; NumberMac::LEN];
        bytes[1..9].copy_from_slice(&n.to_be_bytes());
        NumberMac::from_bytes(bytes)
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_millis(1_610_722_800_000).saturating_add(Duration::from_secs(second))
    }

    #[test]
    fn what_was_dropped_for_want_of_room_is_told() {
        let recent = Recent::default();
        recent.note(number(0), at(0));
        for n in 0..NUMBERS_MAX - 1 {
            recent.note(number(n + 1), at(1));
        }
        assert_eq!(recent.between(at(0), at(1)), PutLog::Numbers(vec![number(0)]));
        recent.note(number(7), at(2));
        assert_eq!(recent.between(at(0), at(3)), PutLog::Forgotten);
        let PutLog::Numbers(kept) = recent.between(at(1), at(3)) else {
            panic!("nothing of that was dropped")
        };
        assert_eq!(kept.len(), NUMBERS_MAX);
        assert_eq!(recent.between(at(2), at(3)), PutLog::Numbers(vec![number(7)]));
    }

    #[test]
    fn a_clock_that_was_set_back_hides_nothing() {
        let recent = Recent::default();
        recent.note(number(1), at(100));
        recent.note(number(2), at(50));
        assert_eq!(recent.between(at(40), at(60)), PutLog::Numbers(vec![number(2)]));
        assert_eq!(recent.between(at(60), at(101)), PutLog::Numbers(vec![number(1)]));
    }
}
