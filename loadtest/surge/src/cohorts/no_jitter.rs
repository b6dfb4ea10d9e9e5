//! Backs off, and everybody at the same moments.

use std::time::Duration;

use spillway_client::CallError;

use super::About;
use super::again::Habit;
use crate::stats::Operation;

pub(super) const ABOUT: About = About {
    name: "no-jitter",
    operation: Operation("no_jitter_send"),
    verb: "send",
    summary: "backs off exponentially, and everybody at the same moments",
    does: "Gives each attempt one second, and tries again after exactly 1 s, 2 s, 4 s, 8 s and 16 s. Nothing is drawn at random, so those who \
           failed together come back together. It does not wait for the time that the service names.",
    who: "Clients with a back-off that was written by hand, and gRPC clients that are told one delay: they come back after exactly that.",
    source: "gRFC A6 (a client waits exactly as long as it is told); AWS Builders' Library, Timeouts, retries and backoff with jitter",
    ceiling: "2,000 attempts a second of the whole cohort, six for a message",
};

const FIRST: Duration = Duration::from_secs(1);
/// 31 s of pauses, as long as people wait.
const TRIES_MAX: u32 = 6;

pub(super) struct NoJitter;

impl Habit for NoJitter {
    fn pause(&mut self, tries: u32, error: &CallError) -> Option<Duration> {
        (tries < TRIES_MAX && error.is_retryable()).then(|| FIRST * 2u32.pow(tries - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::again::busy;
    use super::*;

    #[test]
    fn pauses_double_and_are_the_same_for_everybody() {
        let pauses = || (1..=6).map(|tries| NoJitter.pause(tries, &busy())).collect::<Vec<_>>();
        let seconds = [Some(1), Some(2), Some(4), Some(8), Some(16), None];
        assert_eq!(pauses(), seconds.map(|s| s.map(Duration::from_secs)));
        assert_eq!(pauses(), pauses());
    }
}
