//! The product's own overload control: an adapter around [`spillway_admission::Admission`], and no law of its own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use prometheus::Registry;
use spillway_admission::{
    Admission, AdmissionConfig, AdmissionMetrics, Arrival as Decided, Call, Deaf, InCall, Kind, Level,
    Outcome, Pacer, Seat, Signals as ToldSignals, TICK, Ticket, Tier, User, Waiter, handshakes_per_second,
    held_for,
};

use super::{
    Advice, Arrival, Decision, Departure, Effects, Ending, HoldBack, Policy, Pushback, Refusal, Signals, Site,
};
use crate::random::Stream;
use crate::time::Nanos;

/// A pressure that was told longer ago than this is forgotten.
const PRESSURE_KEPT: Nanos = Nanos::SECOND;

/// The least limit of a server whose calls wait for others, for each processor: its first limit. What it waits for is not
/// its own, and a limit that follows the time of those behind it becomes a second bottleneck in front of theirs.
const SEATS_TO_PASS_ON: u32 = 32;

/// Of a gateway's processors, for handshakes (`overload.md` b.9).
const HANDSHAKE_SHARE: f64 = 0.3;

/// Callers who are remembered as told to wait: 128 KiB.
const DEAF_PLACES: usize = 16_384;

pub(super) struct Ours {
    admission: Admission<Waiting>,
    inbox: Rc<RefCell<Inbox>>,
    /// What calls hold that run.
    seats: HashMap<u32, Seat<Waiting>>,
    /// What calls hold that wait, and their deadlines.
    tickets: HashMap<u32, (Ticket<Waiting>, Nanos)>,
    /// Pressure of the servers behind this one, and when it was told.
    downstream: HashMap<usize, (f64, Nanos)>,
    advice: Advice,
    handshakes: Option<Pacer>,
    deaf: Deaf,
    chance: Stream,
}

/// What `Admission` has told about calls that waited.
#[derive(Default)]
struct Inbox {
    admitted: Vec<(u32, Seat<Waiting>)>,
    refused: Vec<(u32, spillway_admission::Refusal)>,
}

struct Waiting {
    call: u32,
    inbox: Rc<RefCell<Inbox>>,
}

impl Waiter for Waiting {
    fn admitted(self, seat: Seat<Self>) -> Result<(), Seat<Self>> {
        self.inbox.borrow_mut().admitted.push((self.call, seat));
        Ok(())
    }

    fn refused(self, refusal: spillway_admission::Refusal) {
        self.inbox.borrow_mut().refused.push((self.call, refusal));
    }
}

impl Ours {
    pub(super) fn new(site: &Site) -> Self {
        let mut config = AdmissionConfig { cores: Some(site.cores), ..AdmissionConfig::default() };
        if site.passes_on {
            config.limiter.least = Some(SEATS_TO_PASS_ON * site.cores);
        }
        let metrics = AdmissionMetrics::register(&Registry::new(), "simulated").expect("the registry is new");
        Self {
            admission: Admission::new(config, metrics).expect("the defaults work"),
            inbox: Rc::default(),
            seats: HashMap::new(),
            tickets: HashMap::new(),
            downstream: HashMap::new(),
            advice: Advice { open_level: u16::MAX, pressure: 0.0 },
            handshakes: site.handshake.map(|handshake| {
                let rate = handshakes_per_second(site.cores, handshake.duration(), HANDSHAKE_SHARE);
                Pacer::new(rate, (rate / 10.0) as u32)
            }),
            deaf: Deaf::new(DEAF_PLACES),
            chance: Stream::new(site.seed, 0x0075),
        }
    }

    /// The mean over the servers behind this one. A call goes to any of them, so one that is busier than the others is not
    /// relieved by refusing here what would have gone to all; it refuses by itself.
    fn downstream_pressure(&self) -> f64 {
        let sum: f64 = self.downstream.values().map(|(pressure, _)| *pressure).sum();
        sum / self.downstream.len().max(1) as f64
    }

    /// Passes on what was told since the last time.
    fn empty_inbox(&mut self, now: Nanos, effects: &mut Effects) {
        let Inbox { admitted, refused } = std::mem::take(&mut *self.inbox.borrow_mut());
        for (call, seat) in admitted {
            self.tickets.remove(&call);
            self.seats.insert(call, seat);
            effects.run.push(call);
        }
        for (call, refusal) in refused {
            let deadline = self.tickets.remove(&call).map_or(now, |(_, deadline)| deadline);
            let refusal = self.refusal(&refusal, deadline.since(now));
            effects.refuse.push((call, refusal));
        }
    }

    fn refusal(&mut self, refusal: &spillway_admission::Refusal, left: Nanos) -> Refusal {
        let Some(told) = refusal.pushback(left.duration(), self.chance.rng()) else {
            return Refusal { pushback: Pushback::Never, ..Refusal::default() };
        };
        Refusal {
            pushback: match told.in_call {
                InCall::RetryAfter(pause) => Pushback::After(pause.into()),
                InCall::DoNotRetry => Pushback::Never,
            },
            come_back: Some(told.retry_info.into()),
            ..Refusal::default()
        }
    }
}

impl Policy for Ours {
    fn arrive(&mut self, arrival: &Arrival, now: Nanos, effects: &mut Effects) -> Decision {
        let level = Level::try_from(arrival.level).unwrap_or(Level::new(Tier::Background, 0));
        let told = arrival.deadline.since(arrival.reached).duration();
        let deadline = level.tier().deadline(arrival.reached.duration(), Some(told));
        let call = Call {
            level,
            kind: Kind::new(arrival.tier),
            seats: 1,
            user: User(arrival.user),
            flow: None,
            deadline,
        };
        let inbox = &self.inbox;
        let waiter = || Waiting { call: arrival.call, inbox: Rc::clone(inbox) };
        let decision = match self.admission.arrive(now.duration(), &call, waiter) {
            Decided::Run(seat) => {
                self.seats.insert(arrival.call, seat);
                Decision::Run
            }
            Decided::Queued(ticket) => {
                self.tickets.insert(arrival.call, (ticket, Nanos::from(deadline)));
                Decision::Wait
            }
            Decided::Refused(refusal) => {
                let left = Nanos::from(deadline).since(now);
                let mut told = self.refusal(&refusal, left);
                if let Some(come_back) = told.come_back.filter(|_| !arrival.inner) {
                    let (user, tier, left) = (User(arrival.user), level.tier(), left.duration());
                    let pauses = self.admission.pauses(come_back.duration());
                    let early = self.deaf.refused(user, tier, now.duration(), pauses);
                    if let Some(hold) = early.map(|early| held_for(early, left)) {
                        // What fits then, not now.
                        told = self.refusal(&refusal, Nanos::from(left.saturating_sub(hold)));
                        told.hold = hold.into();
                    }
                }
                Decision::Refuse(told)
            }
        };
        // Whoever was pushed out, and whoever has been given a seat at once.
        self.empty_inbox(now, effects);
        decision
    }

    fn depart(&mut self, departure: &Departure, now: Nanos, effects: &mut Effects) {
        if let Some(seat) = self.seats.remove(&departure.call) {
            let outcome = match departure.ending {
                Ending::Served | Ending::Late => Outcome::Served,
                Ending::Refused | Ending::Failed => Outcome::Failed,
            };
            seat.finish(now.duration(), outcome);
        }
        self.empty_inbox(now, effects);
    }

    fn tick(&mut self, signals: &Signals, now: Nanos, effects: &mut Effects) {
        self.downstream.retain(|_, (_, told)| now.since(*told) <= PRESSURE_KEPT);
        let signals = ToldSignals {
            run_queue_delay: signals.run_queue.duration(),
            downstream: self.downstream_pressure(),
            ..ToldSignals::default()
        };
        self.admission.tick(now.duration(), &signals);
        self.advice.pressure = self.admission.view().pressure;
        self.empty_inbox(now, effects);
    }

    fn tick_interval(&self) -> Option<Nanos> {
        Some(TICK.into())
    }

    fn hold_back(&mut self, level: u16, user: u64, refused: bool) -> Option<HoldBack> {
        let (level, user) = (Level::try_from(level).ok()?, User(user));
        let told = if refused {
            self.admission.hold_back_refused(level, user)
        } else {
            self.admission.hold_back(level, user)?
        };
        Some(HoldBack { worst_open: told.open as u8, ttl: told.ttl.into() })
    }

    fn accept(&mut self, now: Nanos) -> Option<Nanos> {
        self.handshakes.as_mut()?.take(now.duration()).err().map(Nanos::from)
    }

    fn advice(&self) -> Option<Advice> {
        Some(self.advice)
    }

    fn hear(&mut self, server: usize, advice: Advice, now: Nanos) {
        self.downstream.insert(server, (advice.pressure, now));
    }
}

impl fmt::Debug for Ours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ours").field("view", &self.admission.view()).finish_non_exhaustive()
    }
}
