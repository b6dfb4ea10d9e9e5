//! How far the clock of a worker is from that of its coordinator.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use spillway_types::{Clock, SystemClock, Timestamp};

/// Questions that a worker asks. The quickest answer was held up least, so it is the one that counts.
pub const PINGS: usize = 20;

/// One question and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Ping {
    /// By the worker's clock.
    pub asked: Timestamp,
    /// By the coordinator's clock.
    pub answered: Timestamp,
    pub round_trip: Duration,
}

/// What is to be added to a worker's clock, known to half of the round trip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    pub micros: i64,
    pub round_trip_micros: u64,
}

impl Offset {
    /// Of the quickest. `None` without any.
    pub fn of(pings: &[Ping]) -> Option<Self> {
        let best = pings.iter().min_by_key(|ping| ping.round_trip)?;
        // As long there as back.
        let at_answer = best.asked.saturating_add(best.round_trip / 2);
        let micros = signed(best.answered) - signed(at_answer);
        let round_trip_micros = u64::try_from(best.round_trip.as_micros()).unwrap_or(u64::MAX);
        Some(Self { micros, round_trip_micros })
    }

    /// The coordinator's time, now.
    pub fn now(&self) -> Timestamp {
        self.shifted(SystemClock.now())
    }

    fn shifted(&self, own: Timestamp) -> Timestamp {
        let by = Duration::from_micros(self.micros.unsigned_abs());
        if self.micros < 0 { own.saturating_sub(by) } else { own.saturating_add(by) }
    }
}

fn signed(at: Timestamp) -> i64 {
    i64::try_from(at.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A way back that takes longer than the way there makes an error of half the difference, so the quickest answer bounds it.
        #[test]
        fn the_error_is_at_most_half_of_the_least_round_trip(
            offset in -10_000_000i64..10_000_000,
            ways in prop::collection::vec((1u64..50_000, 1u64..50_000), 1..PINGS),
        ) {
            let pings: Vec<_> = (0..)
                .zip(&ways)
                .map(|(n, (there, back))| {
                    let asked = Timestamp::from_micros(1_610_722_800_000_000 + n * 100_000);
                    let there_at = asked.saturating_add(Duration::from_micros(*there));
                    let answered = Offset { micros: offset, round_trip_micros: 0 }.shifted(there_at);
                    Ping { asked, answered, round_trip: Duration::from_micros(there + back) }
                })
                .collect();
            let found = Offset::of(&pings).unwrap();
            let least = ways.iter().map(|(there, back)| there + back).min().unwrap();
            prop_assert_eq!(found.round_trip_micros, least);
            prop_assert!(found.micros.abs_diff(offset) <= least / 2 + 1, "{} for {}", found.micros, offset);
        }
    }

    #[test]
    fn without_an_answer_nothing_is_known() {
        assert_eq!(Offset::of(&[]), None);
    }
}
