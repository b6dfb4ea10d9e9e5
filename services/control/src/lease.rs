//! Who holds the lease: the timing over a register without a clock.
//!
//! The register holds (holder, token, renewal) and changes only by compare-and-set. No value returns to it, because
//! every write of a process has a renewal number of its own. Times are monotonic and each process's own:
//!
//! - A holder renews every `renew_every` and may act until `valid_for` after it *began* its last successful write.
//! - Others take a register that they have seen unchanged for `takeover_after`, counted from the *end* of the first
//!   read that showed it, by writing token + 1 on condition that it is still unchanged.
//!
//! Why no two act at a time: let W be the instant at which the holder's last successful write reached the register. It
//! began before W, so the holder stops by W + `valid_for`. A successor's first read of that value ended after W, so it
//! writes after W + `takeover_after`. Nothing else is assumed of delays, pauses or lost answers; of clocks, only that
//! their rates differ by less than the ratio of the two times (1.4; 10 % fast and 10 % slow make 1.23).
//!
//! A write without an answer may have happened, or may still happen. It is remembered with the instant at which it
//! began, so that when a read shows it, the tenure is counted from there and not from when it was noticed.

#[cfg(test)]
mod simulation;

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use spillway_store::Cas;
use spillway_store::leases::{FencingToken, HolderId, Lease};
use tokio::time::Instant;

use crate::tenure::Tenure;

/// In the register when a holder has given the lease back: whoever sees it takes it at once.
pub(crate) const NOBODY: HolderId = HolderId([0; 16]);

/// Writes without an answer that are remembered. They are told apart to win a little time; when one is forgotten, the
/// next renewal wins it instead.
const UNSETTLED_MAX: usize = 8;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) takeover_after: Duration,
    pub(crate) valid_for: Duration,
    pub(crate) renew_every: Duration,
    pub(crate) poll_every: Duration,
    /// From the start of a call that failed to the next one.
    pub(crate) retry_pause: Duration,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Wait(Instant),
    Read,
    Write(Attempt),
}

/// A compare-and-set, and when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) lease: Lease,
    pub(crate) expected: Option<Lease>,
    pub(crate) began: Instant,
}

/// One process that wants the lease. Does no I/O: whoever drives it asks for a step, does it, and tells the outcome.
#[derive(Debug)]
pub(crate) struct Contender {
    timing: Timing,
    me: HolderId,
    rng: SmallRng,
    next: Next,
    seen: Option<Sighting>,
    unsettled: Vec<Attempt>,
    tenure: Option<Tenure>,
    writes: u64,
}

/// A value of the register.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    lease: Option<Lease>,
    /// When another's lease may be taken.
    takeover_at: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Read { at: Instant },
    Write { at: Instant, expected: Option<Lease> },
}

impl Contender {
    pub(crate) fn new(timing: Timing, me: HolderId, rng: SmallRng, now: Instant) -> Self {
        let next = Next::Read { at: now };
        Self { timing, me, rng, next, seen: None, unsettled: Vec::new(), tenure: None, writes: 0 }
    }

    pub(crate) const fn tenure(&self) -> Option<Tenure> {
        self.tenure
    }

    pub(crate) fn seen(&self) -> Option<Lease> {
        self.seen.and_then(|seen| seen.lease)
    }

    /// Whether the register may hold this process's name.
    pub(crate) fn may_hold(&self) -> bool {
        !self.unsettled.is_empty() || self.seen().is_some_and(|lease| lease.holder == self.me)
    }

    pub(crate) fn step(&mut self, now: Instant) -> Step {
        match self.next {
            Next::Read { at } | Next::Write { at, .. } if now < at => Step::Wait(at),
            Next::Read { .. } => Step::Read,
            Next::Write { expected, .. } => Step::Write(self.attempt(expected, now)),
        }
    }

    fn attempt(&mut self, expected: Option<Lease>, now: Instant) -> Attempt {
        self.writes += 1;
        let token = match expected {
            Some(lease) if lease.holder == self.me => lease.token,
            Some(lease) => FencingToken(lease.token.0 + 1),
            None => FencingToken(1),
        };
        let lease = Lease { holder: self.me, token, renewal: self.writes };
        Attempt { lease, expected, began: now }
    }

    /// The write was answered.
    pub(crate) fn written(&mut self, attempt: Attempt, outcome: Cas, now: Instant) {
        match outcome {
            Cas::Applied => self.hold(attempt),
            Cas::Conflict => {
                // Somebody else, or an earlier write of this process; also this one, if the driver repeated it.
                self.tenure = None;
                self.remember(attempt);
                self.next = Next::Read { at: now };
            }
        }
    }

    /// The write has no answer.
    pub(crate) fn write_failed(&mut self, attempt: Attempt) {
        self.remember(attempt);
        self.next = Next::Read { at: attempt.began + self.timing.retry_pause };
    }

    pub(crate) fn read(&mut self, lease: Option<Lease>, now: Instant) {
        if let Some(attempt) = self.unsettled.iter().find(|attempt| Some(attempt.lease) == lease) {
            return self.hold(*attempt);
        }
        let seen = match self.seen {
            Some(seen) if seen.lease == lease => seen,
            _ => self.sight(lease, now),
        };
        if lease.is_none_or(|lease| lease.holder != self.me) {
            self.tenure = None;
        }
        self.next = match lease {
            Some(Lease { holder, .. }) if holder != self.me && holder != NOBODY => {
                let poll_at = now + self.shortened(self.timing.poll_every);
                if seen.takeover_at <= poll_at {
                    Next::Write { at: seen.takeover_at, expected: lease }
                } else {
                    Next::Read { at: poll_at }
                }
            }
            // Also this process's own lease, when a renewal has not happened or has come too late to act under it:
            // while nobody has taken it, the token is still nobody else's.
            _ => Next::Write { at: now, expected: lease },
        };
    }

    pub(crate) fn read_failed(&mut self, began: Instant) {
        self.next = Next::Read { at: began + self.timing.retry_pause };
    }

    fn hold(&mut self, attempt: Attempt) {
        let Attempt { lease, began, .. } = attempt;
        self.tenure = Some(Tenure::new(lease.token, began + self.timing.valid_for));
        self.sight(Some(lease), began);
        let renew_at = began + self.shortened(self.timing.renew_every);
        self.next = Next::Write { at: renew_at, expected: Some(lease) };
    }

    /// The register has another value, so no earlier write can happen any more: what it expects is gone for good.
    fn sight(&mut self, lease: Option<Lease>, now: Instant) -> Sighting {
        self.unsettled.clear();
        // Contenders that saw the same renewal do not all write at once.
        let spread = self.timing.poll_every / 4;
        let takeover_at = now + self.timing.takeover_after + spread.mul_f64(self.rng.random());
        let seen = Sighting { lease, takeover_at };
        self.seen = Some(seen);
        seen
    }

    fn remember(&mut self, attempt: Attempt) {
        if self.unsettled.len() == UNSETTLED_MAX {
            self.unsettled.remove(0);
        }
        self.unsettled.push(attempt);
    }

    /// Jitter never makes an interval longer, so that the bounds that rest on it hold.
    fn shortened(&mut self, interval: Duration) -> Duration {
        interval.mul_f64(self.rng.random_range(0.8..=1.0))
    }
}
