//! How clients behave: what they do when they are refused, and what they hear of what they are told.
//!
//! The cohorts are those of `reference/load_testing.md` A7 that change what a server has to carry. Those that test
//! what a server stores or checks (wrong codes, oversized messages, acks that never come, repeated ids) are for real
//! servers; here they would look like somebody else of this list.

mod population;

pub(crate) use population::Population;

use serde::{Deserialize, Serialize};

use crate::policy::Pushback;
use crate::random::Stream;
use crate::time::Nanos;

/// Which kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cohort {
    /// Asks once and takes no for an answer: load that does not depend on what the server does.
    OpenLoop,
    /// Asks once, and holds back what it was told not to send.
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

/// When a failed call is made again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pause {
    Immediate,
    Fixed(Nanos),
    /// Full jitter under a ceiling that doubles; or the ceiling itself.
    Doubling {
        base: Nanos,
        cap: Nanos,
        jitter: bool,
    },
}

/// What a cohort does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    tries_max: u32,
    pause: Pause,
    budget: bool,
    pub(crate) hears_pushback: bool,
    pub(crate) hears_hold_back: bool,
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

/// `services/client/src/retry.rs`: three tries, base 0.5 s, cap 60 s.
const SHIPPED: Behaviour = Behaviour {
    tries_max: 3,
    pause: Pause::Doubling { base: Nanos::from_millis(500), cap: Nanos::from_secs(60), jitter: true },
    budget: true,
    hears_pushback: true,
    hears_hold_back: true,
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
            Self::Cooperative => Behaviour { tries_max: 1, ..SHIPPED },
            Self::Polite => SHIPPED,
            Self::IgnoresPushback => {
                Behaviour { budget: true, patience: SHIPPED.patience, spreads_reconnects: true, ..DEAF }
            }
            Self::NoJitter => Behaviour {
                tries_max: u32::MAX,
                pause: Pause::Doubling {
                    base: Nanos::from_millis(500),
                    cap: Nanos::from_secs(60),
                    jitter: false,
                },
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
            Self::NoDeadline => {
                Behaviour { tells_deadline: false, tries_max: u32::MAX, pause: Pause::Fixed(Nanos::SECOND), ..DEAF }
            }
            Self::RstStreamFlood => {
                Behaviour { tries_max: 1, hangs_up: Some(Nanos::from_millis(1)), ..DEAF }
            }
        }
    }
}

/// Tenths of a token of gRFC A6: 10 tokens at most, a failure costs one, a success gives back a tenth.
const TENTHS_MAX: i16 = 100;
const FAILURE_COST: i16 = 10;
const SUCCESS_GAIN: i16 = 1;

/// The retry throttle of gRFC A6 of one client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget(i16);

impl Budget {
    pub(crate) const FULL: Self = Self(TENTHS_MAX);

    pub(crate) fn succeeded(&mut self) {
        self.0 = (self.0 + SUCCESS_GAIN).min(TENTHS_MAX);
    }

    /// Counts a failure; answers whether it may be retried.
    fn failed(&mut self) -> bool {
        self.0 = (self.0 - FAILURE_COST).max(0);
        self.0 > TENTHS_MAX / 2
    }
}

impl Behaviour {
    /// How long to wait before the next try after `tries` of them; `None` when there is none.
    pub(crate) fn pause(
        &self,
        tries: u32,
        told: Pushback,
        budget: &mut Budget,
        chance: &mut Stream,
    ) -> Option<Nanos> {
        let affordable = budget.failed() || !self.budget;
        if tries >= self.tries_max || !affordable {
            return None;
        }
        match told {
            Pushback::Never if self.hears_pushback => return None,
            Pushback::After(pause) if self.hears_pushback => return Some(pause),
            _ => {}
        }
        Some(match self.pause {
            Pause::Immediate => Nanos::ZERO,
            Pause::Fixed(pause) => pause,
            Pause::Doubling { base, cap, jitter } => {
                let ceiling = Nanos(base.0.saturating_mul(1 << tries.min(16))).min(cap);
                if jitter { chance.within(ceiling) } else { ceiling }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_client_stops_when_everything_fails() {
        let (mut budget, mut chance) = (Budget::FULL, Stream::new(1, 1));
        let mut retry = || SHIPPED.pause(1, Pushback::Silent, &mut budget, &mut chance).is_some();
        assert_eq!((0..100).filter(|_| retry()).count(), 4, "10 tokens: failures 1 to 4 leave more than 5");
    }

    #[test]
    fn only_those_who_listen_do_as_they_are_told() {
        let mut chance = Stream::new(1, 1);
        let mut pause = |cohort: Cohort, told| {
            cohort.behaviour().pause(1, told, &mut { Budget::FULL }, &mut chance)
        };
        let told = Pushback::After(Nanos::from_secs(7));
        assert_eq!(pause(Cohort::Polite, told), Some(Nanos::from_secs(7)));
        assert_eq!(pause(Cohort::Polite, Pushback::Never), None);
        assert_eq!(pause(Cohort::HotLoop, told), Some(Nanos::ZERO));
        assert_eq!(pause(Cohort::FixedOneSecond, Pushback::Never), Some(Nanos::SECOND));
        assert_eq!(pause(Cohort::NoJitter, told), Some(Nanos::SECOND));
        assert_eq!(pause(Cohort::OpenLoop, told), None);
    }

    #[test]
    fn naive_means_three_more() {
        let mut chance = Stream::new(1, 1);
        let tries = (1..10).filter(|tries| {
            Cohort::Naive.behaviour().pause(*tries, Pushback::Silent, &mut { Budget::FULL }, &mut chance).is_some()
        });
        assert_eq!(tries.count(), 3);
    }
}
