//! Which partitions a mailbox has: one for each week, so that none grows without end.

use std::ops::RangeInclusive;
use std::time::Duration;

use spillway_types::Timestamp;

const WEEK_MICROS: u64 = 7 * 24 * 60 * 60 * 1_000_000;
/// How far an id may be ahead of a reader's clock: ids more than 5 s ahead of a worker's are refused, and clocks that
/// are 20 s off are allowed for. Also how far an id may lie before its mailbox was minted.
pub(super) const AHEAD: Duration = Duration::from_secs(60);

/// Weeks since the Unix epoch.
pub(super) fn week(time: Timestamp) -> i32 {
    i32::try_from(time.as_micros() / WEEK_MICROS).unwrap_or(i32::MAX)
}

/// The weeks in which ids later than `from` can be at `now`, oldest first.
pub(super) fn weeks(from: Timestamp, now: Timestamp) -> RangeInclusive<i32> {
    week(from)..=week(now.saturating_add(AHEAD))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailboxes::RETENTION;

    #[test]
    fn a_retention_touches_at_most_six_weeks() {
        for hour in 0..200 {
            let now = Timestamp::from_millis(1_610_722_800_000 + hour * 3_600_000);
            let touched = weeks(now.saturating_sub(RETENTION), now).count();
            assert!((5..=6).contains(&touched), "{touched}");
        }
    }

    #[test]
    fn the_next_week_is_looked_into_shortly_before_it_begins() {
        let begins = Timestamp::from_micros(2_800 * WEEK_MICROS);
        let before = |seconds| begins.saturating_sub(Duration::from_secs(seconds));
        assert_eq!(weeks(before(61), before(61)), 2_799..=2_799);
        assert_eq!(weeks(before(59), before(59)), 2_799..=2_800);
        assert_eq!(weeks(begins, begins), 2_800..=2_800);
    }
}
