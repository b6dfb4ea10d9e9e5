//! Whether a fast cut may stay: judged by enough calls, none of which began before it.

use super::Trial;
use crate::limiter::LimitTick;

/// A fast cut, and what has finished since calls from before it are gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) trial: Trial,
    finished: f64,
    full: f64,
    span: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    NotYet,
    Keep,
    /// Throughput fell with the limit.
    TakeBack,
}

/// Useful seats a second, of the last [`JUDGED_CALLS`] or so.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent(f64);

/// So many calls judge a cut: their deviation is an eighth. Within a tick a server of 200 calls/s finishes 20, of which a third
/// may be missing by chance.
const JUDGED_CALLS: f64 = 64.0;
/// With fewer a second a cut is judged all the same.
const JUDGED_AFTER_S: f64 = 1.0;
/// Of a tick in which hardly anything finishes, in what was reached recently.
const RECENT_LEAST: f64 = 0.1;
/// Of the throughput before a cut: less is a loss and not noise.
const STILL_REACHED: f64 = 0.7;

impl Cut {
    pub(super) const fn new(trial: Trial) -> Self {
        Self { trial, finished: 0.0, full: 0.0, span: 0.0 }
    }

    /// Counts a tick.
    pub(super) fn judge(&mut self, tick: &LimitTick) -> Verdict {
        if tick.now < self.trial.settled {
            return Verdict::NotYet;
        }
        let length = tick.length.as_secs_f64();
        self.finished += tick.finished as f64;
        self.full += length * tick.full;
        self.span += length;
        if self.finished < JUDGED_CALLS && self.span < JUDGED_AFTER_S {
            return Verdict::NotYet;
        }
        let fell = self.finished / self.span.max(1e-3) < STILL_REACHED * self.trial.before;
        if fell && self.full > 0.5 * self.span { Verdict::TakeBack } else { Verdict::Keep }
    }
}

impl Recent {
    pub(super) fn take_in(&mut self, tick: &LimitTick) {
        let finished = tick.finished as f64;
        let sample = finished / tick.length.as_secs_f64().max(1e-3);
        self.0 += (finished / JUDGED_CALLS).clamp(RECENT_LEAST, 1.0) * (sample - self.0);
    }

    pub(super) const fn per_second(self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    fn tick(number: u32, finished: u64) -> LimitTick {
        LimitTick {
            now: TICK * number,
            length: TICK,
            limit: 64,
            inflight: 64,
            inflight_mean: 64.0,
            inflight_max: 64,
            full: 1.0,
            finished,
            finished_full: finished,
            queued: 10,
            run_queue_delay: Duration::ZERO,
        }
    }

    /// From 256 to 64 seats, at 200 calls/s.
    fn cut() -> Cut {
        Cut::new(Trial { from: 256.0, before: 200.0, settled: TICK * 10 })
    }

    #[test]
    fn one_bad_tick_of_a_small_server_takes_nothing_back() {
        let mut cut = cut();
        for number in 1..10 {
            assert_eq!(cut.judge(&tick(number, 0)), Verdict::NotYet, "what finishes now began before it");
        }
        assert_eq!(cut.judge(&tick(10, 8)), Verdict::NotYet);
        assert_eq!(cut.judge(&tick(11, 24)), Verdict::NotYet);
        assert_eq!(cut.judge(&tick(12, 20)), Verdict::NotYet);
        assert_eq!(cut.judge(&tick(13, 19)), Verdict::Keep);
    }

    #[test]
    fn a_loss_is_taken_back_within_a_second_however_little_finishes() {
        let mut judged = cut();
        assert!((10..=20).any(|number| judged.judge(&tick(number, 3)) == Verdict::TakeBack));
        let unused = |number| LimitTick { full: 0.0, ..tick(number, 3) };
        let mut judged = cut();
        assert!((10..=20).all(|number| judged.judge(&unused(number)) != Verdict::TakeBack));
    }

    #[test]
    fn a_clock_that_jumps_is_no_throughput() {
        let mut recent = Recent::default();
        recent.take_in(&LimitTick { length: Duration::from_secs(3_600), ..tick(1, 20) });
        recent.take_in(&LimitTick { length: Duration::ZERO, ..tick(1, 0) });
        assert!(recent.per_second().is_finite() && recent.per_second() < 1.0, "{recent:?}");
    }

    #[test]
    fn a_busy_server_is_known_after_a_tick_and_a_small_one_after_some() {
        let mut recent = Recent::default();
        recent.take_in(&tick(1, 1_000));
        assert!((recent.per_second() - 10_000.0).abs() < 1e-6);
        let mut recent = Recent::default();
        for number in 1..=20 {
            recent.take_in(&tick(number, if number % 2 == 0 { 10 } else { 30 }));
        }
        assert!((recent.per_second() - 200.0).abs() < 60.0, "{recent:?}");
    }
}
