//! Takes every delay for a loss, and writes the message anew.

use std::time::Duration;

use spillway_client::CallError;

use super::About;
use super::again::Habit;
use crate::stats::Operation;

pub(super) const ABOUT: About = About {
    name: "impatient",
    operation: Operation("impatient_send"),
    verb: "send",
    summary: "gives an answer 500 ms, then writes the same again as a new message",
    does: "Gives each attempt 500 ms. Then it writes the same again under a new id, four times at most. The first may have been stored long \
           ago, so receivers may see a message several times: these are counted apart, as repeated.",
    who: "People who press \"send\" again, and clients that make a new id for each attempt.",
    source: "",
    ceiling: "2,000 attempts a second of the whole cohort, four for a message",
};

const DEADLINE: Duration = Duration::from_millis(500);
const TRIES_MAX: u32 = 4;

pub(super) struct Impatient;

impl Habit for Impatient {
    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn pause(&mut self, tries: u32, _: &CallError) -> Option<Duration> {
        (tries < TRIES_MAX).then_some(Duration::ZERO)
    }

    fn takes_new_id(&self) -> bool {
        true
    }
}
