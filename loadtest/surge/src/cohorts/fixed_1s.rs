//! Tries again every second.

use std::time::Duration;

use spillway_client::CallError;

use super::About;
use super::again::Habit;
use crate::stats::Operation;

pub(super) const ABOUT: About = About {
    name: "fixed-1s",
    operation: Operation("fixed_1s_send"),
    verb: "send",
    summary: "tries again every second, whatever the answer was",
    does: "Gives each attempt one second, pauses one second, and tries again for thirty seconds, whatever the answer was and whatever time the \
           service names.",
    who: "Scripts, bots and first versions of apps: `sleep(1)` in a loop.",
    source: "",
    ceiling: "2,000 attempts a second of the whole cohort, thirty for a message",
};

const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Fixed1s;

impl Habit for Fixed1s {
    fn pause(&mut self, _: u32, _: &CallError) -> Option<Duration> {
        Some(PAUSE)
    }
}
