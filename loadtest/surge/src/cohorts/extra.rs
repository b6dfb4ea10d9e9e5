//! What the rude need of the machine that they come from, beside what everybody needs.

use std::time::Duration;

use super::ceiling::rate_max;
use super::{Cohort, connect_and_idle, half_open};

/// Connections of one member at the end of so long a load, beside the one that every user has.
pub(crate) fn connections(cohort: Cohort, load: Duration) -> u64 {
    match cohort {
        Cohort::ConnectAndIdle => connect_and_idle::CONNECTIONS as u64,
        // The dead ones stay open.
        Cohort::HalfOpen => (load.as_secs() / half_open::EVERY.as_secs() + 1).min(half_open::DEAD_MAX as u64),
        // Which it floods, walks or reads through, or on which its twin is.
        Cohort::MultiLogin
        | Cohort::RstStreamFlood
        | Cohort::SlowReader
        | Cohort::WrongOtp
        | Cohort::ContactScraper => 1,
        Cohort::Polite
        | Cohort::NoJitter
        | Cohort::Fixed1s
        | Cohort::HotLoop
        | Cohort::IgnoresPushback
        | Cohort::NoDeadline
        | Cohort::Impatient
        | Cohort::ResendSameId
        | Cohort::Oversize
        | Cohort::NeverAcks => 0,
    }
}

/// Connections of a whole cohort that may be closed a second, whose ports rest for a while.
pub(crate) fn closed_per_s(cohort: Cohort, members: u64) -> f64 {
    match cohort {
        Cohort::ConnectAndIdle => {
            rate_max(cohort).min((members * connections(cohort, Duration::ZERO)) as f64)
        }
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_as_many_as_there_was_time_for() {
        let dead = |seconds| connections(Cohort::HalfOpen, Duration::from_secs(seconds));
        assert_eq!([dead(0), dead(19), dead(20), dead(60), dead(100_000)], [1, 1, 2, 4, 16]);
        assert_eq!(connections(Cohort::ConnectAndIdle, Duration::ZERO), 4);
        assert_eq!(
            (closed_per_s(Cohort::ConnectAndIdle, 3), closed_per_s(Cohort::ConnectAndIdle, 900)),
            (12.0, 50.0)
        );
        assert_eq!(closed_per_s(Cohort::HotLoop, 900), 0.0);
    }
}
