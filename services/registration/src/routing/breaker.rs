//! Whether a provider is asked at all.
//!
//! Closed, it counts. It opens when at least half of the calls of the last seconds failed, and then waits, each time
//! twice as long up to a bound. Then it is half open: one call at a time goes out as a probe, three in a row that are
//! taken close it, and one that fails opens it again. A refusal of a number counts as a quarter of a failure: a wrong
//! password refuses everybody, and a person's mistyped number must not close a provider.
//!
//! It also opens when a provider takes codes that nobody receives. That is for whoever sees conversions to tell
//! ([`Breaker::collapsed`]); the waits are longer then, because so is finding out.

use std::time::Duration;

use tokio::time::Instant;

use super::faded::Faded;

/// Old enough to bridge the gap between two calls at one a second, and a quarter of a minute after a burst of
/// failures nothing is left of it.
const HALF_LIFE: Duration = Duration::from_secs(5);
/// Fewer failures say nothing.
const FAILURES_MIN: f64 = 4.5;
const FAILURE_SHARE: f64 = 0.5;
const REFUSAL: f64 = 0.25;

/// Wait after opening for the first time, and at most. 30 s so that who comes back is used within that time.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The same after a collapse, where a try costs the time until somebody would have typed the code.
const BACKOFF_COLLAPSED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));
/// Closed for so long, the waits begin anew.
const SETTLED: Duration = Duration::from_secs(60);
/// Probes in a row that have to be taken.
const PROBES: u8 = 3;
/// When to ask again whether the probe has come back.
const PROBE_LOOK: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakerState {
    Closed,
    HalfOpen,
    Open,
}

/// How far a provider can be counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// One call at a time.
    Probing,
    /// Nobody seems to receive its codes: when there is nobody else.
    LastResort,
    Shut,
}

/// What became of a call, as far as it says something about the provider's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Taken,
    Failed,
    Refused,
    /// Throttled, or the call was never made.
    Unknown,
}

/// Goes with a call, and comes back with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    is_probe: bool,
}

#[derive(Debug)]
pub(super) struct Breaker {
    phase: Phase,
    failures: Faded,
    calls: Faded,
    /// How often it has opened without having settled in between.
    openings: u32,
    collapsed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed { since: Instant },
    Open { until: Instant },
    HalfOpen { taken: u8, is_probing: bool },
}

impl Breaker {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Closed { since: now },
            failures: Faded::new(HALF_LIFE, now),
            calls: Faded::new(HALF_LIFE, now),
            openings: 0,
            collapsed: false,
        }
    }

    /// # Errors
    ///
    /// When to ask again.
    pub(super) fn admits(&self, now: Instant) -> Result<(), Instant> {
        match self.phase {
            Phase::Open { until } if until > now => Err(until),
            Phase::HalfOpen { is_probing: true, .. } => Err(now + PROBE_LOOK),
            Phase::Closed { .. } | Phase::Open { .. } | Phase::HalfOpen { .. } => Ok(()),
        }
    }

    /// Whether it is open because nobody received its codes: as a last resort it may be asked all the same, since the
    /// cause may be that nobody types codes at present.
    pub(super) fn is_collapsed(&self) -> bool {
        self.collapsed && matches!(self.phase, Phase::Open { .. })
    }

    /// How far it lets calls through.
    pub(super) fn readiness(&self, now: Instant) -> Readiness {
        match self.phase {
            Phase::Closed { .. } => Readiness::Ready,
            Phase::Open { until } if until > now && self.collapsed => Readiness::LastResort,
            Phase::Open { until } if until > now => Readiness::Shut,
            Phase::Open { .. } | Phase::HalfOpen { .. } => Readiness::Probing,
        }
    }

    /// A call goes out.
    pub(super) fn begin(&mut self, now: Instant) -> Pass {
        match &mut self.phase {
            Phase::Open { until } if *until <= now => {
                self.phase = Phase::HalfOpen { taken: 0, is_probing: true };
                Pass { is_probe: true }
            }
            Phase::HalfOpen { is_probing, .. } if !*is_probing => {
                *is_probing = true;
                Pass { is_probe: true }
            }
            _ => Pass { is_probe: false },
        }
    }

    /// The call that `pass` went with has ended. `jitter` in [0, 1) spreads the probes of many processes.
    pub(super) fn end(&mut self, pass: Pass, health: Health, jitter: f64, now: Instant) {
        if pass.is_probe {
            return self.end_probe(health, jitter, now);
        }
        let Phase::Closed { .. } = self.phase else {
            // It went out before the breaker opened, and says nothing about now.
            return;
        };
        let (calls, failures) = match health {
            Health::Taken => (1.0, 0.0),
            Health::Failed => (1.0, 1.0),
            Health::Refused => (REFUSAL, REFUSAL),
            Health::Unknown => return,
        };
        self.calls.add(calls, now);
        self.failures.add(failures, now);
        let failed = self.failures.get(now);
        if failures > 0.0 && failed >= FAILURES_MIN && failed >= FAILURE_SHARE * self.calls.get(now) {
            self.collapsed = false;
            self.open(BACKOFF, jitter, now);
        }
    }

    /// Codes were taken and nobody received them.
    pub(super) fn collapsed(&mut self, jitter: f64, now: Instant) {
        self.collapsed = true;
        self.open(BACKOFF_COLLAPSED, jitter, now);
    }

    pub(super) fn state(&self, now: Instant) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { until } if until > now => BreakerState::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    fn end_probe(&mut self, health: Health, jitter: f64, now: Instant) {
        let Phase::HalfOpen { taken, is_probing } = &mut self.phase else {
            return;
        };
        *is_probing = false;
        match health {
            Health::Taken if *taken + 1 >= PROBES => {
                self.phase = Phase::Closed { since: now };
                self.failures.clear(now);
                self.calls.clear(now);
            }
            Health::Taken => *taken += 1,
            Health::Failed => {
                let backoff = if self.collapsed { BACKOFF_COLLAPSED } else { BACKOFF };
                self.open(backoff, jitter, now);
            }
            Health::Refused | Health::Unknown => {}
        }
    }

    fn open(&mut self, (min, max): (Duration, Duration), jitter: f64, now: Instant) {
        if let Phase::Closed { since } = self.phase
            && now.saturating_duration_since(since) >= SETTLED
        {
            self.openings = 0;
        }
        let wait = min.saturating_mul(1 << self.openings.min(16)).min(max);
        // A quarter less to a quarter more; never above the bound.
        let wait = wait.mul_f64(0.75 + 0.5 * jitter).min(max);
        self.openings = self.openings.saturating_add(1);
        self.phase = Phase::Open { until: now + wait };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: f64 = 0.5;

    fn call(breaker: &mut Breaker, health: Health, now: Instant) {
        let pass = breaker.begin(now);
        breaker.end(pass, health, MIDDLE, now);
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(now);
        (0..5).for_each(|_| call(&mut breaker, Health::Failed, now));
        assert_eq!(breaker.state(now), BreakerState::Open);
        breaker
    }

    #[test]
    fn a_few_failures_among_many_are_borne() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        for n in 0..1_000 {
            call(&mut breaker, if n % 3 == 0 { Health::Failed } else { Health::Taken }, now);
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
        (0..400).for_each(|_| call(&mut breaker, Health::Failed, now));
        assert_eq!(breaker.state(now), BreakerState::Open, "more than half");
    }

    #[test]
    fn one_probe_at_a_time_and_three_close_it() {
        let start = Instant::now();
        let mut breaker = opened(start);
        let until = breaker.admits(start).unwrap_err();
        assert_eq!(until - start, Duration::from_secs(1));
        let mut pass = breaker.begin(until);
        for _ in 1..PROBES {
            assert!(breaker.admits(until).is_err(), "a probe is out");
            breaker.end(pass, Health::Taken, MIDDLE, until);
            assert_eq!(breaker.state(until), BreakerState::HalfOpen);
            breaker.admits(until).unwrap();
            pass = breaker.begin(until);
        }
        breaker.end(pass, Health::Taken, MIDDLE, until);
        assert_eq!(breaker.state(until), BreakerState::Closed);
    }

    #[test]
    fn waits_double_up_to_the_bound_and_begin_anew_when_it_has_settled() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let until = breaker.admits(now).unwrap_err();
            waits.push((until - now).as_secs());
            now = until;
            call(&mut breaker, Health::Failed, now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        now = breaker.admits(now).unwrap_err();
        (0..PROBES).for_each(|_| call(&mut breaker, Health::Taken, now));
        now += SETTLED;
        (0..5).for_each(|_| call(&mut breaker, Health::Failed, now));
        assert_eq!(breaker.admits(now).unwrap_err() - now, Duration::from_secs(1));
    }

    #[test]
    fn a_probe_that_was_never_sent_frees_its_place() {
        let start = Instant::now();
        let mut breaker = opened(start);
        let now = breaker.admits(start).unwrap_err();
        call(&mut breaker, Health::Unknown, now);
        breaker.admits(now).unwrap();
    }

    #[test]
    fn what_was_sent_before_it_opened_changes_nothing() {
        let start = Instant::now();
        let mut breaker = Breaker::new(start);
        let early: Vec<_> = (0..20).map(|_| breaker.begin(start)).collect();
        (0..5).for_each(|_| call(&mut breaker, Health::Failed, start));
        let until = breaker.admits(start).unwrap_err();
        early.into_iter().for_each(|pass| breaker.end(pass, Health::Failed, MIDDLE, until));
        breaker.admits(until).unwrap();
    }

    #[test]
    fn everybody_refused_is_a_failure_and_some_refused_is_not() {
        let now = Instant::now();
        let (mut all, mut some) = (Breaker::new(now), Breaker::new(now));
        for n in 0..40 {
            call(&mut all, Health::Refused, now);
            call(&mut some, if n % 2 == 0 { Health::Refused } else { Health::Taken }, now);
        }
        assert_eq!(all.state(now), BreakerState::Open);
        assert_eq!(some.state(now), BreakerState::Closed);
    }
}
