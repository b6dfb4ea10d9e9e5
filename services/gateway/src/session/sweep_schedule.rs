//! When a session looks at its mailbox without having been told to.
//!
//! A hint can be lost at any time, and is most likely lost right after the session opened, before all of the bus
//! knows of its interest, and right after the bus was gone: a worker may store mail before its own connection is back,
//! and has nobody to tell then. So the looks are dense at first, and again after an outage, and then rare.

use std::time::Duration;

use tokio::time::Instant;

const DENSE: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60)];
const EVERY: Duration = Duration::from_secs(5 * 60);
/// A herd that connected together must not look together for ever.
const SPREAD: f64 = 0.2;

/// After an outage all sessions start over in the same moment. Their looks are spread over this time.
const RESTART_SPREAD: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct SweepSchedule {
    /// When the session opened, or hints were lost.
    from: Instant,
    next: Instant,
    done: usize,
}

impl SweepSchedule {
    pub(crate) fn new(opened_at: Instant) -> Self {
        Self { from: opened_at, next: opened_at + DENSE[0], done: 0 }
    }

    /// Hints were lost, and more may be lost for a while. `chance` is between 0 and 1.
    pub(crate) fn restart(&mut self, now: Instant, chance: f64) {
        *self = Self::new(now + RESTART_SPREAD.mul_f64(chance));
    }

    pub(crate) const fn next(&self) -> Instant {
        self.next
    }

    /// The sweep that was due has begun. `chance` is between 0 and 1.
    pub(crate) fn advance(&mut self, now: Instant, chance: f64) {
        self.done += 1;
        self.next = match DENSE.get(self.done) {
            Some(after) => (self.from + *after).max(now),
            None => now + EVERY.mul_f64(1.0 - SPREAD + 2.0 * SPREAD * chance),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn three_early_looks_then_every_five_minutes_spread_by_a_fifth() {
        let opened_at = Instant::now();
        let mut schedule = SweepSchedule::new(opened_at);
        let mut seconds = Vec::new();
        for chance in [0.0, 0.0, 0.0, 0.5, 1.0] {
            seconds.push((schedule.next() - opened_at).as_secs());
            schedule.advance(schedule.next(), chance);
        }
        assert_eq!(seconds, [2, 10, 60, 60 + 240, 60 + 240 + 300]);
        assert_eq!((schedule.next() - opened_at).as_secs(), 60 + 240 + 300 + 360);
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_outage_it_starts_over() {
        let now = Instant::now();
        let mut schedule = SweepSchedule::new(now);
        (0..5).for_each(|_| schedule.advance(now, 0.5));
        schedule.restart(now, 0.5);
        let mut millis = Vec::new();
        for _ in 0..3 {
            millis.push((schedule.next() - now).as_millis());
            schedule.advance(schedule.next(), 0.5);
        }
        assert_eq!(millis, [2_500, 10_500, 60_500]);
    }
}
