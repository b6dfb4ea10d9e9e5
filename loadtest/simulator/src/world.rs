//! The simulated world: clients, a network, gateways, workers, and what happens to them in what order.
//!
//! A call is born at a client, which makes one or more *attempts* at it. An attempt travels to a gateway, costs it the
//! reading of its headers, meets the policy, waits or runs or is refused, may go on to a worker where the same happens
//! again, and is answered. The client may have given up by then; the servers do not notice and work on.

mod arrivals;
mod calls;
mod connections;
mod faults;
mod record;
mod scaler;
mod server;
mod serving;

use std::collections::HashMap;

use crate::client::Population;
use crate::events::{Events, Lane};
use crate::measure::Measure;
use crate::plan::Plan;
use crate::policy::{Effects, Signals};
use crate::random::Stream;
use crate::slab::Slab;
use crate::time::Nanos;
use arrivals::Arrivals;
use faults::Weather;
pub(crate) use record::CallEnd;
use record::{Attempt, Call};
use server::Server;

/// A bucket of the time series.
pub(crate) const SAMPLE: Nanos = Nanos::from_millis(100);

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A call of a class is due, unless the rates have changed since.
    Arrive {
        class: u8,
        epoch: u32,
    },
    Step(u32),
    /// A burst begins or ends.
    Modulate,
    AtGateway(u32),
    AtWorker(u32),
    BackAtGateway(u32),
    /// An answer reaches the client.
    Answer(u32),
    /// The client sees its connection break.
    Reset {
        call: u32,
        stamp: u32,
    },
    Timeout {
        call: u32,
        stamp: u32,
    },
    Retry {
        call: u32,
        stamp: u32,
    },
    Connect(u32),
    /// The accept queue of a gateway may have its turn.
    Accept(u32),
    Processor(u32),
    Leave {
        server: u32,
        epoch: u32,
        attempt: u32,
    },
    Tick {
        server: u32,
        epoch: u32,
    },
    Sample,
    FaultBegins,
    FaultEnds,
    /// The next gateway of a deployment goes down, or comes back.
    Restart {
        gateway: u32,
        up: bool,
    },
    Observe,
    Decide {
        wanted: u32,
    },
    Ready,
}

/// Delays that always are the same.
#[derive(Clone, Copy, Debug)]
struct Lanes {
    network: Lane,
    hop: Lane,
}

#[derive(Debug)]
struct Streams {
    arrivals: Stream,
    clients: Stream,
    service: Stream,
    network: Stream,
}

#[derive(Debug)]
pub(crate) struct World<'a> {
    plan: &'a Plan,
    events: Events<Event>,
    lanes: Lanes,
    streams: Streams,
    arrivals: Arrivals,
    weather: Weather,
    population: Population,
    /// Calls that wait for their client's connection.
    parked: HashMap<u32, Vec<(u32, u32)>>,
    calls: Slab<Call>,
    attempts: Slab<Attempt>,
    /// Numbers attempts, so that news of an old one is told from news of the present one.
    stamps: u32,
    servers: Vec<Server>,
    gateways: Vec<u32>,
    workers: Vec<u32>,
    effects: Effects,
    measure: Measure,
}

impl<'a> World<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        let mut events = Events::new();
        let lanes = Lanes { network: events.lane(plan.network), hop: events.lane(plan.hop) };
        let stream = |subject| Stream::new(plan.seed, subject);
        let streams =
            Streams { arrivals: stream(1), clients: stream(2), service: stream(3), network: stream(4) };
        let behaviours: Vec<_> =
            plan.cohorts.iter().map(|(cohort, share)| (cohort.behaviour(), *share)).collect();
        let mut world = Self {
            plan,
            events,
            lanes,
            streams,
            arrivals: Arrivals::new(plan),
            weather: Weather::default(),
            population: Population::new(plan.clients, plan.elephants, &behaviours, plan.seed),
            parked: HashMap::new(),
            calls: Slab::new(),
            attempts: Slab::new(),
            stamps: 0,
            servers: Vec::new(),
            gateways: Vec::new(),
            workers: Vec::new(),
            effects: Effects::default(),
            measure: Measure::new(plan),
        };
        for _ in 0..plan.gateways {
            world.add_server(0);
        }
        for _ in 0..plan.workers {
            world.add_server(1);
        }
        world
    }

    /// Plays the whole run.
    pub(crate) fn run(mut self) -> Measure {
        self.begin();
        let until = self.plan.end + self.plan.settle;
        while let Some(event) = self.events.next(until) {
            self.happen(event);
        }
        let unfinished: Vec<_> = self.calls.iter().map(|(id, _)| id).collect();
        for call in unfinished {
            self.end_call(call, CallEnd::Unfinished);
        }
        self.measure.events = self.events.scheduled();
        self.measure.attempts_left = self.attempts.len() as u64;
        self.measure
    }

    fn begin(&mut self) {
        for (index, (at, _)) in self.plan.steps.iter().enumerate() {
            self.events.at(*at, Event::Step(index as u32));
        }
        if self.plan.bursts.is_some() {
            self.events.at(Nanos::ZERO, Event::Modulate);
        }
        if let Some((_, from, until)) = self.plan.fault {
            self.events.at(from, Event::FaultBegins);
            self.events.at(until, Event::FaultEnds);
        }
        if let Some(scaler) = self.plan.autoscaler {
            self.events.at(scaler.interval, Event::Observe);
        }
        self.events.at(SAMPLE, Event::Sample);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { class, epoch } => self.arrive(class, epoch),
            Event::Step(index) => self.step(index),
            Event::Modulate => self.modulate(),
            Event::AtGateway(attempt) => self.at_gateway(attempt),
            Event::AtWorker(attempt) => self.at_worker(attempt),
            Event::BackAtGateway(attempt) => self.back_at_gateway(attempt),
            Event::Answer(attempt) => self.answered(attempt),
            Event::Reset { call, stamp } => self.reset(call, stamp),
            Event::Timeout { call, stamp } => self.timed_out(call, stamp),
            Event::Retry { call, stamp } => self.retry(call, stamp),
            Event::Connect(client) => self.connect(client),
            Event::Accept(gateway) => self.accept(gateway),
            Event::Processor(server) => self.processor(server),
            Event::Leave { server, epoch, attempt } => self.leave_station(server, epoch, attempt),
            Event::Tick { server, epoch } => self.tick(server, epoch),
            Event::Sample => self.sample(),
            Event::FaultBegins => self.fault_begins(),
            Event::FaultEnds => self.fault_ends(),
            Event::Restart { gateway, up } => self.restart(gateway, up),
            Event::Observe => self.observe(),
            Event::Decide { wanted } => self.scale_to(wanted),
            Event::Ready => {
                self.add_server(0);
            }
        }
    }

    fn now(&self) -> Nanos {
        self.events.now()
    }

    /// The time that policies are told.
    fn told(&self, real: Nanos) -> Nanos {
        real + self.weather.clock_ahead
    }

    /// `hop` 0 is a gateway, 1 a worker.
    fn add_server(&mut self, hop: usize) -> u32 {
        let id = self.servers.len() as u32;
        self.servers.push(Server::new(self.plan, hop, id));
        if hop == 0 { &mut self.gateways } else { &mut self.workers }.push(id);
        self.arm_tick(id);
        id
    }

    fn arm_tick(&mut self, server: u32) {
        let Server { policy, epoch, .. } = &self.servers[server as usize];
        if let Some(interval) = policy.tick_interval() {
            // Servers do not tick in step.
            let phase = self.streams.service.within(interval);
            self.events.at(self.now() + phase, Event::Tick { server, epoch: *epoch });
        }
    }

    fn tick(&mut self, id: u32, epoch: u32) {
        let now = self.now();
        let told = self.told(now);
        let server = &mut self.servers[id as usize];
        if server.epoch != epoch || (now > self.plan.end + self.plan.settle) {
            return;
        }
        let Some(interval) = server.policy.tick_interval() else { return };
        self.events.at(now + interval, Event::Tick { server: id, epoch });
        if server.paused {
            return;
        }
        let signals: Signals = server.signals(now);
        let mut effects = std::mem::take(&mut self.effects);
        self.servers[id as usize].policy.tick(&signals, told, &mut effects);
        self.apply(id, effects);
    }

    fn sample(&mut self) {
        let now = self.now();
        self.measure.end_bucket();
        if now < self.plan.end {
            self.events.at(now + SAMPLE, Event::Sample);
        }
    }
}
