//! What is behind the lock: who runs, who waits, and what a tick has to know of both.

use std::time::Duration;

use crate::admission::Call;
use crate::class::{Queueing, Tier};
use crate::config::QueueConfig;
use crate::gate::balance::CHANCE_CALLS;
use crate::limiter::estimates::{Estimates, Published};
use crate::limiter::{Kind, LimitLaw, LimitTick, Sample};
use crate::pushback::Reason;
use crate::queue::{Entry, Next, Place, Queue};

pub(super) struct Core<W> {
    config: QueueConfig,
    law: Box<dyn LimitLaw>,
    queue: Queue<W>,
    estimates: Estimates,
    meter: Meter,
    limit: u32,
    inflight: u32,
    /// Those of them that sign-ups and the background have.
    newcomers: u32,
    /// The latest time that was told.
    now: Duration,
    /// The gate refuses, as of the last tick.
    overloaded: bool,
    /// Seats a second, once known.
    capacity: Option<f64>,
    /// The last number given to a call without a flow.
    unordered: u64,
}

/// What has happened since the last tick.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    /// Seconds since the last tick, times seats in use.
    pub(super) inflight: f64,
    pub(super) inflight_max: u32,
    /// Seconds in which the limit was reached.
    pub(super) full: f64,
    pub(super) finished: u64,
    pub(super) calls: u64,
    pub(super) useful: u64,
    /// Calls and seats that finished while the limit was reached, and the useful ones of the seats.
    pub(super) finished_full: u64,
    pub(super) calls_full: u64,
    pub(super) useful_full: u64,
    /// Seats taken, by tier.
    pub(super) granted: [u64; Tier::COUNT],
    /// Calls that were given a seat, by tier.
    pub(super) admitted: [u64; Tier::COUNT],
    /// The fewest seats that were queued.
    pub(super) queued_min: u64,
    /// Somebody found no place in the queue, or lost it.
    pub(super) overflowed: bool,
}

pub(super) enum Offer {
    Run,
    Queued { place: Place, expires: Duration },
    Refused(Reason),
}

pub(super) struct Finished {
    pub(super) tier: Tier,
    pub(super) kind: Kind,
    pub(super) seats: u32,
    pub(super) service: Duration,
    pub(super) waited: Duration,
    pub(super) served: bool,
    pub(super) useful: bool,
}

/// A tick's view of the core.
pub(super) struct Taken<W> {
    pub(super) meter: Meter,
    pub(super) expired: Vec<Entry<W>>,
    pub(super) limit: u32,
    pub(super) inflight: u32,
    pub(super) queued_calls: usize,
    pub(super) queued_seats: u64,
}

/// Queued calls that are always allowed: what chance makes of a load below capacity, twice.
const QUEUE_LEAST: u64 = 2 * CHANCE_CALLS as u64;
/// In overload as many as keep the seats of a small server in use from one arrival to the next.
const QUEUE_LEAST_OVERLOADED: u64 = 64;
/// The longest queue age of any tier, which the queue is dimensioned for.
const QUEUE_AGE_MAX_S: f64 = 0.5;
/// The longest wait while nothing is refused.
const QUEUE_AGE_CALM: Duration = Duration::from_secs(2);
/// The shortest wait that CoDel may impose, in calls. Shorter ones leave seats of small servers empty.
const CODEL_CALLS: f64 = 32.0;

/// One seat for so many of the limit, and one at least: a trunk reservation, on top of the limit. What people who are there
/// already do is short, so that few seats are enough.
const BESIDE_NEWCOMERS: u32 = 8;

const fn is_of_newcomer(tier: Tier) -> bool {
    tier as usize >= Tier::FinishSignUp as usize
}

impl<W> Core<W> {
    pub(super) fn new(config: QueueConfig, limit: u32, law: Box<dyn LimitLaw>) -> Self {
        Self {
            config,
            law,
            queue: Queue::new(),
            estimates: Estimates::new(),
            meter: Meter::default(),
            limit,
            inflight: 0,
            newcomers: 0,
            now: Duration::ZERO,
            overloaded: false,
            capacity: None,
            unordered: 0,
        }
    }

    pub(super) fn configure(&mut self, config: QueueConfig) {
        self.config = config;
    }

    /// Runs the call, lets it wait, or refuses it.
    pub(super) fn offer(
        &mut self,
        now: Duration,
        call: &Call,
        estimates: &Published,
        waiter: impl FnOnce() -> W,
        evicted: &mut Vec<Entry<W>>,
    ) -> Offer {
        let (tier, seats) = (call.level.tier(), call.seats);
        if self.queue.is_empty() && self.fits(seats) || self.fits_beside_newcomers(tier, seats) {
            self.start(now, tier, seats);
            return Offer::Run;
        }
        let now = self.advance(now);
        let may_queue = tier.spec().queueing != Queueing::Never;
        let seats_max = self.queue_seats_max();
        if !may_queue || !self.queue.has_room(call.level, seats, seats_max) {
            self.meter.overflowed |= may_queue;
            return Offer::Refused(Reason::QueueFull);
        }
        let by_age = now.saturating_add(self.queue_age(tier, now, call.deadline));
        let by_deadline = call.deadline.saturating_sub(estimates.upper_quartile(call.kind));
        let expires = by_age.min(by_deadline);
        let flow = call.flow.unwrap_or_else(|| {
            self.unordered = self.unordered.wrapping_add(1);
            self.unordered.wrapping_mul(0x9E37_79B9_7F4A_7C15)
        });
        let entry = Entry {
            level: call.level,
            user: call.user,
            flow,
            seats,
            kind: call.kind,
            arrived: now,
            expires,
            doomed: by_deadline < by_age,
            deadline: call.deadline,
            waiter: waiter(),
        };
        let newest_first = self.overloaded && tier.spec().newest_first;
        let place = self.queue.push(now, entry, seats_max, newest_first, evicted);
        self.meter.overflowed |= !evicted.is_empty();
        Offer::Queued { place, expires }
    }

    /// Runs it in any case, and says whether it would have been refused. Nobody waits in shadow.
    pub(super) fn offer_in_shadow(&mut self, now: Duration, call: &Call) -> Offer {
        let fits = u64::from(self.inflight) < u64::from(self.limit) + self.queue_seats_max();
        self.start(now, call.level.tier(), call.seats);
        if fits { Offer::Run } else { Offer::Refused(Reason::QueueFull) }
    }

    pub(super) fn start(&mut self, now: Duration, tier: Tier, seats: u32) {
        self.advance(now);
        self.inflight = self.inflight.saturating_add(seats);
        if is_of_newcomer(tier) {
            self.newcomers = self.newcomers.saturating_add(seats);
        }
        let meter = &mut self.meter;
        meter.inflight_max = meter.inflight_max.max(self.inflight);
        meter.granted[tier as usize] += u64::from(seats);
        meter.admitted[tier as usize] += 1;
    }

    pub(super) fn finish(&mut self, now: Duration, call: &Finished) {
        let now = self.advance(now);
        let seats = u64::from(call.seats);
        let useful = if call.useful { seats } else { 0 };
        self.meter.finished += seats;
        self.meter.calls += 1;
        self.meter.useful += useful;
        if self.is_full() {
            self.meter.finished_full += seats;
            self.meter.calls_full += 1;
            self.meter.useful_full += useful;
        }
        // How soon a failure came says nothing about how long the work takes.
        if call.served {
            self.estimates.add(now, call.kind, call.service);
            self.law.finished(&Sample {
                now,
                service: call.service,
                waited: call.waited,
                kind: call.kind,
                tier: call.tier,
                seats: call.seats,
                inflight: self.inflight,
                useful: call.useful,
            });
        }
        self.free(call.tier, call.seats);
    }

    /// Frees seats without a word about the call; answers the latest time that is known.
    pub(super) fn cancel(&mut self, tier: Tier, seats: u32) -> Duration {
        let now = self.advance(self.now);
        self.free(tier, seats);
        now
    }

    fn free(&mut self, tier: Tier, seats: u32) {
        self.inflight -= seats;
        if is_of_newcomer(tier) {
            self.newcomers -= seats;
        }
    }

    pub(super) fn leave(&mut self, place: Place) -> Option<Entry<W>> {
        let left = self.queue.remove(place);
        self.meter.queued_min = self.meter.queued_min.min(self.queue.seats());
        left
    }

    /// The next who can be told: given a seat, or that it is too late.
    pub(super) fn next(&mut self, now: Duration) -> Next<W> {
        if self.queue.is_empty() {
            return Next::Empty;
        }
        let now = self.advance(now);
        let (inflight, limit) = (self.inflight, self.limit);
        let next = self.queue.pop(now, |seats| inflight == 0 || inflight.saturating_add(seats) <= limit);
        if let Next::Serve(entry) = &next {
            self.start(now, entry.level.tier(), entry.seats);
        }
        self.meter.queued_min = self.meter.queued_min.min(self.queue.seats());
        next
    }

    /// Ends a tick: hands out what was measured and moves the limit.
    pub(super) fn take(&mut self, now: Duration, length: Duration, run_queue_delay: Duration) -> Taken<W> {
        let now = self.advance(now);
        // In overload those are too old who were let in with more patience.
        let capacity = self.capacity;
        let age = |tier: Tier| if self.overloaded { overload_age(tier, capacity) } else { Duration::MAX };
        let expired = self.queue.sweep(now, age);
        let mut meter = std::mem::take(&mut self.meter);
        meter.queued_min = meter.queued_min.min(self.queue.seats());
        self.meter.inflight_max = self.inflight;
        self.meter.queued_min = self.queue.seats();
        let seconds = length.as_secs_f64().max(1e-9);
        self.limit = self.law.tick(&LimitTick {
            now,
            length,
            limit: self.limit,
            inflight: self.inflight,
            inflight_mean: meter.inflight / seconds,
            inflight_max: meter.inflight_max,
            full: (meter.full / seconds).min(1.0),
            finished: meter.useful,
            finished_full: meter.useful_full,
            queued: self.queue.len() as u32,
            run_queue_delay,
        });
        self.limit = self.limit.max(1);
        Taken {
            meter,
            expired,
            limit: self.limit,
            inflight: self.inflight,
            queued_calls: self.queue.len(),
            queued_seats: self.queue.seats(),
        }
    }

    /// Takes up what the tick decided. In overload the queue is short: those who are too many in it now are moved into
    /// `evicted`, the least important first. Otherwise the gate would have to refuse the important until the backlog
    /// of the others has drained.
    pub(super) fn set_overload(
        &mut self,
        overloaded: bool,
        capacity: Option<f64>,
        evicted: &mut Vec<Entry<W>>,
    ) {
        (self.overloaded, self.capacity) = (overloaded, capacity);
        if overloaded {
            self.queue.trim(self.queue_seats_max(), evicted);
        }
    }

    pub(super) fn publish_estimates(&mut self, now: Duration, published: &Published) {
        self.estimates.publish(now, published);
    }

    /// Moves the clock and the sums over time. A time before the latest counts as the latest.
    fn advance(&mut self, now: Duration) -> Duration {
        if now > self.now {
            let passed = (now - self.now).as_secs_f64();
            self.meter.inflight += passed * f64::from(self.inflight);
            if self.is_full() {
                self.meter.full += passed;
            }
            self.now = now;
        }
        self.now
    }

    fn is_full(&self) -> bool {
        self.inflight >= self.limit || !self.queue.is_empty()
    }

    fn fits(&self, seats: u32) -> bool {
        self.inflight == 0 || self.inflight.saturating_add(seats) <= self.limit
    }

    /// Newcomers who have all seats, and keep them for as long as a sign-up takes, do not make a send wait until one of them
    /// has finished: some of theirs are not counted.
    ///
    /// Only beyond the limit. A seat within it that is free while others wait is kept for a wide call, or for the floor of
    /// a tier, and would be taken from it for ever.
    fn fits_beside_newcomers(&self, tier: Tier, seats: u32) -> bool {
        let uncounted = self.newcomers.min((self.limit / BESIDE_NEWCOMERS).max(1));
        tier as usize <= Tier::Send as usize
            && !self.fits(seats)
            && self.queue.is_empty_up_to(Tier::Send)
            && (self.inflight - uncounted).saturating_add(seats) <= self.limit
    }

    /// In overload half of the limit or what is served within twice CoDel's target; before, as much as is served within the
    /// longest queue age, because half of a limit of 10 would refuse calls of a small server by mere chance.
    fn queue_seats_max(&self) -> u64 {
        let capacity = self.capacity.unwrap_or(0.0);
        let (seconds, least) = if self.overloaded {
            (2.0 * self.config.codel_target.as_secs_f64(), QUEUE_LEAST_OVERLOADED)
        } else {
            (QUEUE_AGE_MAX_S, QUEUE_LEAST)
        };
        let seats = u64::from(self.limit / 2).max((capacity * seconds) as u64).max(least);
        seats.min(self.config.calls_max.into())
    }

    /// How long a call of this tier may wait for a seat from now on.
    ///
    /// While nothing is refused, a third of the time that it has: the queue is short then, and who waits in it is the
    /// least important of a burst that will pass.
    fn queue_age(&self, tier: Tier, now: Duration, deadline: Duration) -> Duration {
        let third = deadline.saturating_sub(now) / 3;
        if !self.overloaded {
            return third.min(QUEUE_AGE_CALM);
        }
        let standing = self.queue.standing(tier, now) >= self.config.codel_interval;
        if standing || tier.spec().queueing == Queueing::Briefly {
            return self.config.codel_target.max(time_of(CODEL_CALLS, self.capacity));
        }
        let age = overload_age(tier, self.capacity);
        if tier.spec().queue_age_third { age.min(third) } else { age }
    }
}

/// A tier's queue age, and as long as chance needs on a small server.
fn overload_age(tier: Tier, capacity: Option<f64>) -> Duration {
    tier.spec().queue_age.max(time_of(CHANCE_CALLS, capacity))
}

/// In which so many calls are served, half a second at most.
fn time_of(calls: f64, capacity: Option<f64>) -> Duration {
    Duration::from_secs_f64((calls / capacity.unwrap_or(1.0).max(1.0)).min(QUEUE_AGE_MAX_S))
}
