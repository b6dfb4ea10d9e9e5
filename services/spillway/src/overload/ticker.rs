//! The thread that ticks.
//!
//! Not a task: when the runtime has more to do than it can, that is when the controllers must know it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use std::{io, thread};

use spillway_admission::{Signals, TICK};
use spillway_chassis::Tasks;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::run_queue::RunQueue;
use super::{Overload, descriptors};
use crate::memory;

/// Between probes of the run queue.
const PROBE_EVERY: Duration = Duration::from_millis(10);
/// What moves slowly and costs a little is measured once a second.
const SLOW_TICKS: u32 = 10;

pub(super) fn start(overload: Overload, tasks: &Tasks) -> io::Result<()> {
    let stopped = Arc::new(AtomicBool::new(false));
    let (cancelled, stop) = (tasks.cancelled(), Arc::clone(&stopped));
    tasks.spawn("overload stop", async move {
        cancelled.await;
        stop.store(true, Relaxed);
    });
    let runtime = Handle::current();
    thread::Builder::new()
        .name("overload".to_owned())
        .spawn(move || run(&overload, runtime, &stopped))
        .map(drop)
}

fn run(overload: &Overload, runtime: Handle, stopped: &AtomicBool) {
    let mut run_queue = RunQueue::of(runtime);
    let mut slow = Signals::default();
    let mut ticks = 0_u32;
    let mut next = Instant::now() + TICK;
    while !stopped.load(Relaxed) {
        run_queue.probe();
        thread::sleep(PROBE_EVERY);
        let now = Instant::now();
        if now < next {
            continue;
        }
        // A thread that was kept off the processors does not catch up: one tick then covers the time.
        next = (next + TICK).max(now);
        if ticks.is_multiple_of(SLOW_TICKS) {
            slow = Signals { memory: memory::used(), descriptors: descriptors::used(), ..slow };
        }
        ticks = ticks.wrapping_add(1);
        overload.tick(&Signals { run_queue_delay: run_queue.delay(), ..slow });
    }
}
