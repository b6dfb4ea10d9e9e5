//! The servers' side of an attempt: reading it, deciding, working, asking a worker, answering.

use super::record::{Attempt, Place, Verdict};
use super::server::PRESENT_MAX;
use super::{Event, World};
use crate::cpu::Stage;
use crate::plan::Spread;
use crate::policy::{Arrival, Decision, Departure, Effects, Ending, Pushback, Refusal};
use crate::time::Nanos;

/// Tries of a gateway at workers; the second goes to another one, and only when the first could not be reached.
const WORKER_TRIES: u8 = 2;

impl World<'_> {
    pub(super) fn at_gateway(&mut self, id: u32) {
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        let gateway = attempt.server[0];
        let server = &mut self.servers[gateway as usize];
        if self.weather.blackhole || server.present >= PRESENT_MAX {
            self.lose(id);
            return;
        }
        if !server.up {
            self.answer(id, Verdict::Unreachable, Refusal::default());
            return;
        }
        let class = &self.plan.classes[usize::from(attempt.class)];
        if class.connects {
            server.knocking.push_back(id);
            if server.knocking.len() == 1 {
                self.accept(gateway);
            }
            return;
        }
        let front = server.plan.refusal;
        self.enter_gateway(id, gateway, front);
    }

    /// Takes connections out of the kernel's accept queue for as long as the policy wants any.
    pub(super) fn accept(&mut self, gateway: u32) {
        let now = self.now();
        let told = self.told(now);
        let handshake = self.plan.connections.map_or(0.0, |connections| connections.handshake);
        while let Some(id) = self.servers[gateway as usize].knocking.front().copied() {
            let waits = self
                .attempts
                .get(id)
                .and_then(|attempt| Some(self.calls.get(attempt.call)?.stamp == attempt.stamp));
            if waits != Some(true) {
                // Whoever gave up is not in the queue any more.
                self.servers[gateway as usize].knocking.pop_front();
                self.lose(id);
                continue;
            }
            let server = &mut self.servers[gateway as usize];
            if let Some(wait) = server.policy.accept(told) {
                self.events.at(now + wait.max(Nanos(1_000)), Event::Accept(gateway));
                return;
            }
            server.knocking.pop_front();
            let front = server.plan.refusal + handshake;
            self.enter_gateway(id, gateway, front);
        }
    }

    fn enter_gateway(&mut self, id: u32, gateway: u32, front: f64) {
        if let Some(attempt) = self.attempts.get_mut(id) {
            attempt.place = Place::Gateway;
            attempt.epoch[0] = self.servers[gateway as usize].epoch;
        }
        self.read_headers(id, 0, gateway, front);
    }

    pub(super) fn at_worker(&mut self, id: u32) {
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        let worker = attempt.server[1];
        let server = &self.servers[worker as usize];
        if self.weather.blackhole || server.present >= PRESENT_MAX {
            // The gateway waits until the caller's deadline and frees the seat then.
            let at = attempt.deadline;
            attempt.verdict = Verdict::Failed;
            self.events.at(at, Event::BackAtGateway(id));
            return;
        }
        if !server.up {
            attempt.verdict = Verdict::Unreachable;
            self.events.after(self.lanes.hop, Event::BackAtGateway(id));
            return;
        }
        attempt.place = Place::Worker;
        attempt.epoch[1] = server.epoch;
        let front = server.plan.refusal;
        self.read_headers(id, 1, worker, front);
    }

    fn read_headers(&mut self, id: u32, hop: usize, server: u32, front: f64) {
        let now = self.now();
        if let Some(attempt) = self.attempts.get_mut(id) {
            attempt.reached[hop] = now;
            attempt.front = front;
        }
        self.servers[server as usize].present += 1;
        self.work(server, id, Stage::Front, front);
    }

    fn work(&mut self, server: u32, id: u32, stage: Stage, demand: f64) {
        let now = self.now();
        self.servers[server as usize].cpu.add(now, id, stage, demand);
        self.arm(server);
    }

    /// Makes sure that an event comes when the next task ends. One that comes too early looks again.
    pub(super) fn arm(&mut self, id: u32) {
        let cpu = &mut self.servers[id as usize].cpu;
        if let Some(next) = cpu.next_end()
            && cpu.armed.is_none_or(|armed| next < armed)
        {
            cpu.armed = Some(next);
            self.events.at(next, Event::Processor(id));
        }
    }

    pub(super) fn processor(&mut self, id: u32) {
        let now = self.now();
        if self.servers[id as usize].cpu.armed != Some(now) {
            return;
        }
        self.servers[id as usize].cpu.armed = None;
        while let Some((attempt, stage)) = self.servers[id as usize].cpu.take_ended(now) {
            match stage {
                Stage::Front => self.decide(id, attempt),
                Stage::Serve => self.worked(id, attempt),
            }
        }
        self.arm(id);
    }

    /// The headers are read: the policy has its say.
    fn decide(&mut self, server: u32, id: u32) {
        let now = self.now();
        let told = self.told(now);
        let Some(attempt) = self.attempts.get(id) else { return };
        let hop = self.servers[server as usize].hop;
        let reached = attempt.reached[hop];
        let arrival = Arrival {
            call: id,
            tier: attempt.tier,
            user: attempt.user,
            level: level(attempt),
            reached: self.told(reached),
            deadline: self.told(attempt.told_deadline),
            inner: hop == 1,
        };
        let waited = Nanos(now.since(reached).0.saturating_sub(attempt.front as u64));
        let mut effects = std::mem::take(&mut self.effects);
        let server_state = &mut self.servers[server as usize];
        server_state.waited(waited);
        match server_state.policy.arrive(&arrival, told, &mut effects) {
            Decision::Run => effects.run.push(id),
            Decision::Wait => {}
            Decision::Refuse(refusal) => effects.refuse.push((id, refusal)),
        }
        self.apply(server, effects);
    }

    /// Does what a policy decided.
    pub(super) fn apply(&mut self, server: u32, mut effects: Effects) {
        for id in effects.run.drain(..) {
            self.start(server, id);
        }
        for (id, refusal) in effects.refuse.drain(..) {
            self.refuse(server, id, refusal);
        }
        self.effects = effects;
    }

    fn start(&mut self, server: u32, id: u32) {
        let now = self.now();
        let demand = self.demand(server, id);
        let state = &mut self.servers[server as usize];
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        state.running += 1;
        attempt.started[state.hop] = now;
        attempt.inflight_at_start[state.hop] = state.running;
        self.work(server, id, Stage::Serve, demand);
    }

    /// Nanoseconds of a core for the work behind the headers.
    fn demand(&mut self, server: u32, id: u32) -> f64 {
        let state = &self.servers[server as usize];
        let (plan, hop) = (state.plan, state.hop);
        let rest = (plan.cpu - plan.refusal).max(0.0);
        let drawn = match plan.spread {
            Spread::Exponential => self.streams.service.exponential(rest),
            // 0.9 s + 0.1 * 10 s = 1.9 s
            Spread::Bimodal if self.streams.service.chance(0.1) => rest * 10.0 / 1.9,
            Spread::Bimodal => rest / 1.9,
        };
        let cost = self.attempts.get(id).map_or(1.0, |a| self.plan.classes[usize::from(a.class)].cost);
        let backend = hop == 1 || self.workers.is_empty();
        let slowness = if backend { self.weather.slowness * self.cache_misses() } else { 1.0 };
        drawn * cost * slowness
    }

    /// Work over what it is with a warm cache. Every served call warms it a little.
    fn cache_misses(&mut self) -> f64 {
        let Some(cache) = self.plan.cache else { return 1.0 };
        1.0 + (cache.miss - 1.0) * self.weather.cache_cold
    }

    /// The processors are done with an attempt; perhaps it needs a lock or a connection, too.
    fn worked(&mut self, server: u32, id: u32) {
        let entered = self.servers[server as usize].station.as_mut().map(|station| station.enter(id));
        match entered {
            None => self.served(server, id),
            Some(true) => self.stay(server, id),
            Some(false) => {}
        }
    }

    fn stay(&mut self, server: u32, id: u32) {
        let state = &self.servers[server as usize];
        let (Some(plan), Some(station)) = (state.plan.station, &state.station) else { return };
        let alone = match state.plan.spread {
            Spread::Exponential => self.streams.service.exponential(plan.stay),
            Spread::Bimodal => plan.stay,
        };
        let at = self.events.now() + station.stay(alone * self.weather.slowness);
        self.events.at(at, Event::Leave { server, epoch: state.epoch, attempt: id });
    }

    pub(super) fn leave_station(&mut self, server: u32, epoch: u32, attempt: u32) {
        let state = &mut self.servers[server as usize];
        if state.epoch != epoch {
            return;
        }
        let next = state.station.as_mut().and_then(|station| station.leave());
        if let Some(next) = next {
            self.stay(server, next);
        }
        self.served(server, attempt);
    }

    /// The work of this hop is done.
    fn served(&mut self, server: u32, id: u32) {
        let hop = self.servers[server as usize].hop;
        if hop == 0 && !self.workers.is_empty() {
            self.ask_worker(id);
            return;
        }
        if let Some(cache) = self.plan.cache {
            self.weather.cache_cold *= 1.0 - 1.0 / cache.fill;
        }
        let failed = self.streams.service.chance(self.plan.failure);
        let verdict = if failed { Verdict::Failed } else { Verdict::Ok };
        if hop == 1 {
            self.leave_worker(id, verdict);
        } else {
            self.depart(server, id, verdict);
            self.answer(id, verdict, Refusal::default());
        }
    }

    fn ask_worker(&mut self, id: u32) {
        let drawn = self.streams.network.below(self.workers.len() as u32) as usize;
        let worker = self.workers[drawn];
        let other = self.workers[(drawn + 1) % self.workers.len()];
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        attempt.place = Place::ToWorker;
        attempt.server[1] = if attempt.server[1] == worker { other } else { worker };
        attempt.worker_tries += 1;
        self.travel(self.lanes.hop, self.plan.hop, Event::AtWorker(id));
    }

    /// A worker is through with an attempt that it let run.
    pub(super) fn leave_worker(&mut self, id: u32, verdict: Verdict) {
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        attempt.verdict = verdict;
        attempt.place = Place::ToWorker;
        let (worker, epoch) = (attempt.server[1], attempt.epoch[1]);
        if self.servers[worker as usize].epoch == epoch {
            self.depart(worker, id, verdict);
        }
        self.tell_advice(id, worker);
        self.travel(self.lanes.hop, self.plan.hop, Event::BackAtGateway(id));
    }

    /// The worker's answer carries how it is at present.
    fn tell_advice(&mut self, id: u32, worker: u32) {
        let told = self.told(self.now());
        let Some(advice) = self.servers[worker as usize].policy.advice() else { return };
        let Some(gateway) = self.attempts.get(id).map(|attempt| attempt.server[0]) else { return };
        if self.weather.coordination {
            self.servers[gateway as usize].policy.hear(worker as usize, advice, told);
        }
    }

    pub(super) fn back_at_gateway(&mut self, id: u32) {
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        let gateway = attempt.server[0];
        if attempt.orphan || self.servers[gateway as usize].epoch != attempt.epoch[0] {
            self.attempts.remove(id);
            self.measure.attempts_over += 1;
            return;
        }
        let verdict = attempt.verdict;
        if verdict == Verdict::Unreachable && attempt.worker_tries < WORKER_TRIES && self.workers.len() > 1 {
            self.ask_worker(id);
            return;
        }
        attempt.place = Place::Gateway;
        let refusal =
            Refusal { pushback: attempt.pushback, come_back: attempt.come_back, ..Refusal::default() };
        self.depart(gateway, id, verdict);
        self.answer(id, verdict, refusal);
    }

    /// Gives the seat back.
    fn depart(&mut self, server: u32, id: u32, verdict: Verdict) {
        let now = self.now();
        let told = self.told(now);
        let Some(attempt) = self.attempts.get(id) else { return };
        let ahead = self.weather.clock_ahead;
        let state = &mut self.servers[server as usize];
        let hop = state.hop;
        state.running = state.running.saturating_sub(1);
        if hop == 1 {
            state.present = state.present.saturating_sub(1);
        }
        let departure = Departure {
            call: id,
            tier: attempt.tier,
            user: attempt.user,
            reached: attempt.reached[hop] + ahead,
            started: attempt.started[hop] + ahead,
            inflight_at_start: attempt.inflight_at_start[hop],
            ending: match verdict {
                Verdict::Ok if now <= attempt.told_deadline => Ending::Served,
                Verdict::Ok => Ending::Late,
                Verdict::Refused => Ending::Refused,
                Verdict::Failed | Verdict::Unreachable => Ending::Failed,
            },
        };
        let mut effects = std::mem::take(&mut self.effects);
        state.policy.depart(&departure, told, &mut effects);
        self.apply(server, effects);
    }

    /// The policy does not want it.
    fn refuse(&mut self, server: u32, id: u32, refusal: Refusal) {
        let hop = self.servers[server as usize].hop;
        if hop == 0 {
            self.answer(id, Verdict::Refused, refusal);
            return;
        }
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        attempt.verdict = Verdict::Refused;
        attempt.pushback = refusal.pushback;
        attempt.come_back = refusal.come_back;
        attempt.place = Place::ToWorker;
        let state = &mut self.servers[server as usize];
        state.present = state.present.saturating_sub(1);
        self.tell_advice(id, server);
        self.travel(self.lanes.hop, self.plan.hop, Event::BackAtGateway(id));
    }

    /// The gateway answers.
    fn answer(&mut self, id: u32, verdict: Verdict, refusal: Refusal) {
        let now = self.now();
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        let state = &mut self.servers[attempt.server[0] as usize];
        if attempt.place == Place::Gateway && state.epoch == attempt.epoch[0] {
            state.present = state.present.saturating_sub(1);
            attempt.hold_back =
                state.policy.hold_back(level(attempt), attempt.user, verdict == Verdict::Refused);
        }
        attempt.place = Place::ToClient;
        attempt.verdict = verdict;
        attempt.pushback = if verdict == Verdict::Refused { refusal.pushback } else { Pushback::Silent };
        attempt.come_back = refusal.come_back;
        attempt.close = refusal.close;
        if self.weather.blackhole {
            self.lose(id);
        } else if refusal.hold > Nanos::ZERO {
            self.events.at(now + refusal.hold + self.plan.network, Event::Answer(id));
        } else {
            self.travel(self.lanes.network, self.plan.network, Event::Answer(id));
        }
    }

    /// A connection that nobody will take any more.
    pub(super) fn answer_closed(&mut self, id: u32) {
        self.answer(id, Verdict::Unreachable, Refusal::default());
    }

    /// Nobody hears of it again.
    fn lose(&mut self, id: u32) {
        self.attempts.remove(id);
        self.measure.attempts_over += 1;
    }
}

/// A tier and one of 128 cohorts, the same for every try.
fn level(attempt: &Attempt) -> u16 {
    (u16::from(attempt.tier) << 7) | (attempt.user & 127) as u16
}
