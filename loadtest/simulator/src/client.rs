//! How clients behave: what they do when they are refused, and what they hear of what they are told.
//!
//! The cohorts are those of `reference/load_testing.md` A7 that change what a server has to carry. Those that test
//! what a server stores or checks (wrong codes, oversized messages, acks that never come, repeated ids) are for real
//! servers; here they would look like somebody else of this list.

mod population;

pub(crate) use population::Population;

use serde::{Deserialize, Serialize};
use spillway_admission::{Failure, InCall, RetryBudget};

use crate::policy::Pushback;
use crate::random::Stream;
use crate::time::Nanos;

/// Which kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cohort {
    /// Asks once and takes no for an answer: load that does not depend on what the server does.
    OpenLoop,
    /// Asks once, holds back what it was told not to send, and does not ask for a tier again before the time that it
    /// was told (`RetryInfo`).
    Cooperative,
    /// The shipped client: three tries, full jitter, the retry budget of gRFC A6, pushback and hold-back heard.
    Polite,
    /// The shipped client's tries and budget, deaf to pushback and hold-back.
    IgnoresPushback,
    /// Doubles its pause like everybody else, without jitter, without a budget, deaf.
    NoJitter,
    /// Once a second until it succeeds, deaf.
    #[serde(rename = "fixed-1s")]
    FixedOneSecond,
    /// Three more tries at once, deaf.
    Naive,
    /// At once and for ever, deaf.
    HotLoop,
    /// Half a second, then again with a new id: the server cannot know that it is the same call.
    Impatient,
    /// Sends no deadline, so nothing it sends is ever too late for the server.
    NoDeadline,
    /// Hangs up right after it asked.
    RstStreamFlood,
}

/// When a failed call is made again by those who have no budget.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pause {
    Immediate,
    Fixed(Nanos),
    Doubling { base: Nanos, cap: Nanos },
}

/// What a cohort does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    tries_max: u32,
    pause: Pause,
    /// Retries as [`RetryBudget`] says, the very code of the shipped client.
    budget: bool,
    pub(crate) hears_pushback: bool,
    pub(crate) hears_hold_back: bool,
    /// One timer for each tier: no new call before the time that a refused one was told.
    pub(crate) hears_retry_info: bool,
    /// Waits a random part of the spread before it connects again.
    pub(crate) spreads_reconnects: bool,
    /// Own deadline for a try instead of the class's.
    pub(crate) deadline: Option<Nanos>,
    /// Whether the server is told a deadline.
    pub(crate) tells_deadline: bool,
    /// Hangs up so long after asking.
    pub(crate) hangs_up: Option<Nanos>,
    /// How long after its birth a call is still worth a try.
    pub(crate) patience: Nanos,
}

/// Three tries at most, as `RetryPolicy` of `services/admission` has it.
const SHIPPED: Behaviour = Behaviour {
    tries_max: 3,
    pause: Pause::Immediate,
    budget: true,
    hears_pushback: true,
    hears_hold_back: true,
    hears_retry_info: false,
    spreads_reconnects: true,
    deadline: None,
    tells_deadline: true,
    hangs_up: None,
    patience: Nanos::from_secs(60),
};

const DEAF: Behaviour = Behaviour {
    budget: false,
    hears_pushback: false,
    hears_hold_back: false,
    spreads_reconnects: false,
    patience: Nanos::MAX,
    ..SHIPPED
};

impl Cohort {
    pub(crate) fn behaviour(self) -> Behaviour {
        match self {
            Self::OpenLoop => Behaviour { tries_max: 1, ..DEAF },
            Self::Cooperative => Behaviour { tries_max: 1, hears_retry_info: true, ..SHIPPED },
            Self::Polite => SHIPPED,
            Self::IgnoresPushback => {
                Behaviour { budget: true, patience: SHIPPED.patience, spreads_reconnects: true, ..DEAF }
            }
            Self::NoJitter => Behaviour {
                tries_max: u32::MAX,
                pause: Pause::Doubling { base: Nanos::from_millis(500), cap: Nanos::from_secs(60) },
                ..DEAF
            },
            Self::FixedOneSecond => {
                Behaviour { tries_max: u32::MAX, pause: Pause::Fixed(Nanos::SECOND), ..DEAF }
            }
            Self::Naive => Behaviour { tries_max: 4, pause: Pause::Immediate, ..DEAF },
            Self::HotLoop => Behaviour { tries_max: u32::MAX, pause: Pause::Immediate, ..DEAF },
            Self::Impatient => Behaviour {
                tries_max: u32::MAX,
                pause: Pause::Immediate,
                deadline: Some(Nanos::from_millis(500)),
                ..DEAF
            },
            Self::NoDeadline => Behaviour {
                tells_deadline: false,
                tries_max: u32::MAX,
                pause: Pause::Fixed(Nanos::SECOND),
                ..DEAF
            },
            Self::RstStreamFlood => Behaviour { tries_max: 1, hangs_up: Some(Nanos::from_millis(1)), ..DEAF },
        }
    }
}

/// Why an attempt came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Refused, or failed, and what came with it.
    Told(Pushback),
    TimedOut,
}

impl Behaviour {
    /// How long to wait before the next try after `tries` of them; `None` when there is none.
    pub(crate) fn pause(
        &self,
        tries: u32,
        failed: Failed,
        budget: &mut RetryBudget,
        chance: &mut Stream,
    ) -> Option<Nanos> {
        if tries >= self.tries_max {
            return None;
        }
        if self.budget {
            let failure = match failed {
                Failed::TimedOut => Failure::Timeout,
                Failed::Told(Pushback::After(pause)) if self.hears_pushback => {
                    Failure::Told(InCall::RetryAfter(pause.duration()))
                }
                Failed::Told(Pushback::Never) if self.hears_pushback => Failure::Told(InCall::DoNotRetry),
                Failed::Told(_) => Failure::Retryable,
            };
            return budget.failed(tries, failure, chance.rng()).map(Nanos::from);
        }
        Some(match self.pause {
            Pause::Immediate => Nanos::ZERO,
            Pause::Fixed(pause) => pause,
            Pause::Doubling { base, cap } => Nanos(base.0.saturating_mul(1 << tries.min(16))).min(cap),
        })
    }
}

#[cfg(test)]
mod tests {
    use spillway_admission::RetryPolicy;

    use super::*;

    fn pause(cohort: Cohort, tries: u32, told: Pushback) -> Option<Nanos> {
        let mut budget = RetryBudget::new(RetryPolicy::default());
        cohort.behaviour().pause(tries, Failed::Told(told), &mut budget, &mut Stream::new(1, 1))
    }

    #[test]
    fn only_those_who_listen_do_as_they_are_told() {
        let told = Pushback::After(Nanos::from_secs(7));
        assert_eq!(pause(Cohort::Polite, 1, told), Some(Nanos::from_secs(7)));
        assert_eq!(pause(Cohort::Polite, 1, Pushback::Never), None);
        assert!(pause(Cohort::IgnoresPushback, 1, told).unwrap() <= Nanos::SECOND);
        assert_eq!(pause(Cohort::HotLoop, 1, told), Some(Nanos::ZERO));
        assert_eq!(pause(Cohort::FixedOneSecond, 1, Pushback::Never), Some(Nanos::SECOND));
        assert_eq!(pause(Cohort::NoJitter, 1, told), Some(Nanos::SECOND));
        assert_eq!(pause(Cohort::OpenLoop, 1, told), None);
    }

    #[test]
    fn naive_means_three_more() {
        let tries = (1..10).filter(|tries| pause(Cohort::Naive, *tries, Pushback::Silent).is_some());
        assert_eq!(tries.count(), 3);
    }
}
