//! Contenders in virtual time, running the shipped decisions of [`Contender`] over one register.
//!
//! Clocks whose rates differ, processes that stand still for up to 30 s at any point, calls whose request or answer is
//! lost, writes that reach the register long after their caller has given up, acts that reach their receivers late and
//! out of order. It counts instants at which two processes may act, and receivers that obey an older token after a
//! newer one. Each rule that is taken away must make a count rise, or the simulation shows nothing.

use std::collections::BTreeMap;

use rand::SeedableRng;

use super::*;
use crate::fence::Fence;
use crate::{Config, testing};

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
const WORLDS: u64 = 40;
const LIFE: u64 = 300 * SECOND;

#[derive(Clone, Copy, Debug)]
struct Rules {
    timing: Timing,
    /// A holder looks at its own clock before it acts.
    self_deadline: bool,
    /// Receivers remember the highest token.
    fenced: bool,
    /// Processes stand still now and then.
    pauses: bool,
    /// Calls and answers are lost or late.
    faults: bool,
    /// While the store does not answer at all.
    outage: (u64, u64),
}

impl Rules {
    fn shipped() -> Self {
        let timing = Config::default().timing();
        Self { timing, self_deadline: true, fenced: true, pauses: true, faults: true, outage: (0, 0) }
    }

    fn calm() -> Self {
        Self { pauses: false, faults: false, ..Self::shipped() }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    acts: u64,
    holders: u64,
    /// Instants at which two processes may act.
    overlaps: u64,
    /// Acts that a receiver obeyed after one with a higher token.
    stale: u64,
}

#[derive(Debug)]
struct Process {
    contender: Contender,
    /// Local microseconds for a true one.
    rate: f64,
    stands_still_until: u64,
    dead: bool,
    /// The call that is waited for; answers to others come too late.
    call: u64,
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Read { began: Instant },
    Write(Attempt),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Read(Option<Lease>),
    Written(Cas),
    Nothing,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    // Of a process: they wait while it stands still.
    Step,
    Answered { number: u64, call: Call, answer: Answer },
    Act,
    // Of the world.
    StandStill,
    AtRegister { number: u64, call: Call },
    AtReceiver { receiver: usize, token: FencingToken },
}

struct World {
    rules: Rules,
    rng: SmallRng,
    start: Instant,
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), (usize, Event)>,
    processes: Vec<Process>,
    register: Option<Lease>,
    receivers: [(Fence, Option<FencingToken>); 2],
    tally: Tally,
}

impl World {
    fn new(rules: Rules, contenders: u8, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let start = Instant::now();
        let processes = (1..=contenders).map(|id| {
            let contender_rng = SmallRng::seed_from_u64(rng.random());
            let contender = Contender::new(rules.timing, testing::holder(id), contender_rng, start);
            let rate = rng.random_range(0.9..=1.1);
            Process { contender, rate, stands_still_until: 0, dead: false, call: 0 }
        });
        let processes: Vec<_> = processes.collect();
        let mut world = Self {
            rules,
            rng,
            start,
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            processes,
            register: None,
            receivers: Default::default(),
            tally: Tally::default(),
        };
        for process in 0..world.processes.len() {
            world.after(0, process, Event::Step);
            world.after(0, process, Event::Act);
            if rules.pauses {
                world.after(0, process, Event::StandStill);
            }
        }
        world
    }

    fn run_until(&mut self, end: u64) {
        self.run_until_or(end, |_| false);
    }

    /// Ends early when `done` becomes true; answers with the time.
    fn run_until_or(&mut self, end: u64, done: impl Fn(&Self) -> bool) -> u64 {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > end || done(self) {
                break;
            }
            let ((time, _), (process, event)) = self.events.pop_first().unwrap();
            self.now = time;
            self.handle(process, event);
            let actors = self.actors().count() as u64;
            self.tally.overlaps += u64::from(actors > 1);
            let token = self.register.map_or(0, |lease| lease.token.0);
            self.tally.holders = self.tally.holders.max(token);
        }
        self.now
    }

    fn actors(&self) -> impl Iterator<Item = usize> {
        (0..self.processes.len()).filter(|process| self.may_act(*process))
    }

    /// With the self-deadline also while it stands still, which is more than can happen.
    fn may_act(&self, process: usize) -> bool {
        let state = &self.processes[process];
        let Some(tenure) = state.contender.tenure() else { return false };
        if state.dead {
            false
        } else if self.rules.self_deadline {
            tenure.check(self.local(process)).is_ok()
        } else {
            self.now >= state.stands_still_until
        }
    }

    fn handle(&mut self, process: usize, event: Event) {
        let state = &self.processes[process];
        let of_process = matches!(event, Event::Step | Event::Answered { .. } | Event::Act);
        if of_process && state.dead {
            return;
        }
        if of_process && self.now < state.stands_still_until {
            return self.at(state.stands_still_until, process, event);
        }
        match event {
            Event::Step => self.step(process),
            Event::Answered { number, call, answer } => self.answered(process, number, call, answer),
            Event::Act => self.act(process),
            Event::StandStill => self.stand_still(process),
            Event::AtRegister { number, call } => self.at_register(process, number, call),
            Event::AtReceiver { receiver, token } => self.at_receiver(receiver, token),
        }
    }

    fn step(&mut self, process: usize) {
        let local = self.local(process);
        match self.processes[process].contender.step(local) {
            Step::Wait(until) => self.at(self.true_time(process, until), process, Event::Step),
            Step::Read => self.call(process, Call::Read { began: local }),
            Step::Write(attempt) => self.call(process, Call::Write(attempt)),
        }
    }

    fn call(&mut self, process: usize, call: Call) {
        self.sequence += 1;
        let number = self.sequence;
        self.processes[process].call = number;
        let timeout = self.local(process) + Config::default().call_timeout;
        let given_up = Event::Answered { number, call, answer: Answer::Nothing };
        self.at(self.true_time(process, timeout), process, given_up);
        let (outage_begin, outage_end) = self.rules.outage;
        if (outage_begin..outage_end).contains(&self.now) {
            return;
        }
        let delay = match self.chance() {
            0..5 => return,
            // Stopped between reading the clock and sending, or stuck on the way.
            5..10 => self.rng.random_range(SECOND / 2..10 * SECOND),
            10..13 => {
                // An error at once, and yet it may happen.
                self.after(MS, process, given_up);
                self.rng.random_range(MS..SECOND)
            }
            _ => self.rng.random_range(MS..50 * MS),
        };
        self.after(delay, process, Event::AtRegister { number, call });
    }

    fn at_register(&mut self, process: usize, number: u64, call: Call) {
        let answer = match call {
            Call::Read { .. } => Answer::Read(self.register),
            Call::Write(attempt) if self.register == attempt.expected => {
                self.register = Some(attempt.lease);
                Answer::Written(Cas::Applied)
            }
            Call::Write(_) => Answer::Written(Cas::Conflict),
        };
        let delay = match self.chance() {
            0..5 => return,
            5..10 => self.rng.random_range(SECOND / 2..2 * SECOND),
            _ => self.rng.random_range(MS..50 * MS),
        };
        self.after(delay, process, Event::Answered { number, call, answer });
    }

    fn answered(&mut self, process: usize, number: u64, call: Call, answer: Answer) {
        let local = self.local(process);
        let state = &mut self.processes[process];
        if state.call != number {
            return;
        }
        state.call = 0;
        match (call, answer) {
            (Call::Read { .. }, Answer::Read(lease)) => state.contender.read(lease, local),
            (Call::Write(attempt), Answer::Written(cas)) => state.contender.written(attempt, cas, local),
            (Call::Read { began }, _) => state.contender.read_failed(began),
            (Call::Write(attempt), _) => state.contender.write_failed(attempt),
        }
        self.step(process);
    }

    fn act(&mut self, process: usize) {
        if self.may_act(process) {
            self.tally.acts += 1;
            let token = self.processes[process].contender.tenure().unwrap().token();
            for receiver in 0..self.receivers.len() {
                let delay = match self.chance() {
                    // Stopped between the check and the act.
                    0..5 => self.rng.random_range(SECOND / 10..20 * SECOND),
                    _ => self.rng.random_range(MS..20 * MS),
                };
                self.after(delay, process, Event::AtReceiver { receiver, token });
            }
        }
        let pause = self.rng.random_range(50 * MS..150 * MS);
        self.after(pause, process, Event::Act);
    }

    fn at_receiver(&mut self, receiver: usize, token: FencingToken) {
        let (fence, obeyed) = &mut self.receivers[receiver];
        if fence.admit(token) || !self.rules.fenced {
            self.tally.stale += u64::from(*obeyed > Some(token));
            *obeyed = Some(token).max(*obeyed);
        }
    }

    fn stand_still(&mut self, process: usize) {
        let pause = match self.rng.random_range(0..10) {
            0 => self.rng.random_range(6 * SECOND..30 * SECOND),
            _ => self.rng.random_range(SECOND / 10..6 * SECOND),
        };
        // Not in the beginning, when there is nothing to disturb.
        if self.now > 0 {
            self.processes[process].stands_still_until = self.now + pause;
        }
        let next = pause + self.rng.random_range(SECOND..40 * SECOND);
        self.after(next, process, Event::StandStill);
    }

    /// Of a hundred; calm worlds never see a low one.
    fn chance(&mut self) -> u32 {
        if self.rules.faults { self.rng.random_range(0..100) } else { 99 }
    }

    fn local(&self, process: usize) -> Instant {
        self.start + Duration::from_micros((self.now as f64 * self.processes[process].rate) as u64)
    }

    /// When the process's clock has reached this: up to three microseconds late and never early, or a step that is
    /// waited for would come too soon for ever.
    fn true_time(&self, process: usize, local: Instant) -> u64 {
        let local_us = (local - self.start).as_secs_f64() * SECOND as f64;
        ((local_us / self.processes[process].rate) as u64 + 3).max(self.now)
    }

    fn after(&mut self, pause: u64, process: usize, event: Event) {
        self.at(self.now + pause, process, event);
    }

    fn at(&mut self, time: u64, process: usize, event: Event) {
        self.sequence += 1;
        self.events.insert((time, self.sequence), (process, event));
    }
}

/// `SPILLWAY_TEST_SEED` chooses other worlds.
fn seed() -> u64 {
    std::env::var("SPILLWAY_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_210_115)
}

fn tally(name: &str, rules: Rules) -> Tally {
    let seed = seed();
    let mut total = Tally::default();
    for number in 0..WORLDS {
        let mut world = World::new(rules, 4, seed.wrapping_add(number));
        world.run_until(LIFE);
        total.acts += world.tally.acts;
        total.holders += world.tally.holders;
        total.overlaps += world.tally.overlaps;
        total.stale += world.tally.stale;
    }
    println!("seed {seed}, {name}: {total:?}");
    // A twentieth of the acts that one undisturbed holder would do, and a change of holder a minute.
    assert!(total.acts > WORLDS * LIFE / SECOND / 2, "hardly anybody acts");
    assert!(total.holders > WORLDS * LIFE / SECOND / 60, "the holder hardly changes");
    total
}

#[test]
fn two_never_act_and_an_old_token_is_never_obeyed() {
    let Tally { overlaps, stale, .. } = tally("as shipped", Rules::shipped());
    assert_eq!((overlaps, stale), (0, 0));
}

#[test]
fn without_the_self_deadline_two_act() {
    let rules = Rules { self_deadline: false, ..Rules::shipped() };
    assert!(tally("no self-deadline", rules).overlaps > 0);
}

#[test]
fn with_a_takeover_that_does_not_wait_for_slow_clocks_two_act() {
    let timing = Timing { takeover_after: Duration::from_millis(2_500), ..Rules::shipped().timing };
    assert!(tally("takeover after 2.5 s", Rules { timing, ..Rules::shipped() }).overlaps > 0);
}

#[test]
fn without_the_fence_old_tokens_are_obeyed() {
    let rules = Rules { fenced: false, ..Rules::shipped() };
    assert!(tally("no fence", rules).stale > 0);
}

#[test]
fn another_takes_over_within_five_seconds() {
    let seed = seed();
    let mut longest = 0;
    for number in 0..500 {
        let mut world = World::new(Rules::calm(), 3, seed.wrapping_add(number));
        let moment = 10 * SECOND + world.rng.random_range(0..2 * SECOND);
        world.run_until(moment);
        let holder = world.actors().next().expect("one acts when the store works");
        world.processes[holder].dead = true;
        let back = world.run_until_or(moment + 20 * SECOND, |world| world.actors().next().is_some());
        longest = longest.max(back - moment);
    }
    println!("seed {seed}: the longest of 500 failovers took {} ms", longest / MS);
    assert!(longest > 2 * SECOND, "a takeover before the holder's time is over");
    assert!(longest < 5 * SECOND, "{} ms", longest / MS);
}

#[test]
fn a_store_that_comes_back_finds_a_holder_at_once() {
    let seed = seed();
    for number in 0..50 {
        let outage = (20 * SECOND, 40 * SECOND);
        let mut world = World::new(Rules { outage, ..Rules::calm() }, 3, seed.wrapping_add(number));
        // What was under way is answered; a slow clock adds a tenth.
        world.run_until(23 * SECOND);
        let acts = world.tally.acts;
        world.run_until(40 * SECOND);
        assert_eq!(world.tally.acts, acts, "seed {}: somebody acts without the store", seed + number);
        let back = world.run_until_or(60 * SECOND, |world| world.actors().next().is_some());
        assert!(back < 42 * SECOND, "seed {}: {} ms", seed + number, back / MS);
        assert_eq!(world.tally.overlaps, 0);
    }
}
