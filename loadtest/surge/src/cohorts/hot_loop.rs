//! Tries again at once.

use std::time::Duration;

use spillway_client::CallError;

use super::About;
use super::again::Habit;
use crate::stats::Operation;

pub(super) const ABOUT: About = About {
    name: "hot-loop",
    operation: Operation("hot_loop_send"),
    verb: "send",
    summary: "tries again at once, until it works",
    does: "Gives each attempt one second, and tries again at once, for thirty seconds, whatever the answer was. Each message is a loop of its \
           own, so whoever fails more has more loops.",
    who: "A `while (!sent)` without a pause; and several layers of a client that each repeat, which multiply. In January 2021 Signal's \
          Android client got an answer that means \"stop retrying\", and a flag for the retries of its HTTP library.",
    source: "Signal-Server 0a322d5a9, Signal-Android 9c71afe4 and 0a71ef54 (15 and 16 January 2021)",
    ceiling: "1,000 attempts a second of the whole cohort, whatever it would like; who comes when they are used up waits",
};

/// Of the whole cohort. A loop in this process must not take the processors that the service and the polite need.
pub(super) const PER_S_MAX: f64 = 1_000.0;

pub(super) struct HotLoop;

impl Habit for HotLoop {
    fn pause(&mut self, _: u32, _: &CallError) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}
