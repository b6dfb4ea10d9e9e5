//! People, gateways and control, in steps of a tenth of a second.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use spillway_types::{Secret, Timestamp};
use spillway_waiting_room::{
    Appointments, Block, Blocks, Claimed, DeviceKey, Estimate, Flags, Forecast, Frontier, KeyId, Limits,
    NetworkHash, Outlook, Presence, Room, SealKeys, SealedTicket, Steering, SteeringConfig, TICKET_LIFETIME,
    Tick, Ticket, Told, Turn, View, block_for,
};

/// A crowd, and the gateways that it comes to.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub people: usize,
    /// Evenly spread by chance over so long.
    pub arrive_within: Duration,
    /// 255 at most.
    pub gateways: usize,
    /// Which of them, and when.
    pub killed: Option<(usize, Duration)>,
    /// Seats a second, from when.
    pub rates: Vec<(Duration, f64)>,
    /// Mean time after which a person gives up.
    pub patience: Duration,
    /// The share of the called who do not come.
    pub never_claim: f64,
    /// The share of the called who come too late.
    pub asleep: f64,
    /// Polls a second that the whole room may cost.
    pub polls_max: f64,
    pub seed: u64,
}

impl Scenario {
    /// Experiment E16 of `reference/overload.md`: people arrive within a minute at five gateways, of which one is killed. People and seats shrink
    /// together, so that waits stay what they are: a million at 1,200 a second, and 1,000 after five minutes.
    pub fn e16(people: usize, seed: u64) -> Self {
        let scale = people as f64 / 1_000_000.0;
        Self {
            people,
            arrive_within: Duration::from_secs(60),
            gateways: 5,
            killed: Some((2, Duration::from_secs(30))),
            rates: vec![(Duration::ZERO, 1_200.0 * scale), (Duration::from_secs(300), 1_000.0 * scale)],
            patience: Duration::from_secs(1_500),
            never_claim: 0.05,
            asleep: 0.02,
            polls_max: 10_000.0 * scale,
            seed,
        }
    }
}

/// What happened.
#[derive(Debug, Default)]
pub struct World {
    pub(super) people: Vec<Person>,
    /// Where the frontier was, at each step.
    pub(super) frontier: Vec<(Duration, u64)>,
    pub(super) told: Vec<(u32, ToldRange)>,
    pub(super) polls: Vec<u32>,
    pub(super) claims: Vec<(Duration, u64)>,
    /// Seats a second, by publication.
    pub(super) rates: Vec<(Duration, f64)>,
    pub(super) rises_cut: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ToldRange {
    pub(super) at: f32,
    pub(super) low: f32,
    pub(super) high: f32,
}

#[derive(Debug)]
pub(super) struct Person {
    pub(super) arrived: Duration,
    /// Entered again, because the gateway died before it answered.
    pub(super) again: bool,
    pub(super) seq: u64,
    pub(super) claimed: bool,
    gateway: u8,
    leaves: Duration,
    ticket: Option<SealedTicket>,
    told: Option<Told>,
}

struct Gateway {
    alive: bool,
    view: View,
    outlook: Option<Outlook>,
    block: Option<Block>,
    presence: Presence,
    appointments: Appointments,
    arrivals: f64,
    arrivals_before: f64,
    issued: u64,
    abandoned: Vec<RangeInclusive<u64>>,
    claimed: Vec<Claimed>,
}

struct Control {
    blocks: Blocks,
    steering: Steering,
    forecast: Forecast,
    presence: Presence,
    published: Vec<(Frontier, Outlook)>,
}

struct Play {
    scenario: Scenario,
    world: World,
    gateways: Vec<Gateway>,
    control: Control,
    keys: SealKeys,
    rng: SmallRng,
    /// Who does something in which step.
    agenda: Vec<Vec<u32>>,
    generation: u64,
}

const STEP: Duration = Duration::from_millis(100);
const ROOM: Room = Room(1);
const ANSWER_TAKES: Duration = Duration::from_millis(50);
const LENDING_TAKES: Duration = Duration::from_millis(1);
/// Of the people whose estimates are kept.
const WATCHED: usize = 8;

impl World {
    /// Plays it to the end. A million people take some seconds and 500 MB.
    pub fn run(scenario: Scenario) -> Self {
        let mut play = Play::new(scenario);
        let mut step = 0;
        while step < play.agenda.len() {
            play.step(step);
            step += 1;
        }
        play.world
    }
}

fn clock(now: Duration) -> Timestamp {
    Timestamp::from_millis(1_610_722_800_000).saturating_add(now)
}

impl Play {
    fn new(scenario: Scenario) -> Self {
        let mut rng = SmallRng::seed_from_u64(scenario.seed);
        let mut arrivals: Vec<f64> = (0..scenario.people)
            .map(|_| rng.random::<f64>() * scenario.arrive_within.as_secs_f64())
            .collect();
        arrivals.sort_by(f64::total_cmp);
        let people = arrivals.into_iter().map(|arrived| Person {
            arrived: Duration::from_secs_f64(arrived),
            again: false,
            seq: 0,
            claimed: false,
            gateway: rng.random_range(0..scenario.gateways) as u8,
            leaves: Duration::from_secs_f64(
                arrived - scenario.patience.as_secs_f64() * (1.0 - rng.random::<f64>()).ln(),
            ),
            ticket: None,
            told: None,
        });
        let people: Vec<_> = people.collect();
        let mut agenda = Vec::new();
        for (index, person) in people.iter().enumerate() {
            put(&mut agenda, index as u32, person.arrived, Duration::ZERO);
        }
        let gateway = || Gateway {
            alive: true,
            view: View::default(),
            outlook: None,
            block: None,
            presence: Presence::default(),
            appointments: Appointments::default(),
            arrivals: 0.0,
            arrivals_before: 0.0,
            issued: 0,
            abandoned: Vec::new(),
            claimed: Vec::new(),
        };
        let gateways = (0..scenario.gateways).map(|_| gateway()).collect();
        let control = Control {
            blocks: Blocks::new(1, 0, Duration::ZERO),
            steering: Steering::new(SteeringConfig::default(), 1),
            forecast: Forecast::new(scenario.polls_max),
            presence: Presence::default(),
            published: Vec::new(),
        };
        let world = World { people, polls: vec![0; 1], ..World::default() };
        let keys = SealKeys::new(KeyId(1), &Secret::from_bytes([7; 32]));
        Self { scenario, world, gateways, control, keys, rng, agenda, generation: 0 }
    }

    fn step(&mut self, step: usize) {
        let now = STEP * step as u32;
        if step.is_multiple_of(10) {
            self.publish(now);
            self.world.polls.push(0);
        } else if step % 10 == 1 {
            // A tenth of a second on the way.
            self.deliver(now);
        }
        if let Some((gateway, at)) = self.scenario.killed
            && at <= now
            && self.gateways[gateway].alive
        {
            self.kill(gateway, now);
        }
        let mut due = std::mem::take(&mut self.agenda[step]);
        due.sort_by_key(|index| self.world.people[*index as usize].arrived);
        for index in due {
            self.act(index, now);
        }
        let watch = self.gateways.iter().find(|gateway| gateway.alive).expect("one lives");
        self.world.frontier.push((now + STEP, watch.view.frontier(now + STEP)));
    }

    fn act(&mut self, index: u32, now: Duration) {
        let person = &self.world.people[index as usize];
        if person.claimed || person.leaves < now {
            return;
        }
        if person.ticket.is_none() {
            // Within the step, to the microsecond; after a lost answer, when the second try comes.
            let at = if person.again { now } else { person.arrived };
            self.enter(index, at);
        } else {
            *self.world.polls.last_mut().expect("a second") += 1;
            self.poll(index, now);
        }
    }

    fn enter(&mut self, index: u32, at: Duration) {
        let gateway = self.living(index);
        let seq = self.number(gateway, at);
        let person = &mut self.world.people[index as usize];
        let device = DeviceKey::from_bytes(key_of(index));
        let ticket = Ticket {
            room: ROOM,
            seq,
            issued: clock(at),
            lifetime: TICKET_LIFETIME,
            late: None,
            flags: Flags::default(),
            device: device.hash(),
            network: NetworkHash::from_bytes([0; 8]),
        };
        person.seq = seq;
        person.ticket = Some(ticket.seal(&self.keys));
        self.answer(index, &ticket, at);
    }

    fn number(&mut self, gateway: usize, at: Duration) -> u64 {
        let blocks = &mut self.control.blocks;
        let gateway = &mut self.gateways[gateway];
        gateway.arrivals += 1.0;
        loop {
            if let Some(block) = &mut gateway.block {
                if let Ok(seq) = block.take(at) {
                    gateway.issued = gateway.issued.max(seq);
                    gateway.view.issued(seq);
                    return seq;
                }
                gateway.abandoned.extend(gateway.block.take().and_then(Block::abandon));
            }
            if let Some(mark) = blocks.wanted() {
                blocks.stored(mark);
            }
            let wanted = block_for(gateway.arrivals.max(gateway.arrivals_before));
            let lent = blocks.lend(Some(wanted)).expect("a mark is stored");
            gateway.block = Some(Block::new(lent, at.saturating_sub(LENDING_TAKES)));
        }
    }

    fn poll(&mut self, index: u32, now: Duration) {
        let sealed = self.world.people[index as usize].ticket.expect("has one");
        let ticket = Ticket::open(sealed.as_bytes(), &self.keys, ROOM, clock(now)).expect("a good ticket");
        self.answer(index, &ticket, now);
    }

    fn answer(&mut self, index: u32, ticket: &Ticket, now: Duration) {
        let gateway = self.living(index);
        let gateway = &mut self.gateways[gateway];
        let person = &mut self.world.people[index as usize];
        gateway.presence.heard(ticket.seq);
        match gateway.view.turn(ticket, ticket.seq, now, clock(now)) {
            Turn::Waiting => {
                let (wait, stretch) = match &gateway.outlook {
                    None => (Duration::ZERO, 1.0),
                    Some(outlook) => {
                        let fresh = outlook.estimate(ticket.seq, &gateway.view, now);
                        let told = match person.told {
                            Some(told) => {
                                let cut = fresh.after(told, clock(now));
                                self.world.rises_cut += u32::from(cut != fresh);
                                cut
                            }
                            None => fresh,
                        };
                        person.told = Some(Told { high: told.high, at: clock(now) });
                        note(&mut self.world.told, index, now, &told);
                        (told.likely, outlook.stretch)
                    }
                };
                let share = self.scenario.polls_max / self.scenario.gateways as f64;
                let after = gateway.appointments.poll_after(wait, stretch, share, now, &mut self.rng);
                put(&mut self.agenda, index, now + after, now);
            }
            Turn::Called { publication, .. } => {
                let draw: f64 = self.rng.random();
                if ticket.late.is_none() && draw < self.scenario.never_claim {
                    person.leaves = Duration::ZERO;
                } else if ticket.late.is_none() && draw < self.scenario.never_claim + self.scenario.asleep {
                    let asleep = Duration::from_secs_f64(self.rng.random_range(130.0..400.0));
                    put(&mut self.agenda, index, now + asleep, now);
                } else {
                    person.claimed = true;
                    gateway.claimed.push(Claimed { publication, count: 1 });
                    self.world.claims.push((now, ticket.seq));
                }
            }
            Turn::CallAgain(late) => {
                let ticket = Ticket { late: Some(late), ..*ticket };
                person.ticket = Some(ticket.seal(&self.keys));
                put(&mut self.agenda, index, now + STEP, now);
            }
            Turn::Over => {}
        }
    }

    fn publish(&mut self, now: Duration) {
        let rate = self.scenario.rates.iter().rfind(|(from, _)| *from <= now).map_or(0.0, |(_, rate)| *rate);
        let limits = Limits { provider: rate, ..Limits::NONE };
        let (mut issued, mut abandoned, mut claimed) = (0, Vec::new(), Vec::new());
        for gateway in self.gateways.iter_mut().filter(|gateway| gateway.alive) {
            issued = issued.max(gateway.issued);
            abandoned.append(&mut gateway.abandoned);
            claimed.append(&mut gateway.claimed);
            gateway.arrivals_before = std::mem::take(&mut gateway.arrivals);
        }
        let tick = Tick {
            now,
            at: clock(now),
            limits: &limits,
            refusing: false,
            issued,
            abandoned: &abandoned,
            claimed: &claimed,
        };
        let control = &mut self.control;
        let frontier = control.steering.tick(&tick);
        let crowd = control.steering.crowd(&control.presence, None);
        let outlook = control.forecast.observe(now, &frontier, crowd);
        let generation = outlook.generation;
        self.world.rates.push((now, frontier.rate));
        control.published.push((frontier, outlook));
        if std::mem::replace(&mut self.generation, generation) != generation {
            self.turn_generation(frontier.issued);
        }
    }

    fn deliver(&mut self, now: Duration) {
        for (frontier, outlook) in self.control.published.drain(..) {
            for gateway in &mut self.gateways {
                gateway.view.hear(&frontier, now);
                gateway.outlook = Some(outlook.clone());
            }
        }
    }

    fn turn_generation(&mut self, issued: u64) {
        let control = &mut self.control.presence;
        for gateway in self.gateways.iter_mut().filter(|gateway| gateway.alive) {
            for (block, bits) in gateway.presence.turn(0, issued) {
                control.merge(block, bits);
            }
        }
        let _ = control.turn(0, issued).count();
    }

    /// Its block is lost with it, and the answers that were under way; its people go to the others within five seconds.
    fn kill(&mut self, gateway: usize, now: Duration) {
        self.gateways[gateway].alive = false;
        for index in 0..self.world.people.len() {
            let person = &mut self.world.people[index];
            if person.gateway as usize != gateway {
                continue;
            }
            let lost = person.arrived < now && person.arrived + ANSWER_TAKES > now;
            if lost {
                person.again = true;
                person.ticket = None;
                let after = Duration::from_secs_f64(self.rng.random_range(0.2..1.0));
                put(&mut self.agenda, index as u32, now + after, now);
            }
        }
    }

    fn living(&mut self, index: u32) -> usize {
        let person = &mut self.world.people[index as usize];
        while !self.gateways[person.gateway as usize].alive {
            person.gateway = self.rng.random_range(0..self.gateways.len()) as u8;
        }
        person.gateway as usize
    }
}

fn put(agenda: &mut Vec<Vec<u32>>, index: u32, at: Duration, now: Duration) {
    let step = |at: Duration| (at.as_millis() / STEP.as_millis()) as usize;
    let step = if now.is_zero() { step(at) } else { step(at).max(step(now) + 1) };
    if agenda.len() <= step {
        agenda.resize_with(step + 1, Vec::new);
    }
    agenda[step].push(index);
}

fn note(told: &mut Vec<(u32, ToldRange)>, index: u32, now: Duration, estimate: &Estimate) {
    if (index as usize).is_multiple_of(WATCHED) {
        let (at, low, high) = (now.as_secs_f32(), estimate.low.as_secs_f32(), estimate.high.as_secs_f32());
        told.push((index, ToldRange { at, low, high }));
    }
}

/// A key that is only hashed.
fn key_of(index: u32) -> [u8; 32] {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&index.to_be_bytes());
    key
}
