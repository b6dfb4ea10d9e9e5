//! A model of one mailbox in a fleet, in virtual time, that runs the shipped decisions of [`Window`].
//!
//! Three replicas, two of which answer a write or a read; workers that die before, within and after a write, or stand
//! still for minutes; replica writes that land minutes late; hints, deletes and acks that are lost; clocks up to 5 s
//! wrong; a device that reconnects at random. It counts messages that were acknowledged to their sender and never
//! reached the device. Each rule that is taken away must make that count rise, or the model shows nothing.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
const START: u64 = 1_610_722_800 * SECOND;
/// How long messages are sent, and how long the device lives on after that.
const SENDING: u64 = 1_800 * SECOND;
const SETTLING: u64 = 900 * SECOND;
const MAILBOXES: u64 = 24;

#[derive(Clone, Copy, Debug)]
enum Cursor {
    Settled,
    /// What one is tempted to do.
    LastDelivered,
}

#[derive(Clone, Copy, Debug)]
struct Rules {
    window: Window,
    cursor: Cursor,
}

#[derive(Debug, Default)]
struct Tally {
    acked: usize,
    lost: usize,
}

/// A process with a clock of its own.
#[derive(Clone, Copy, Debug)]
struct Process {
    skew_us: i64,
}

impl Process {
    fn clock(self, true_time: u64) -> Timestamp {
        Timestamp::from_micros(true_time.checked_add_signed(self.skew_us).unwrap())
    }
}

/// A sender's message on its way to an acknowledgement.
#[derive(Clone, Copy, Debug)]
struct Send {
    guid: u32,
    id: MessageId,
    gateway: Process,
    began: u64,
    /// This gateway was frozen with its worker: it sees an answer that comes after its time-out.
    frozen: bool,
}

#[derive(Debug)]
enum Event {
    Compose,
    Attempt(Send),
    Insert { replica: usize, id: MessageId, guid: u32 },
    Delete { replica: usize, id: MessageId },
    Acked { guid: u32 },
    Hint { id: MessageId, guid: u32 },
    Connect,
    Disconnect,
    Sweep { session: u32 },
    Read { session: u32, read_start: Timestamp, from: MessageId },
}

#[derive(Debug, Default)]
struct Replica {
    rows: BTreeMap<MessageId, u32>,
    /// Wins over the row whichever comes first, as a later write time does in the store.
    deleted: BTreeSet<MessageId>,
}

struct Model {
    rules: Rules,
    rng: SmallRng,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    gateways: Vec<Process>,
    workers: Vec<Process>,
    replicas: [Replica; 3],
    cursor: MessageId,
    /// The device's session, while it has one.
    session: Option<u32>,
    /// What it knows of the watermark: where its last read left it.
    known: Option<MessageId>,
    sessions: u32,
    guids: u32,
    acked: BTreeSet<u32>,
    delivered: BTreeSet<u32>,
}

impl Model {
    fn new(rules: Rules, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut processes = |count| {
            let skew = |_| Process { skew_us: rng.random_range(-5_000_000..=5_000_000) };
            (0..count).map(skew).collect()
        };
        Self {
            rules,
            gateways: processes(3),
            workers: processes(4),
            rng,
            now: START,
            events: BTreeMap::new(),
            sequence: 0,
            replicas: Default::default(),
            // Reads begin where the mailbox was minted, by a clock that is as wrong as the others.
            cursor: MessageId::last_at(born_at(Timestamp::from_micros(START).saturating_add(SKEW_MAX))),
            session: None,
            known: None,
            sessions: 0,
            guids: 0,
            acked: BTreeSet::new(),
            delivered: BTreeSet::new(),
        }
    }

    fn run(mut self) -> Tally {
        self.after(0, Event::Compose);
        self.after(0, Event::Connect);
        while let Some(((time, _), event)) = self.events.pop_first() {
            self.now = time;
            self.handle(event);
        }
        // At last the device reads everything that is left for it, from all replicas.
        for (_, guid) in self.live(&[0, 1, 2], self.cursor) {
            self.delivered.insert(guid);
        }
        Tally { acked: self.acked.len(), lost: self.acked.difference(&self.delivered).count() }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Compose => self.compose(),
            Event::Attempt(send) => self.attempt(send),
            Event::Insert { replica, id, guid } => {
                self.replicas[replica].rows.insert(id, guid);
            }
            Event::Delete { replica, id } => {
                self.replicas[replica].deleted.insert(id);
            }
            Event::Acked { guid } => {
                self.acked.insert(guid);
            }
            Event::Hint { id, guid } => {
                if self.session.is_some() {
                    self.deliver(id, guid);
                }
            }
            Event::Connect => self.connect(),
            Event::Disconnect => {
                self.session = None;
                let pause = self.around(20 * SECOND);
                self.after(pause, Event::Connect);
            }
            Event::Sweep { session } => self.sweep(session),
            Event::Read { session, read_start, from } => self.read(session, read_start, from),
        }
    }

    fn compose(&mut self) {
        if self.now > START + SENDING {
            return;
        }
        self.guids += 1;
        let gateway = self.gateways[self.rng.random_range(0..self.gateways.len())];
        let id = self.mint(gateway);
        let frozen = self.rng.random_bool(0.1);
        self.attempt(Send { guid: self.guids, id, gateway, began: self.now, frozen });
        let pause = self.around(2 * SECOND);
        self.after(pause, Event::Compose);
    }

    /// One call from gateway to worker, with everything that will come of it.
    fn attempt(&mut self, mut send: Send) {
        if self.now - send.began > 30 * SECOND {
            return;
        }
        if send.gateway.clock(self.now).since(send.id.time()) >= self.rules.window.append {
            send.id = self.mint(send.gateway);
        }
        let worker = self.workers[self.rng.random_range(0..self.workers.len())];
        let arrival = self.now + self.rng.random_range(MS..50 * MS);
        if !self.rules.window.admits(send.id, worker.clock(arrival)) {
            return self.refused(send, arrival);
        }

        let begin = arrival + self.standstill();
        let dies = self.rng.random_bool(0.15).then(|| self.rng.random_range(0..3));
        let mut applied = Vec::new();
        for replica in 0..self.replicas.len() {
            let reached = match dies {
                Some(0) => false,
                Some(1) => self.rng.random_bool(0.5),
                _ => true,
            };
            if reached {
                let at = begin + self.replica_delay();
                applied.push(at);
                self.at(at, Event::Insert { replica, id: send.id, guid: send.guid });
            }
        }
        if dies.is_some() {
            return self.at(self.now + 2 * SECOND, Event::Attempt(send));
        }

        applied.sort_unstable();
        let answered = applied[1];
        if answered - self.now > 2 * SECOND && !send.frozen {
            // The gateway does not wait so long. What the worker finds out later concerns nobody.
            return self.at(self.now + 2 * SECOND, Event::Attempt(send));
        }
        if !self.rules.window.acknowledges(send.id, worker.clock(answered)) {
            return self.refused(send, answered);
        }
        self.at(answered, Event::Acked { guid: send.guid });
        if self.rng.random_bool(0.5) {
            self.at(answered + MS, Event::Hint { id: send.id, guid: send.guid });
        }
    }

    /// The worker answered that the id is out of its window: a new one, at once.
    fn refused(&mut self, mut send: Send, at: u64) {
        send.id = self.mint(send.gateway);
        self.at(at + 20 * MS, Event::Attempt(send));
    }

    fn connect(&mut self) {
        if self.now > START + SENDING + SETTLING {
            return;
        }
        self.sessions += 1;
        let session = self.sessions;
        self.session = Some(session);
        self.known = None;
        for seconds in [0, 2, 10, 60, 360, 660] {
            self.after(seconds * SECOND, Event::Sweep { session });
        }
        let life = self.around(90 * SECOND);
        self.after(life, Event::Disconnect);
    }

    fn sweep(&mut self, session: u32) {
        if self.session == Some(session) {
            let worker = self.workers[self.rng.random_range(0..self.workers.len())];
            let read_start = worker.clock(self.now);
            let pause = self.rng.random_range(0..200 * MS);
            let from = self.known.unwrap_or(self.cursor);
            self.after(pause, Event::Read { session, read_start, from });
        }
    }

    fn read(&mut self, session: u32, read_start: Timestamp, from: MessageId) {
        let left_out = self.rng.random_range(0..3);
        let asked: Vec<_> = (0..3).filter(|replica| *replica != left_out).collect();
        let live = self.live(&asked, from);
        let lowest = live.first().map(|(id, _)| *id);
        let highest = live.last().map(|(id, _)| *id);
        if self.session == Some(session) && self.rng.random_bool(0.95) {
            for (id, guid) in live {
                self.deliver(id, guid);
            }
        }
        // Stored at every rise, which is harder on the rules than storing it now and then.
        let risen = match self.rules.cursor {
            Cursor::Settled => MessageId::last_at(self.rules.window.settled_after_read(read_start, lowest)),
            Cursor::LastDelivered => highest.unwrap_or(from),
        };
        self.cursor = self.cursor.max(risen);
        if self.session == Some(session) {
            // Told only where it was stored, which is not every time: sessions often know an older one.
            let stored = self.rng.random_bool(0.3);
            self.known = Some(if stored { from.max(risen) } else { from });
        }
    }

    /// What a read of these replicas shows, oldest first.
    fn live(&self, asked: &[usize], from: MessageId) -> Vec<(MessageId, u32)> {
        let above = (std::ops::Bound::Excluded(from), std::ops::Bound::Unbounded);
        let rows = asked.iter().flat_map(|&replica| self.replicas[replica].rows.range(above));
        let rows: BTreeMap<_, _> = rows.map(|(id, guid)| (*id, *guid)).collect();
        let dead = |id: &MessageId| asked.iter().any(|&replica| self.replicas[replica].deleted.contains(id));
        rows.into_iter().filter(|(id, _)| !dead(id)).collect()
    }

    /// The device has the message; it acknowledges, and the message is deleted on most replicas.
    fn deliver(&mut self, id: MessageId, guid: u32) {
        self.delivered.insert(guid);
        if self.rng.random_bool(0.05) {
            return;
        }
        for replica in 0..self.replicas.len() {
            if !self.rng.random_bool(0.1) {
                let pause = self.rng.random_range(50 * MS..500 * MS);
                self.after(pause, Event::Delete { replica, id });
            }
        }
    }

    fn mint(&mut self, gateway: Process) -> MessageId {
        self.sequence += 1;
        let mut bytes = MessageId::last_at(gateway.clock(self.now)).to_bytes();
        bytes[8..].copy_from_slice(&self.sequence.to_be_bytes());
        MessageId::from_bytes(bytes)
    }

    /// How long a worker does nothing between admitting a message and writing it.
    fn standstill(&mut self) -> u64 {
        match self.rng.random_range(0..100) {
            0..5 => self.rng.random_range(SECOND..20 * SECOND),
            5..10 => self.rng.random_range(20 * SECOND..300 * SECOND),
            _ => 0,
        }
    }

    fn replica_delay(&mut self) -> u64 {
        if self.rng.random_bool(0.1) {
            self.rng.random_range(20 * SECOND..300 * SECOND)
        } else {
            self.rng.random_range(MS..30 * MS)
        }
    }

    /// A random duration with this mean, most often shorter.
    fn around(&mut self, mean: u64) -> u64 {
        let u: f64 = self.rng.random_range(f64::EPSILON..1.0);
        (-u.ln() * mean as f64) as u64
    }

    fn after(&mut self, pause: u64, event: Event) {
        self.at(self.now + pause, event);
    }

    fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((time, self.sequence), event);
    }
}

/// `SPILLWAY_TEST_SEED` chooses another world.
fn seed() -> u64 {
    std::env::var("SPILLWAY_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_210_115)
}

fn tally(name: &str, rules: Rules) -> Tally {
    let seed = seed();
    let mut total = Tally::default();
    for mailbox in 0..MAILBOXES {
        let tally = Model::new(rules, seed.wrapping_add(mailbox)).run();
        total.acked += tally.acked;
        total.lost += tally.lost;
    }
    println!("seed {seed}, {name}: {} acked, {} lost", total.acked, total.lost);
    assert!(total.acked > 10_000, "the model hardly sends");
    total
}

fn settled(window: Window) -> Rules {
    Rules { window, cursor: Cursor::Settled }
}

#[test]
fn nothing_acknowledged_is_lost() {
    assert_eq!(tally("as shipped", settled(WINDOW)).lost, 0);
    // The inequality says more than 30 s; the rest of the shipped 60 s is room for worse clocks.
    let tight = Window { trail: Duration::from_secs(31), ..WINDOW };
    assert_eq!(tally("trail of 31 s", settled(tight)).lost, 0);
}

#[test]
fn without_the_fence_messages_are_lost() {
    let unfenced = Window { fence: Duration::MAX, ..WINDOW };
    assert!(tally("no fence", settled(unfenced)).lost > 0);
}

#[test]
fn with_a_watermark_that_does_not_trail_messages_are_lost() {
    for trail in [5, 0] {
        let window = Window { trail: Duration::from_secs(trail), ..WINDOW };
        assert!(tally(&format!("trail of {trail} s"), settled(window)).lost > 0);
    }
}

#[test]
fn reading_on_from_the_last_delivered_message_loses_many() {
    let rules = Rules { window: WINDOW, cursor: Cursor::LastDelivered };
    let tally = tally("cursor at the last delivered", rules);
    assert!(tally.lost * 100 > tally.acked, "the model has hardly any disorder");
}
