//! Hands planned arrivals to the runtime at their times.
//!
//! One operating-system thread sleeps from arrival to arrival. Tokio's timer rounds up to a millisecond, which would
//! be counted into every response time, and its wake-ups queue behind the load they are meant to start; the kernel's
//! timer and one wake-up take about 0.1 ms. Nothing spins, because on a small machine the server needs the core.
//!
//! An arrival is never skipped. When the receiver or the machine is late, what is overdue is handed over at once and
//! the lateness is left to be measured as lag: the time between planned and sent.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::schedule::Arrival;

/// Arrivals that may wait for the receiver. A receiver this far behind makes the thread wait, which shows as lag.
const QUEUE_MAX: usize = 16_384;

/// The longest sleep, so that a stop is noticed soon.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// An arrival whose time has come.
#[derive(Clone, Copy, Debug)]
pub struct Due<T> {
    pub stream: T,
    pub index: u64,
    /// When it should have been sent; response time counts from here.
    pub planned: Instant,
}

/// Receives arrivals on time. Dropping it stops the thread.
#[derive(Debug)]
pub struct Pacer<T> {
    due: mpsc::Receiver<Due<T>>,
    stop: StopHandle,
}

/// Ends the arrivals early: those not yet due are dropped.
#[derive(Clone, Debug, Default)]
pub struct StopHandle(Arc<AtomicBool>);

impl<T: Send + 'static> Pacer<T> {
    /// Starts handing over the arrivals of `schedule`, whose times count from `started`.
    ///
    /// Fails when the operating system has no thread to give.
    pub fn start<S>(started: Instant, schedule: S) -> io::Result<Self>
    where
        S: Iterator<Item = Arrival<T>> + Send + 'static,
    {
        let (sender, due) = mpsc::channel(QUEUE_MAX);
        let stop = StopHandle::default();
        let stopped = stop.clone();
        std::thread::Builder::new().name("surge-pacer".to_owned()).spawn(move || {
            for Arrival { stream, index, at } in schedule {
                let planned = started + at;
                if !sleep_until(planned, &stopped)
                    || sender.blocking_send(Due { stream, index, planned }).is_err()
                {
                    return;
                }
            }
        })?;
        Ok(Self { due, stop })
    }

    /// The next arrival, once it is due; `None` after the last one or a stop.
    pub async fn next(&mut self) -> Option<Due<T>> {
        self.due.recv().await
    }

    /// The same for whoever waits for several.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Due<T>>> {
        self.due.poll_recv(context)
    }

    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }
}

impl<T> Drop for Pacer<T> {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

impl StopHandle {
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sleeps until the time has come; false when stopped first.
fn sleep_until(planned: Instant, stop: &StopHandle) -> bool {
    loop {
        if stop.0.load(Ordering::Relaxed) {
            return false;
        }
        let left = planned.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(SLEEP_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::Curve;
    use crate::schedule::{Arrivals, Schedule};

    fn schedule(per_s: f64, duration: Duration) -> Schedule<()> {
        Schedule::new((), Arc::new(Curve::constant(per_s, duration).unwrap()), Arrivals::Poisson, 1)
    }

    #[tokio::test]
    async fn every_arrival_comes_in_order_and_none_early() {
        let started = Instant::now();
        let duration = Duration::from_millis(300);
        let planned: Vec<_> = schedule(1_000.0, duration).map(|arrival| started + arrival.at).collect();
        let mut pacer = Pacer::start(started, schedule(1_000.0, duration)).unwrap();
        let mut fired = Vec::new();
        while let Some(due) = pacer.next().await {
            assert!(Instant::now() >= due.planned);
            fired.push(due.planned);
        }
        assert_eq!(fired, planned);
    }

    /// A generator that was stopped for 5 s sends what it missed, with the planned times that it missed.
    #[tokio::test]
    async fn what_is_overdue_is_caught_up_and_not_skipped() {
        let late_by = Duration::from_secs(5);
        let started = Instant::now() - late_by;
        let mut pacer = Pacer::start(started, schedule(100.0, Duration::from_secs(5))).unwrap();
        let mut count = 0;
        let mut lag_max = Duration::ZERO;
        while let Some(due) = pacer.next().await {
            count += 1;
            lag_max = lag_max.max(Instant::now() - due.planned);
        }
        assert_eq!(count, schedule(100.0, Duration::from_secs(5)).count());
        assert!(lag_max > Duration::from_millis(4_900), "{lag_max:?}");
    }

    #[tokio::test]
    async fn a_stop_ends_the_arrivals_long_before_they_are_due() {
        let mut pacer = Pacer::start(Instant::now(), schedule(1.0, Duration::from_secs(3_600))).unwrap();
        pacer.stop_handle().stop();
        let ended =
            tokio::time::timeout(Duration::from_secs(30), async { while pacer.next().await.is_some() {} });
        ended.await.expect("the thread notices a stop within one sleep");
    }
}
