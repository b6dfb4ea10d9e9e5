//! When a session looks at its mailbox without having been told to.
//!
//! A hint can be lost at any time, and is most likely lost right after the session opened, before all of the bus
//! knows of its interest, and right after the bus was gone: a worker may store mail before its own connection is back,
//! and has nobody to tell then. So the looks are dense at first, and again after an outage, and then rare.
//!
//! A look that falls into a herd's return waits until those who have read nothing yet have had their turn, and then stands for
//! all that were due before it: three more reads for each device would make the return last four times as long.

use std::time::Duration;

use tokio::time::Instant;

const DENSE: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60)];
const EVERY: Duration = Duration::from_secs(5 * 60);
/// A herd that connected together, or lost its hints together, must not look together.
const SPREAD: f64 = 0.2;
/// A look that is put off is due again after this long or half as much more, and is not put off any more when it is so late.
const PUT_OFF: Duration = Duration::from_secs(2);
const PUT_OFF_MAX: Duration = Duration::from_secs(30);
const _: () = assert!(PUT_OFF_MAX.as_millis() <= u16::MAX as u128);

#[derive(Debug)]
pub(crate) struct SweepSchedule {
    /// When the session opened, or hints were lost.
    from: Instant,
    next: Instant,
    /// How late the next one is already, in milliseconds. Every byte here counts a million times.
    late_ms: u16,
    done: u8,
}

impl SweepSchedule {
    /// For a session that opens now, or one that lost hints now and may lose more for a while. `chance` is between
    /// 0 and 1.
    pub(crate) fn new(now: Instant, chance: f64) -> Self {
        Self { from: now, next: now + early(DENSE[0], chance), late_ms: 0, done: 0 }
    }

    pub(crate) const fn next(&self) -> Instant {
        self.next
    }

    /// Others go before the sweep that is due. False, and nothing happens, when it has been put off for long enough. `chance` is between 0
    /// and 1.
    pub(crate) fn put_off(&mut self, now: Instant, chance: f64) -> bool {
        let by = PUT_OFF.mul_f64(1.0 + chance / 2.0);
        let late = Duration::from_millis(self.late_ms.into()) + by;
        let may_wait = late <= PUT_OFF_MAX;
        if may_wait {
            self.late_ms = late.as_millis() as u16;
            self.next = now + by;
        }
        may_wait
    }

    /// The sweep that was due has begun. `chance` is between 0 and 1.
    pub(crate) fn advance(&mut self, now: Instant, chance: f64) {
        self.late_ms = 0;
        // One that is late is as good as those that have come due since.
        let age = now.saturating_duration_since(self.from);
        let past = DENSE.partition_point(|after| early(*after, 1.0) <= age) as u8;
        self.done = self.done.saturating_add(1).max(past);
        self.next = match DENSE.get(usize::from(self.done)) {
            Some(after) => (self.from + early(*after, chance)).max(now),
            None => now + EVERY.mul_f64(1.0 - SPREAD + 2.0 * SPREAD * chance),
        };
    }
}

/// By up to a fifth.
fn early(after: Duration, chance: f64) -> Duration {
    after.mul_f64(1.0 - SPREAD * chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn three_early_looks_then_every_five_minutes_spread_by_a_fifth() {
        let opened_at = Instant::now();
        let mut schedule = SweepSchedule::new(opened_at, 0.0);
        let mut seconds = Vec::new();
        for chance in [0.0, 0.0, 0.0, 0.5, 1.0] {
            seconds.push((schedule.next() - opened_at).as_secs());
            schedule.advance(schedule.next(), chance);
        }
        assert_eq!(seconds, [2, 10, 60, 60 + 240, 60 + 240 + 300]);
        assert_eq!((schedule.next() - opened_at).as_secs(), 60 + 240 + 300 + 360);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_put_off_stands_for_those_that_came_due_meanwhile() {
        let opened_at = Instant::now();
        let mut schedule = SweepSchedule::new(opened_at, 0.0);
        let mut seconds = Vec::new();
        while schedule.put_off(schedule.next(), 0.0) {
            seconds.push((schedule.next() - opened_at).as_secs());
        }
        assert_eq!(seconds, (2..=16).map(|n| n * 2).collect::<Vec<_>>(), "not for ever");
        schedule.advance(schedule.next(), 0.0);
        assert_eq!((schedule.next() - opened_at).as_secs(), 60, "the one at 10 s is not made up for");
        assert!(schedule.put_off(schedule.next(), 1.0), "a new one may wait as well");
        assert_eq!((schedule.next() - opened_at).as_secs(), 63);
    }

    #[tokio::test(start_paused = true)]
    async fn a_herd_looks_at_different_times() {
        let now = Instant::now();
        let mut millis = [0.0, 0.5, 1.0].map(|chance| {
            let mut schedule = SweepSchedule::new(now, chance);
            let first = (schedule.next() - now).as_millis();
            schedule.advance(schedule.next(), chance);
            [first, (schedule.next() - now).as_millis()]
        });
        millis.reverse();
        assert_eq!(millis, [[1_600, 8_000], [1_800, 9_000], [2_000, 10_000]]);
    }
}
