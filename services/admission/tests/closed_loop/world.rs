//! A server, its clients and a clock: enough of a world to see the controllers close their loop.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use std::time::Duration;

use prometheus::Registry;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use spillway_admission::{
    Admission, AdmissionConfig, AdmissionMetrics, Arrival, Call, Kind, Level, Outcome, Refusal, Seat,
    Signals, TICK, Ticket, Tier, User, Waiter,
};

/// How fast a server works when so many calls are in it: the sum over them, in calls of unit work.
pub(crate) type Speed = fn(f64) -> f64;

/// Two processors, shared evenly.
pub(crate) const CPU: Speed = |calls| calls.min(2.0);
/// Something far away that takes its time and has no limit of its own that matters.
pub(crate) const SLEEP: Speed = |calls| calls;
/// One lock, over which they get into each other's way.
pub(crate) const LOCK: Speed = |calls| 1.0 / (1.0 + 0.01 * (calls - 1.0));
/// A pool of 50 connections.
pub(crate) const POOL: Speed = |calls| calls.min(50.0);

#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) speed: Speed,
    /// Mean seconds of unit work.
    pub(crate) work: f64,
    /// Of ten calls one takes ten times as long as the others; the mean stays.
    pub(crate) bimodal: bool,
    pub(crate) config: AdmissionConfig,
    pub(crate) users: u64,
    /// So many of the users make so large a share of the calls.
    pub(crate) heavy: (u64, f64),
    /// Who is refused, or answered too late, comes back after so long, for ever.
    pub(crate) retry: Option<Duration>,
    pub(crate) seed: u64,
}

pub(crate) struct World {
    scenario: Scenario,
    pub(crate) admission: Admission<Woken>,
    rng: SmallRng,
    pub(crate) now: Duration,
    next_tick: Duration,
    told: Told,
    /// Calls in service by the attained service at which they are done.
    serving: BTreeMap<(u64, u64), Serving>,
    /// Service that each call in service has attained, in nanoseconds of unit work.
    attained: f64,
    waiting: BTreeMap<u64, (Ticket<Woken>, Duration, Tier, u64)>,
    timers: BinaryHeap<Reverse<(Duration, u64)>>,
    /// Who comes back when, with what.
    again: BinaryHeap<Reverse<(Duration, u64, Tier)>>,
    /// The server does nothing at all.
    pub(crate) stalled: bool,
    number: u64,
    pub(crate) counts: Counts,
}

struct Serving {
    seat: Seat<Woken>,
    arrived: Duration,
    tier: Tier,
    user: u64,
    deadline: Duration,
}

#[derive(Clone, Default)]
pub(crate) struct Counts {
    pub(crate) offered: [u64; 8],
    /// Answered within the deadline.
    pub(crate) good: [u64; 8],
    pub(crate) refused: [u64; 8],
    pub(crate) reasons: BTreeMap<(&'static str, &'static str), u64>,
    /// Of the first thousand users.
    pub(crate) good_of: BTreeMap<u64, u64>,
    /// Milliseconds from arrival to answer.
    pub(crate) latencies: [Vec<f64>; 8],
}

type Told = Rc<RefCell<Vec<(u64, Result<Seat<Woken>, Refusal>)>>>;

pub(crate) struct Woken {
    number: u64,
    told: Told,
}

impl Waiter for Woken {
    fn admitted(self, seat: Seat<Self>) -> Result<(), Seat<Self>> {
        self.told.borrow_mut().push((self.number, Ok(seat)));
        Ok(())
    }

    fn refused(self, refusal: Refusal) {
        self.told.borrow_mut().push((self.number, Err(refusal)));
    }
}

impl Counts {
    fn refuse(&mut self, tier: Tier, refusal: &Refusal) {
        self.refused[tier as usize] += 1;
        *self.reasons.entry((tier.name(), refusal.reason.name())).or_default() += 1;
    }

    pub(crate) fn total(&self, counts: &[u64; 8]) -> u64 {
        counts.iter().sum()
    }

    pub(crate) fn good_total(&self) -> u64 {
        self.good.iter().sum()
    }

    /// In milliseconds.
    pub(crate) fn quantile(&self, tier: Tier, quantile: f64) -> f64 {
        let mut sorted = self.latencies[tier as usize].clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len() as f64 * quantile) as usize).copied().unwrap_or(0.0)
    }

    pub(crate) fn success(&self, tier: Tier) -> f64 {
        self.good[tier as usize] as f64 / self.offered[tier as usize].max(1) as f64
    }
}

impl World {
    pub(crate) fn new(scenario: Scenario) -> Self {
        println!("seed {}", scenario.seed);
        let metrics = AdmissionMetrics::register(&Registry::new(), "test").expect("a fresh registry");
        let admission = Admission::new(scenario.config.clone(), metrics).expect("a valid configuration");
        admission.tick(Duration::ZERO, &Signals::default());
        Self {
            rng: SmallRng::seed_from_u64(scenario.seed),
            admission,
            now: Duration::ZERO,
            next_tick: TICK,
            told: Told::default(),
            serving: BTreeMap::new(),
            attained: 0.0,
            waiting: BTreeMap::new(),
            timers: BinaryHeap::new(),
            again: BinaryHeap::new(),
            stalled: false,
            number: 0,
            counts: Counts::default(),
            scenario,
        }
    }

    /// Calls a second by tier, for some time, Poisson. What was counted before is forgotten.
    pub(crate) fn run(&mut self, rates: &[(Tier, f64)], length: Duration) -> Counts {
        self.run_with(rates, length, |_| {})
    }

    pub(crate) fn run_with(
        &mut self,
        rates: &[(Tier, f64)],
        length: Duration,
        mut each_tick: impl FnMut(&mut Self),
    ) -> Counts {
        self.counts = Counts::default();
        let end = self.now + length;
        let total: f64 = rates.iter().map(|(_, rate)| rate).sum();
        let mut next_arrival = self.now + self.exponential(1.0 / total);
        while self.now < end {
            let done = self.next_done();
            let timer = self.timers.peek().map_or(Duration::MAX, |Reverse((at, _))| *at);
            let again = self.again.peek().map_or(Duration::MAX, |Reverse((at, ..))| *at);
            let next = next_arrival.min(self.next_tick).min(done).min(timer).min(again).min(end);
            self.advance(next);
            if next == done {
                self.finish();
            } else if next == timer {
                self.expire();
            } else if next == again {
                let Some(Reverse((_, id, tier))) = self.again.pop() else { continue };
                self.attempt(tier, id);
            } else if next == self.next_tick {
                self.admission.tick(self.now, &Signals::default());
                self.next_tick += TICK;
                self.hear();
                each_tick(self);
            } else if next == next_arrival {
                let mut at = self.rng.random_range(0.0..total);
                let tier = rates
                    .iter()
                    .find(|(_, rate)| {
                        at -= rate;
                        at < 0.0
                    })
                    .map_or(rates[0].0, |(tier, _)| *tier);
                self.arrive(tier);
                next_arrival = self.now + self.exponential(1.0 / total);
            }
        }
        std::mem::take(&mut self.counts)
    }

    fn arrive(&mut self, tier: Tier) {
        let (heavy, share) = self.scenario.heavy;
        let users = if self.rng.random_bool(share) { 0..heavy } else { heavy..self.scenario.users };
        let id = self.rng.random_range(users);
        self.attempt(tier, id);
    }

    fn refuse(&mut self, tier: Tier, id: u64, refusal: &Refusal) {
        self.counts.refuse(tier, refusal);
        self.come_back(tier, id);
    }

    fn come_back(&mut self, tier: Tier, id: u64) {
        if let Some(pause) = self.scenario.retry {
            let at = self.now + pause.mul_f64(self.rng.random_range(0.5..1.5));
            self.again.push(Reverse((at, id, tier)));
        }
    }

    fn attempt(&mut self, tier: Tier, id: u64) {
        self.number += 1;
        let number = self.number;
        let user = User(id.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let level = Level::new(tier, (user.0 >> 57) as u8);
        let deadline = tier.deadline(self.now, None);
        let call = Call { level, kind: Kind::new(tier as u8), seats: 1, user, flow: None, deadline };
        self.counts.offered[tier as usize] += 1;
        let told = Rc::clone(&self.told);
        match self.admission.arrive(self.now, &call, || Woken { number, told }) {
            Arrival::Run(seat) => self.serve(seat, self.now, tier, id, deadline),
            Arrival::Queued(ticket) => {
                self.timers.push(Reverse((ticket.expires().max(self.now), number)));
                self.waiting.insert(number, (ticket, self.now, tier, id));
            }
            Arrival::Refused(refusal) => self.refuse(tier, id, &refusal),
        }
        self.hear();
    }

    fn serve(&mut self, seat: Seat<Woken>, arrived: Duration, tier: Tier, user: u64, deadline: Duration) {
        let work = if !self.scenario.bimodal {
            self.exponential(self.scenario.work).as_secs_f64()
        } else if self.rng.random_bool(0.1) {
            self.scenario.work * 10.0 / 1.9
        } else {
            self.scenario.work / 1.9
        };
        self.number += 1;
        let done = (self.attained + work * 1e9) as u64;
        self.serving.insert((done, self.number), Serving { seat, arrived, tier, user, deadline });
    }

    fn hear(&mut self) {
        loop {
            let told = std::mem::take(&mut *self.told.borrow_mut());
            if told.is_empty() {
                return;
            }
            for (number, verdict) in told {
                let (ticket, arrived, tier, user) = self.waiting.remove(&number).expect("told once");
                drop(ticket);
                match verdict {
                    Ok(seat) => self.serve(seat, arrived, tier, user, tier.deadline(arrived, None)),
                    Err(refusal) => self.refuse(tier, user, &refusal),
                }
            }
        }
    }

    fn expire(&mut self) {
        let Some(Reverse((_, number))) = self.timers.pop() else { return };
        if let Some((ticket, arrived, tier, user)) = self.waiting.remove(&number) {
            match ticket.give_up() {
                Some(refusal) => self.refuse(tier, user, &refusal),
                None => panic!("{number}, which came at {arrived:?}, was told and did not hear"),
            }
        }
    }

    fn next_done(&self) -> Duration {
        let Some((done, _)) = self.serving.keys().next().filter(|_| !self.stalled) else {
            return Duration::MAX;
        };
        let calls = self.serving.len() as f64;
        let left = (*done as f64 - self.attained).max(0.0) / ((self.scenario.speed)(calls) / calls);
        self.now + Duration::from_nanos(left as u64 + 1)
    }

    fn advance(&mut self, to: Duration) {
        let calls = self.serving.len() as f64;
        if self.stalled {
            self.now = to;
            return;
        }
        if calls > 0.0 {
            self.attained += (to - self.now).as_nanos() as f64 * (self.scenario.speed)(calls) / calls;
        } else {
            self.attained = 0.0;
        }
        self.now = to;
    }

    fn finish(&mut self) {
        let Some((_, Serving { seat, arrived, tier, user, deadline })) = self.serving.pop_first() else {
            return;
        };
        seat.finish(self.now, Outcome::Served);
        if self.now <= deadline {
            self.counts.good[tier as usize] += 1;
            if user < 1_000 {
                *self.counts.good_of.entry(user).or_default() += 1;
            }
        } else {
            self.come_back(tier, user);
        }
        self.counts.latencies[tier as usize].push((self.now - arrived).as_secs_f64() * 1e3);
        self.hear();
    }

    fn exponential(&mut self, mean: f64) -> Duration {
        Duration::from_secs_f64(-mean * (1.0 - self.rng.random::<f64>()).ln())
    }
}
