//! The client's side of a call: making attempts, hearing of them, trying again, giving up.

use super::record::{Attempt, Call, CallEnd, Place, Verdict};
use super::{Event, World};
use crate::client::Failed;
use crate::policy::Pushback;
use crate::time::Nanos;

impl World<'_> {
    pub(super) fn birth(&mut self, client: u32, class: u8) {
        let now = self.now();
        let plan = &self.plan.classes[usize::from(class)];
        self.measure.born(class, client, now);
        let call = Call { client, class, tries: 0, stamp: 0, born: now, parked: false };
        let call = self.calls.insert(call);
        if self.population.holds_back(client, plan.tier, now, &mut self.streams.clients) {
            self.end_call(call, CallEnd::HeldBack);
            return;
        }
        self.attempt(call);
    }

    /// Makes an attempt, or waits with it for a connection.
    fn attempt(&mut self, id: u32) {
        self.stamps = self.stamps.wrapping_add(1).max(1);
        let stamp = self.stamps;
        let Some(call) = self.calls.get_mut(id) else { return };
        call.stamp = stamp;
        call.tries = call.tries.saturating_add(1);
        let class = &self.plan.classes[usize::from(call.class)];
        let client = call.client;
        let (state, behaviour) = self.population.client_and_behaviour(client);
        let patience = behaviour.hangs_up.or(behaviour.deadline).unwrap_or(class.deadline);
        let waits = self.plan.connections.is_some() && !state.connected && !class.connects;
        call.parked = waits;
        let lane = self.events.lane(patience);
        self.events.after(lane, Event::Timeout { call: id, stamp });
        if waits {
            self.parked.entry(client).or_default().push((id, stamp));
            self.connect(client);
        } else {
            self.send(id);
        }
    }

    /// Puts the present attempt on the network.
    pub(super) fn send(&mut self, id: u32) {
        let now = self.now();
        let Some(call) = self.calls.get_mut(id) else { return };
        call.parked = false;
        let class = &self.plan.classes[usize::from(call.class)];
        let user = self.population.user(call.client);
        let (state, behaviour) = self.population.client_and_behaviour(call.client);
        let deadline = now + behaviour.deadline.unwrap_or(class.deadline);
        let far = now + Nanos::from_secs(365 * 24 * 3600);
        let chosen = match self.plan.connections {
            Some(_) => state.gateway,
            None => self.streams.network.below(u32::MAX),
        };
        let gateway = self.gateways[chosen as usize % self.gateways.len()];
        let attempt = Attempt {
            call: id,
            stamp: call.stamp,
            client: call.client,
            class: call.class,
            tier: class.tier,
            user,
            place: Place::ToGateway,
            server: [gateway, u32::MAX],
            epoch: [self.servers[gateway as usize].epoch, 0],
            reached: [now; 2],
            started: [now; 2],
            inflight_at_start: [0; 2],
            front: 0.0,
            deadline,
            told_deadline: if behaviour.tells_deadline { deadline } else { far },
            worker_tries: 0,
            verdict: Verdict::Failed,
            pushback: Pushback::Silent,
            come_back: None,
            hold_back: None,
            close: false,
            orphan: false,
        };
        self.measure.attempted(call.class, now);
        let attempt = self.attempts.insert(attempt);
        self.travel(self.lanes.network, self.plan.network, Event::AtGateway(attempt));
    }

    /// An answer is there, perhaps too late.
    pub(super) fn answered(&mut self, id: u32) {
        let Some(attempt) = self.attempts.remove(id) else { return };
        let now = self.now();
        self.measure.attempts_over += 1;
        if attempt.close {
            self.disconnect(attempt.client);
        }
        let served = attempt.verdict == Verdict::Ok;
        self.population.hear(attempt.client, served, attempt.hold_back, now, &mut self.streams.clients);
        let waits = self.calls.get(attempt.call).is_some_and(|call| call.stamp == attempt.stamp);
        if !waits {
            self.measure.late += u64::from(attempt.verdict == Verdict::Ok);
            return;
        }
        match attempt.verdict {
            Verdict::Ok => {
                self.population.client(attempt.client).budget.succeeded();
                self.end_call(attempt.call, CallEnd::Ok);
            }
            Verdict::Refused => {
                self.measure.refused(attempt.class, now);
                let told = match attempt.pushback {
                    Pushback::After(pause) => Some(pause),
                    _ => None,
                };
                if let Some(pause) = attempt.come_back.or(told) {
                    self.population.push_back(attempt.client, attempt.tier, now + pause);
                }
                self.failed(attempt.call, Failed::Told(attempt.pushback), CallEnd::Refused);
            }
            Verdict::Failed | Verdict::Unreachable => {
                self.failed(attempt.call, Failed::Told(attempt.pushback), CallEnd::Failed);
            }
        }
    }

    pub(super) fn reset(&mut self, call: u32, stamp: u32) {
        if self.calls.get(call).is_some_and(|call| call.stamp == stamp) {
            self.failed(call, Failed::Told(Pushback::Silent), CallEnd::Failed);
        }
    }

    pub(super) fn timed_out(&mut self, id: u32, stamp: u32) {
        let Some(call) = self.calls.get(id).filter(|call| call.stamp == stamp) else { return };
        if self.population.behaviour(call.client).hangs_up.is_some() {
            self.end_call(id, CallEnd::HungUp);
        } else {
            self.failed(id, Failed::TimedOut, CallEnd::TimedOut);
        }
    }

    /// An attempt came to nothing: another one later, or the end.
    fn failed(&mut self, id: u32, failed: Failed, end: CallEnd) {
        let now = self.now();
        let Some(call) = self.calls.get_mut(id) else { return };
        let (state, behaviour) = self.population.client_and_behaviour(call.client);
        let pause = behaviour.pause(call.tries, failed, &mut state.budget, &mut self.streams.clients);
        let worth_it = pause.filter(|pause| (now + *pause).since(call.born) <= behaviour.patience);
        let Some(pause) = worth_it else {
            self.end_call(id, end);
            return;
        };
        // Whatever else comes of this attempt is late.
        self.stamps = self.stamps.wrapping_add(1).max(1);
        call.stamp = self.stamps;
        let retry = Event::Retry { call: id, stamp: self.stamps };
        self.events.at(now + pause, retry);
    }

    pub(super) fn retry(&mut self, id: u32, stamp: u32) {
        if self.calls.get(id).is_some_and(|call| call.stamp == stamp) {
            self.attempt(id);
        }
    }

    pub(super) fn end_call(&mut self, id: u32, end: CallEnd) {
        let Some(call) = self.calls.remove(id) else { return };
        let now = self.now();
        self.measure.ended(call.class, call.client, call.born, now, end);
        if self.plan.classes[usize::from(call.class)].connects {
            self.connection_tried(call.client, end);
        }
    }
}
