//! What became of the sends that were due in each second.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// An acknowledgement later than this is kept, but nobody calls it working.
const IN_TIME: Duration = Duration::from_secs(5);
/// Sends work in a second in which at least this share was answered in time.
const WORKING: f64 = 0.9;

#[derive(Debug)]
pub(in super::super) struct Seconds {
    started: Instant,
    counts: Mutex<Vec<Second>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    due: u32,
    in_time: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Acked,
    Failed,
}

impl Second {
    fn works(self) -> bool {
        self.due > 0 && f64::from(self.in_time) >= WORKING * f64::from(self.due)
    }
}

impl Seconds {
    pub(super) fn new(started: Instant) -> Self {
        Self { started, counts: Mutex::default() }
    }

    pub(super) fn due(&self, planned: Instant) {
        self.change(planned, |second| second.due += 1);
    }

    pub(super) fn ended(&self, planned: Instant, end: End) {
        if end == End::Acked && planned.elapsed() <= IN_TIME {
            self.change(planned, |second| second.in_time += 1);
        }
    }

    /// From `mark` to the end of the first whole second after it in which sends worked; none while there is none.
    pub(in super::super) fn working_after(&self, mark: Instant) -> Option<Duration> {
        let after = mark.saturating_duration_since(self.started);
        let first = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        let over = self.started.elapsed().as_secs();
        let counts = self.counts();
        let working = (first..over).find(|second| {
            let count = usize::try_from(*second).ok().and_then(|second| counts.get(second));
            count.is_some_and(|second| second.works())
        })?;
        Some(Duration::from_secs(working + 1) - after)
    }

    /// When it is certain that nothing which is still under way makes a second before `mark` + `within` a working one.
    pub(in super::super) fn known_at(mark: Instant, within: Duration) -> Instant {
        mark + within + IN_TIME
    }

    /// Seconds in which sends did not work.
    pub(super) fn bad(&self) -> u64 {
        self.counts().iter().filter(|second| second.due > 0 && !second.works()).count() as u64
    }

    fn change(&self, planned: Instant, change: impl FnOnce(&mut Second)) {
        let at = planned.saturating_duration_since(self.started).as_secs();
        let at = usize::try_from(at).expect("a run has fewer seconds than memory has bytes");
        let mut counts = self.counts();
        if counts.len() <= at {
            counts.resize(at + 1, Second::default());
        }
        change(&mut counts[at]);
    }

    fn counts(&self) -> MutexGuard<'_, Vec<Second>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, pause};

    use super::*;

    /// Ten sends in each second; `acked` of them are answered at once.
    async fn second(seconds: &Seconds, acked: usize) {
        let planned = Instant::now();
        for n in 0..10 {
            seconds.due(planned);
            seconds.ended(planned, if n < acked { End::Acked } else { End::Failed });
        }
        advance(Duration::from_secs(1)).await;
    }

    #[tokio::test]
    async fn the_first_whole_second_that_works_ends_the_outage() {
        pause();
        let seconds = Seconds::new(Instant::now());
        second(&seconds, 10).await;
        let mark = Instant::now() - Duration::from_millis(500);
        assert_eq!(seconds.working_after(mark), None, "the second of the mark has begun before it");
        for acked in [0, 8] {
            second(&seconds, acked).await;
        }
        assert_eq!(seconds.working_after(mark), None);
        second(&seconds, 9).await;
        assert_eq!(seconds.working_after(mark), Some(Duration::from_millis(3_500)));
        assert_eq!(seconds.bad(), 2);
    }

    #[tokio::test]
    async fn an_answer_after_five_seconds_is_not_working() {
        pause();
        let seconds = Seconds::new(Instant::now());
        let planned = Instant::now();
        seconds.due(planned);
        advance(Duration::from_millis(5_001)).await;
        seconds.ended(planned, End::Acked);
        assert_eq!(seconds.working_after(planned), None);
    }
}
