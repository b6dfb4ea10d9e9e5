//! Backs off as it likes, and not as it is told.

use std::time::Duration;

use rand::Rng;
use spillway_client::CallError;

use super::About;
use super::again::Habit;
use crate::stats::Operation;

pub(super) const ABOUT: About = About {
    name: "ignores-pushback",
    operation: Operation("ignores_pushback_send"),
    verb: "send",
    summary: "backs off with jitter as it likes, and not when it is told",
    does: "Gives each attempt one second, and tries again up to nine times after 0 to 100 ms, 200 ms, 400 ms and so on up to 3.2 s. When the \
           service says \"not before\" or \"not again\", it does so all the same; it has no budget, and sends what it was told would be refused.",
    who: "Clients with a good retry library that does not know this service: RetryInfo, grpc-retry-pushback-ms and the hold-back header are \
          read by whoever implements them.",
    source: "gRFC A6 (pushback and retry throttling are the client's to keep)",
    ceiling: "2,000 attempts a second of the whole cohort, ten for a message",
};

const TRIES_MAX: u32 = 10;
const FIRST: Duration = Duration::from_millis(100);
const DOUBLINGS_MAX: u32 = 5;

pub(super) struct IgnoresPushback;

impl Habit for IgnoresPushback {
    fn pause(&mut self, tries: u32, _: &CallError) -> Option<Duration> {
        let longest = FIRST * 2u32.pow((tries - 1).min(DOUBLINGS_MAX));
        (tries < TRIES_MAX).then(|| longest.mul_f64(rand::rng().random()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::again::busy;
    use super::*;

    #[test]
    fn what_the_service_says_changes_nothing() {
        let pauses: Vec<_> = (1..=10).map(|tries| IgnoresPushback.pause(tries, &busy())).collect();
        assert!(
            pauses[..9].iter().all(|pause| pause.is_some_and(|pause| pause < Duration::from_millis(3_200)))
        );
        assert!(pauses[0].is_some_and(|pause| pause < FIRST), "it was told to wait for a minute: {pauses:?}");
        assert_eq!(pauses[9], None);
    }
}
