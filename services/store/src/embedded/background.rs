//! The priority of fjall's own threads, which flush and compact.
//!
//! A flush keeps a processor busy for some tenths of a second, and on a machine with two of them every caller waits
//! meanwhile: with equal priority, one message in a hundred was twice as late. Idle priority (`SCHED_IDLE`, sched(7)) and not
//! `nice`, because a thread that wakes up is then put on the flush's processor and not behind others on the next one.
//!
//! Callers cannot starve the flushes for good: fjall holds writes back when too much waits to be flushed, and callers
//! who wait leave the processors free.

use std::io;
use std::thread;

use thread_priority::unix::{set_thread_priority_and_policy, thread_native_id};
use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};

/// Runs `open` on a thread of idle priority, which the threads that it starts inherit.
pub(super) fn run<T: Send>(open: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let opener =
            thread::Builder::new().name("store-open".to_owned()).spawn_scoped(scope, || open_idle(open))?;
        Ok(opener.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn open_idle<T>(open: impl FnOnce() -> T) -> T {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // Everything works without it, only less evenly.
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
        tracing::warn!(?error, "the store's background threads keep the priority of the others");
    }
    open()
}
