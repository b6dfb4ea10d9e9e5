//! How long a task that could run waits until it does.
//!
//! Measured from outside the runtime: a probe is a task that does nothing but look at the time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

/// The median of so many counts: of 300 ms, when there are ten in a tick. A pause of the machine, a sync or a burst of
/// arrivals is no overload, and with the worst of one tick sign-ups were refused for each.
const COUNTED: usize = 30;

#[derive(Debug)]
pub(super) struct RunQueue {
    runtime: Handle,
    probes: VecDeque<Probe>,
}

#[derive(Debug)]
struct Probe {
    sent: Instant,
    /// Microseconds, and one more; 0 until it has run.
    waited: Arc<AtomicU64>,
}

impl RunQueue {
    pub(super) const fn of(runtime: Handle) -> Self {
        Self { runtime, probes: VecDeque::new() }
    }

    pub(super) fn probe(&mut self) {
        if self.probes.len() >= COUNTED {
            // A runtime that stands still is not given more and more to do.
            if self.probes.front().is_some_and(|oldest| !oldest.has_run()) {
                return;
            }
            self.probes.pop_front();
        }
        let probe = Probe { sent: Instant::now(), waited: Arc::default() };
        let (sent, waited) = (probe.sent, Arc::clone(&probe.waited));
        self.runtime.spawn(async move {
            let micros = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
            waited.store(micros.saturating_add(1), Relaxed);
        });
        self.probes.push_back(probe);
    }

    /// The median of the newest probes. One that has not run yet counts with its age.
    pub(super) fn delay(&self) -> Duration {
        let mut delays: Vec<Duration> = self.probes.iter().map(Probe::delay).collect();
        delays.sort_unstable();
        delays.get(delays.len() / 2).copied().unwrap_or_default()
    }
}

impl Probe {
    fn has_run(&self) -> bool {
        self.waited.load(Relaxed) > 0
    }

    fn delay(&self) -> Duration {
        match self.waited.load(Relaxed) {
            0 => self.sent.elapsed(),
            waited => Duration::from_micros(waited - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn a_runtime_that_stands_still_is_seen_while_it_does_and_a_pause_is_not() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let mut queue = RunQueue::of(runtime.handle().clone());
        assert_eq!(queue.delay(), Duration::ZERO);
        let (release, held) = std::sync::mpsc::channel::<()>();
        runtime.spawn(async move { held.recv().ok() });
        for _ in 0..COUNTED {
            queue.probe();
        }
        sleep(Duration::from_millis(50));
        assert!(queue.delay() >= Duration::from_millis(50));
        for _ in 0..1_000 {
            queue.probe();
        }
        assert_eq!(queue.probes.len(), COUNTED, "no more are sent to a runtime that stands still");
        release.send(()).unwrap();
        let patience = Instant::now() + Duration::from_secs(10);
        let all_have_run = |queue: &RunQueue| queue.probes.iter().all(Probe::has_run);
        while !all_have_run(&queue) {
            assert!(Instant::now() < patience, "the probes run once they can");
            sleep(Duration::from_millis(1));
        }
        assert!(queue.delay() >= Duration::from_millis(50), "what has been counts for a while");
        // More than half are newer than the pause.
        for _ in 0..COUNTED / 2 + 2 {
            queue.probe();
            while !all_have_run(&queue) {
                assert!(Instant::now() < patience, "the probes run");
                sleep(Duration::from_millis(1));
            }
        }
        assert!(queue.delay() < Duration::from_millis(50));
    }
}
