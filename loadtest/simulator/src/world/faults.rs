//! What goes wrong while a run goes on, and that it ends.

use super::record::{Place, Verdict};
use super::{Event, World};
use crate::events::Lane;
use crate::fault::{Fault, PAUSE};
use crate::time::Nanos;

/// Linux's least retransmission timeout; it doubles with each loss in a row.
const RETRANSMISSION: Nanos = Nanos::from_millis(200);
const LOSS: f64 = 0.3;

/// What the network and the machines are like at present.
#[derive(Debug)]
pub(super) struct Weather {
    pub(super) blackhole: bool,
    pub(super) lossy: bool,
    /// Work over what it usually is.
    pub(super) slowness: f64,
    pub(super) clock_ahead: Nanos,
    pub(super) coordination: bool,
    /// Served calls since the cache was flushed; none flushed, none counted.
    pub(super) cache_cold: f64,
    pub(super) servers_ordered: u32,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            blackhole: false,
            lossy: false,
            slowness: 1.0,
            clock_ahead: Nanos::ZERO,
            coordination: true,
            cache_cold: 0.0,
            servers_ordered: 0,
        }
    }
}

impl World<'_> {
    /// Puts something on the network.
    pub(super) fn travel(&mut self, lane: Lane, delay: Nanos, event: Event) {
        if !self.weather.lossy {
            self.events.after(lane, event);
            return;
        }
        let mut delay = delay;
        let mut retransmission = RETRANSMISSION;
        while self.streams.network.chance(LOSS) {
            delay += retransmission;
            retransmission = retransmission + retransmission;
        }
        self.events.at(self.now() + delay, event);
    }

    pub(super) fn fault_begins(&mut self) {
        let Some((fault, from, until)) = self.plan.fault else { return };
        match fault {
            Fault::Blackhole => self.weather.blackhole = true,
            Fault::Slowness => self.weather.slowness = 3.0,
            Fault::CacheFlush => self.weather.cache_cold = 1.0,
            Fault::BackendKill => self.each_victim(Self::kill),
            Fault::GcPause => {
                self.pause_all(true);
                self.events.at(from + PAUSE, Event::FaultEnds);
            }
            Fault::PacketLoss => self.weather.lossy = true,
            Fault::ClockJump => self.weather.clock_ahead = Nanos::from_secs(3_600),
            Fault::CoordinatorLoss => self.weather.coordination = false,
            Fault::Deploy => self.deploy(from, until),
            Fault::MassReconnect => {
                for client in 0..self.population.len() {
                    self.disconnect(client);
                }
            }
            Fault::PoisonTenant => {
                self.arrivals.poison = self.plan.poison.map_or(0.0, |(_, rate)| rate);
                self.draw_all();
            }
            Fault::Burst => {
                self.arrivals.fault_factor = 10.0;
                self.draw_all();
            }
        }
    }

    pub(super) fn fault_ends(&mut self) {
        let Some((fault, ..)) = self.plan.fault else { return };
        match fault {
            Fault::Blackhole => self.weather.blackhole = false,
            Fault::Slowness => self.weather.slowness = 1.0,
            Fault::BackendKill => self.each_victim(Self::revive),
            Fault::GcPause => self.pause_all(false),
            Fault::PacketLoss => self.weather.lossy = false,
            Fault::CoordinatorLoss => self.weather.coordination = true,
            Fault::CacheFlush | Fault::ClockJump | Fault::Deploy | Fault::MassReconnect => {}
            Fault::PoisonTenant => {
                self.arrivals.poison = 0.0;
                self.draw_all();
            }
            Fault::Burst => {
                self.arrivals.fault_factor = 1.0;
                self.draw_all();
            }
        }
    }

    /// A quarter of those that do the work, and at least one.
    fn each_victim(&mut self, act: fn(&mut Self, u32)) {
        let servers = if self.workers.is_empty() { &self.gateways } else { &self.workers };
        let victims: Vec<_> = servers.iter().copied().take(servers.len().div_ceil(4)).collect();
        for victim in victims {
            act(self, victim);
        }
    }

    fn pause_all(&mut self, paused: bool) {
        let now = self.now();
        for id in 0..self.servers.len() as u32 {
            let server = &mut self.servers[id as usize];
            if server.paused != paused {
                server.paused = paused;
                server.cpu.set_speed(now, if paused { 0.0 } else { 1.0 });
                self.arm(id);
            }
        }
    }

    /// Each gateway in its turn is away for most of its share of the time.
    fn deploy(&mut self, from: Nanos, until: Nanos) {
        let share = Nanos(until.since(from).0 / self.gateways.len().max(1) as u64);
        for (index, gateway) in self.gateways.clone().into_iter().enumerate() {
            let down = from + Nanos(share.0 * index as u64);
            self.events.at(down, Event::Restart { gateway, up: false });
            self.events.at(down + Nanos(share.0 / 5 * 4), Event::Restart { gateway, up: true });
        }
    }

    pub(super) fn restart(&mut self, gateway: u32, up: bool) {
        if up { self.revive(gateway) } else { self.kill(gateway) }
    }

    /// The process is gone, and what was in it.
    fn kill(&mut self, id: u32) {
        let now = self.now();
        let hop = self.servers[id as usize].hop;
        self.servers[id as usize].up = false;
        for knocking in std::mem::take(&mut self.servers[id as usize].knocking) {
            self.answer_closed(knocking);
        }
        self.servers[id as usize].restart(self.plan.law, now);
        let here = if hop == 0 { Place::Gateway } else { Place::Worker };
        let hit: Vec<_> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.server[hop] == id && attempt.place != Place::ToClient)
            .map(|(id, attempt)| (id, attempt.place))
            .collect();
        for (attempt, place) in hit {
            if hop == 0 {
                self.lose_gateway(attempt, place == here);
            } else if place == here {
                self.leave_worker(attempt, Verdict::Unreachable);
            }
        }
        if hop == 0 && self.plan.connections.is_some() {
            self.break_connections(id);
        }
    }

    fn revive(&mut self, id: u32) {
        if !self.servers[id as usize].up {
            self.servers[id as usize].up = true;
            self.arm_tick(id);
        }
    }

    /// What was inside is gone; what is at a worker goes on for nobody; the client sees a broken connection.
    fn lose_gateway(&mut self, id: u32, inside: bool) {
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        if attempt.place == Place::ToGateway {
            return;
        }
        let reset = Event::Reset { call: attempt.call, stamp: attempt.stamp };
        attempt.orphan = true;
        if inside {
            self.attempts.remove(id);
            self.measure.attempts_over += 1;
        }
        self.events.after(self.lanes.network, reset);
    }

    fn break_connections(&mut self, gateway: u32) {
        let position = self.gateways.iter().position(|id| *id == gateway);
        let count = self.gateways.len();
        for client in 0..self.population.len() {
            let state = self.population.client(client);
            if Some(state.gateway as usize % count) == position {
                self.disconnect(client);
            }
        }
    }
}
