use std::sync::mpsc;

use prometheus::Registry;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::class::DEADLINE_MAX;
use crate::config::{LimiterConfig, QueueConfig};
use crate::limiter::StaticLimit;
use crate::pushback::InCall;

/// A waiter that puts what it is told into a channel; with nobody at the other end it gives seats back.
struct Told(mpsc::Sender<Result<Seat<Told>, Refusal>>);

impl Waiter for Told {
    fn admitted(self, seat: Seat<Self>) -> Result<(), Seat<Self>> {
        self.0.send(Ok(seat)).map_err(|mpsc::SendError(told)| told.expect("a seat was sent"))
    }

    fn refused(self, refusal: Refusal) {
        // Nobody has to listen.
        drop(self.0.send(Err(refusal)));
    }
}

type Verdicts = mpsc::Receiver<Result<Seat<Told>, Refusal>>;

struct Bench {
    admission: Admission<Told>,
    registry: Registry,
    now: Duration,
}

const MS: Duration = Duration::from_millis(1);

impl Bench {
    fn new(config: AdmissionConfig, limit: u32) -> Self {
        let registry = Registry::new();
        let metrics = AdmissionMetrics::register(&registry, "test").unwrap();
        let limiter = LimiterConfig { initial: Some(limit), ..config.limiter };
        let config = AdmissionConfig { cores: Some(2), limiter, ..config };
        let admission = Admission::with_law(config, metrics, Box::new(StaticLimit(limit))).unwrap();
        let bench = Self { admission, registry, now: Duration::from_secs(1) };
        bench.admission.tick(bench.now, &Signals::default());
        bench
    }

    fn with_limit(limit: u32) -> Self {
        Self::new(AdmissionConfig::default(), limit)
    }

    fn call(&self, tier: Tier) -> Call {
        let deadline = tier.deadline(self.now, None);
        Call {
            level: Level::new(tier, 0),
            kind: Kind::default(),
            seats: 1,
            user: User(1),
            flow: None,
            deadline,
        }
    }

    fn arrive(&self, call: &Call) -> (Arrival<Told>, Verdicts) {
        let (sender, verdicts) = mpsc::channel();
        (self.admission.arrive(self.now, call, || Told(sender)), verdicts)
    }

    fn run(&self, tier: Tier) -> Seat<Told> {
        match self.arrive(&self.call(tier)).0 {
            Arrival::Run(seat) => seat,
            other => panic!("{other:?}"),
        }
    }

    fn wait(&self, call: &Call) -> (Ticket<Told>, Verdicts) {
        match self.arrive(call) {
            (Arrival::Queued(ticket), verdicts) => (ticket, verdicts),
            (other, _) => panic!("{other:?}"),
        }
    }

    fn refusal(&self, call: &Call) -> Refusal {
        match self.arrive(call).0 {
            Arrival::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    fn tick(&mut self) -> View {
        self.now += TICK;
        self.admission.tick(self.now, &Signals::default());
        self.admission.view()
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.registry.gather();
        let family =
            families.iter().find(|family| family.name() == format!("spillway_admission_{name}")).unwrap();
        let has = |metric: &&prometheus::proto::Metric| {
            let pairs = metric.get_label();
            labels
                .iter()
                .all(|(name, value)| pairs.iter().any(|pair| (pair.name(), pair.value()) == (*name, *value)))
        };
        let metric = family.get_metric().iter().find(has).unwrap();
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }
}

#[test]
fn a_seat_goes_to_who_waits_and_a_left_place_to_nobody() {
    let mut bench = Bench::with_limit(1);
    let seat = bench.run(Tier::Send);
    let (left, _) = bench.wait(&bench.call(Tier::Ack));
    let (lookup, lookup_told) = bench.wait(&bench.call(Tier::Lookup));
    let (ack, ack_told) = bench.wait(&bench.call(Tier::Ack));
    drop(left);
    bench.now += 3 * MS;
    seat.finish(bench.now, Outcome::Served);
    let seat = ack_told.try_recv().unwrap().unwrap();
    assert_eq!(seat.waited(), 3 * MS);
    assert!(lookup_told.try_recv().is_err());
    drop(seat);
    drop(lookup_told.try_recv().unwrap().unwrap());
    assert!(ack.give_up().is_none() && lookup.give_up().is_none(), "who was told cannot give up");
    let view = bench.tick();
    assert_eq!((view.inflight, view.queued), (0, 0));
}

#[test]
fn waiters_who_are_gone_pass_the_seat_on() {
    let mut bench = Bench::with_limit(1);
    let seat = bench.run(Tier::Send);
    let tickets: Vec<_> = (0..200).map(|_| bench.wait(&bench.call(Tier::Send)).0).collect();
    let (ticket, told) = bench.wait(&bench.call(Tier::Lookup));
    drop(seat);
    drop(told.try_recv().unwrap().unwrap());
    drop((tickets, ticket));
    let view = bench.tick();
    assert_eq!((view.inflight, view.queued), (0, 0));
}

#[test]
fn exempt_calls_have_seats_of_their_own_and_then_count_as_the_first_acks() {
    let mut bench = Bench::new(AdmissionConfig { exempt_max: 2, ..AdmissionConfig::default() }, 1);
    let busy = bench.run(Tier::Send);
    let health = [bench.run(Tier::Exempt), bench.run(Tier::Exempt)];
    let (third, told) = bench.wait(&bench.call(Tier::Exempt));
    assert_eq!(bench.tick().inflight, 1, "exempt seats are apart");
    drop(busy);
    drop((told.try_recv().unwrap().unwrap(), third));
    drop(health);
    drop(bench.run(Tier::Exempt));
    assert_eq!(bench.tick().inflight, 0);
}

#[test]
fn a_call_that_cannot_be_answered_in_time_is_not_begun() {
    let mut bench = Bench::with_limit(10);
    for _ in 0..100 {
        let seat = bench.run(Tier::Send);
        bench.now += 20 * MS;
        seat.finish(bench.now, Outcome::Served);
    }
    bench.tick();
    let until = |left| Call { deadline: bench.now + left, ..bench.call(Tier::Send) };
    for left in [Duration::ZERO, MS, 15 * MS] {
        let refusal = bench.refusal(&until(left));
        assert_eq!(refusal.reason, Reason::Deadline);
        assert_eq!(refusal.pushback(left, &mut SmallRng::seed_from_u64(1)), None);
    }
    for left in [25 * MS, DEADLINE_MAX, Duration::from_secs(365 * 86_400), Duration::MAX - bench.now] {
        assert!(matches!(bench.arrive(&until(left)).0, Arrival::Run(_)), "{left:?}");
    }
}

#[test]
fn who_waited_too_long_is_told_at_the_tick_or_tells_itself() {
    let mut bench = Bench::with_limit(1);
    let _busy = bench.run(Tier::Send);
    let short = Call { deadline: bench.now + 120 * MS, ..bench.call(Tier::Send) };
    let (ticket, told) = bench.wait(&short);
    let (other, _other_told) = bench.wait(&short);
    assert_eq!(ticket.expires(), bench.now + 40 * MS, "a third of what is left");
    assert_eq!(other.give_up().unwrap().reason, Reason::QueueAge);
    bench.tick();
    assert_eq!(told.try_recv().unwrap().unwrap_err().reason, Reason::QueueAge);
    assert!(ticket.give_up().is_none());
    assert_eq!(bench.tick().queued, 0);
    assert_eq!(bench.metric("refused_total", &[("tier", "send"), ("reason", "queue_age")]), 2.0);
}

#[test]
fn a_full_queue_refuses_the_last_and_pushes_out_the_least() {
    let config = QueueConfig { calls_max: 2, ..QueueConfig::default() };
    let bench = Bench::new(AdmissionConfig { queue: config, ..AdmissionConfig::default() }, 1);
    let _busy = bench.run(Tier::Send);
    let (_one, _) = bench.wait(&bench.call(Tier::Send));
    let (_two, told) = bench.wait(&bench.call(Tier::Lookup));
    assert_eq!(bench.refusal(&bench.call(Tier::Lookup)).reason, Reason::QueueFull);
    let (_three, _) = bench.wait(&bench.call(Tier::Ack));
    let refusal = told.try_recv().unwrap().unwrap_err();
    assert_eq!((refusal.reason, refusal.level.tier()), (Reason::PushedOut, Tier::Lookup));
}

#[test]
fn shadow_refuses_nothing_and_counts_what_it_would() {
    let mut bench = Bench::new(AdmissionConfig { mode: Mode::Shadow, ..AdmissionConfig::default() }, 1);
    let mut seats: Vec<_> = (0..300).map(|_| bench.run(Tier::Send)).collect();
    let late = Call { deadline: bench.now, ..bench.call(Tier::Ack) };
    seats.extend(match bench.arrive(&late).0 {
        Arrival::Run(seat) => Some(seat),
        _ => None,
    });
    assert_eq!(bench.tick().inflight, 301);
    let labels = |reason| [("tier", "send"), ("reason", reason)];
    assert_eq!(bench.metric("shadow_refused_total", &labels("queue_full")), 43.0, "1 seat and 256 places");
    assert_eq!(bench.metric("refused_total", &labels("queue_full")), 0.0);
    drop(seats);
    assert_eq!(bench.tick().inflight, 0);
    bench.admission.reload(AdmissionConfig { mode: Mode::Off, ..AdmissionConfig::default() }).unwrap();
    let seats: Vec<_> = (0..300).map(|_| bench.run(Tier::Background)).collect();
    assert_eq!(bench.tick().inflight, seats.len() as u32);
    let wrong = AdmissionConfig { seats_max: 0, ..AdmissionConfig::default() };
    assert!(bench.admission.reload(wrong).is_err());
}

#[test]
fn the_operators_rung_refuses_and_is_told() {
    let mut bench = Bench::with_limit(10);
    bench.admission.steer(Steering::Set(4));
    let view = bench.tick();
    assert_eq!((view.rung, bench.admission.rung(), view.steering), (4, 4, Steering::Set(4)));
    for tier in [Tier::Lookup, Tier::FinishSignUp, Tier::StartSignUp, Tier::Background] {
        assert_eq!(bench.refusal(&bench.call(tier)).reason, Reason::Brownout);
    }
    for tier in [Tier::Exempt, Tier::Ack, Tier::Resume, Tier::Send] {
        drop(bench.run(tier));
    }
    let advice = bench.admission.hold_back(Level::new(Tier::Ack, 9), User(3)).unwrap();
    assert_eq!((advice.open, advice.ttl), (Tier::Send, Duration::from_millis(500)));
    let refused = |tier| bench.admission.hold_back_refused(Level::new(tier, 9), User(3));
    assert_eq!(refused(Tier::StartSignUp), advice, "who is refused is told the same");
    bench.admission.steer(Steering::Set(0));
    bench.tick();
    drop(bench.run(Tier::Background));
    assert_eq!(bench.admission.hold_back(Level::new(Tier::Ack, 9), User(3)), None);
    // By a full queue, when the gate is open.
    let refused = bench.admission.hold_back_refused(Level::new(Tier::Resume, 9), User(3));
    assert_eq!((refused.open, refused.ttl), (Tier::Ack, Duration::from_millis(500)));
    let pauses = |seconds| bench.admission.pauses(Duration::from_secs(seconds));
    let same = Duration::from_secs(9);
    assert_eq!(pauses(9), Pauses { others: refused.ttl, same }, "another call may come sooner than the same");
    assert_eq!(pauses(0), Pauses { others: Duration::ZERO, same: Duration::ZERO });
}

#[test]
fn pressure_sheds_the_least_important_first_and_stops_when_it_is_gone() {
    let mut bench = Bench::with_limit(10_000);
    let offer = |bench: &Bench, tier| {
        let calls = (0..1_000u64).map(|user| {
            let level = Level::new(tier, (user % 128) as u8);
            Call { level, user: User(user.wrapping_mul(0x9E37_79B9_7F4A_7C15)), ..bench.call(tier) }
        });
        calls.filter(|call| matches!(bench.arrive(call).0, Arrival::Run(_))).count()
    };
    for _ in 0..3 {
        let admitted = [Tier::Ack, Tier::Lookup].map(|tier| offer(&bench, tier));
        if bench.admission.view().overloaded {
            assert_eq!(admitted[0], 1_000);
            // Two thirds of all are a third of the look-ups.
            assert!((300..370).contains(&admitted[1]), "{admitted:?}");
            let refused =
                bench.refusal(&Call { level: Level::new(Tier::Lookup, 127), ..bench.call(Tier::Lookup) });
            let told = refused.pushback(5 * TICK, &mut SmallRng::seed_from_u64(1)).unwrap();
            assert_eq!((refused.reason, told.in_call), (Reason::Overload, InCall::DoNotRetry));
        }
        bench.now += TICK;
        bench.admission.tick(bench.now, &Signals { memory: 1.2, ..Signals::default() });
    }
    assert!((bench.admission.view().pressure - 1.5).abs() < 1e-9);
    for _ in 0..40 {
        bench.tick();
    }
    assert!(!bench.admission.view().overloaded);
    assert_eq!(offer(&bench, Tier::Lookup), 1_000);
}

#[test]
fn who_is_not_heard_is_offered_load_and_is_welcome_some_time_after_the_gate_has_opened() {
    let mut bench = Bench::with_limit(10);
    let mut unheard = bench.admission.unheard(Level::new(Tier::Send, 100), User(7));
    unheard.offers(500.0);
    for _ in 0..20 {
        bench.tick();
    }
    let offered = bench.admission.view().offered;
    assert!((490.0..=510.0).contains(&offered), "{offered}");
    assert!(unheard.is_welcome());

    bench.admission.steer(Steering::Set(5));
    bench.tick();
    assert!(!unheard.is_welcome());
    bench.admission.steer(Steering::Auto);
    bench.tick();
    drop(bench.run(Tier::Send));
    assert!(!unheard.is_welcome(), "the gate has just opened");
    for _ in 0..40 {
        bench.tick();
    }
    assert!(unheard.is_welcome());

    drop(unheard);
    for _ in 0..200 {
        bench.tick();
    }
    let offered = bench.admission.view().offered;
    assert!(offered < 5.0, "{offered}");
}

#[test]
fn a_clock_that_jumps_back_or_stands_still_breaks_nothing() {
    let mut bench = Bench::with_limit(2);
    let seat = bench.run(Tier::Send);
    bench.tick();
    bench.now = MS;
    bench.admission.tick(bench.now, &Signals::default());
    bench.admission.tick(bench.now, &Signals::default());
    seat.finish(bench.now, Outcome::Served);
    let seat = bench.run(Tier::Send);
    bench.now += Duration::from_secs(86_400);
    seat.finish(bench.now, Outcome::Served);
    assert_eq!(bench.tick().inflight, 0);
}

#[test]
fn it_can_be_shared_between_threads() {
    const fn shared<T: Send + Sync + Clone>() {}
    const fn moved<T: Send>() {}
    shared::<Admission<Told>>();
    moved::<(Seat<Told>, Ticket<Told>)>();
}

#[test]
fn threads_leave_no_seat_and_no_place_behind() {
    let mut bench = Bench::with_limit(3);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let bench = &bench;
            scope.spawn(move || {
                let mut rng = SmallRng::seed_from_u64(thread);
                for step in 0..5_000u32 {
                    let tier = Tier::from_index(rng.random_range(1..8)).unwrap();
                    let call = Call { seats: rng.random_range(1..4), ..bench.call(tier) };
                    match bench.arrive(&call) {
                        (Arrival::Run(seat), _) if step % 3 == 0 => drop(seat),
                        (Arrival::Run(seat), _) => seat.finish(bench.now, Outcome::Served),
                        (Arrival::Queued(ticket), told) if step % 2 == 0 => drop((ticket, told)),
                        (Arrival::Queued(ticket), told) => {
                            std::thread::yield_now();
                            drop((told, ticket));
                        }
                        (Arrival::Refused(_), _) => {}
                    }
                }
            });
        }
    });
    let view = bench.tick();
    assert_eq!((view.inflight, view.queued), (0, 0));
}

#[test]
fn newcomers_who_have_all_seats_do_not_make_sends_wait() {
    let bench = Bench::with_limit(16);
    let sign_ups: Vec<_> = (0..16).map(|_| bench.run(Tier::StartSignUp)).collect();
    let (_waits, _) = bench.wait(&bench.call(Tier::FinishSignUp));
    // Two of sixteen are not counted; then a send waits like everybody.
    let mut sends: Vec<_> = (0..2).map(|_| bench.run(Tier::Send)).collect();
    let (third, verdict) = bench.wait(&bench.call(Tier::Send));
    sends.pop().unwrap().finish(bench.now, Outcome::Served);
    assert!(verdict.try_recv().is_err(), "no seat within the limit is free");
    drop(third);
    sends.push(bench.run(Tier::Ack));
    drop((sends, sign_ups));
    // Among themselves those who are there already have the limit and no more.
    let bench = Bench::with_limit(16);
    let _sends: Vec<_> = (0..16).map(|_| bench.run(Tier::Send)).collect();
    bench.wait(&bench.call(Tier::Send));
}

#[test]
fn within_the_limit_the_queue_decides_whoever_has_the_seats() {
    let bench = Bench::with_limit(16);
    let _sign_ups: Vec<_> = (0..12).map(|_| bench.run(Tier::StartSignUp)).collect();
    let (_wide, _) = bench.wait(&Call { seats: 8, ..bench.call(Tier::Lookup) });
    // It is not let past the queue, which knows what is owed to whom, and which serves it at once as nothing is.
    let (_send, verdict) = bench.wait(&bench.call(Tier::Send));
    assert!(verdict.try_recv().is_ok());
}

#[derive(Clone, Debug)]
enum Step {
    Arrive {
        tier: usize,
        cohort: u8,
        seats: u32,
        left_ms: u64,
    },
    Finish(prop::sample::Index),
    Cancel(prop::sample::Index),
    Leave(prop::sample::Index),
    GiveUp(prop::sample::Index),
    /// The receiver goes and the ticket is left for later, as when a future is torn down.
    Deafen(prop::sample::Index),
    Tick {
        ms: u64,
        pressure: f64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        8 => (0usize..8, 0u8..128, 0u32..80, 0u64..3_000)
            .prop_map(|(tier, cohort, seats, left_ms)| Step::Arrive { tier, cohort, seats, left_ms }),
        3 => index().prop_map(Step::Finish),
        2 => index().prop_map(Step::Cancel),
        2 => index().prop_map(Step::Leave),
        1 => index().prop_map(Step::GiveUp),
        1 => index().prop_map(Step::Deafen),
        1 => (0u64..400, prop_oneof![Just(0.0), 0.0..4.0]).prop_map(|(ms, pressure)| Step::Tick { ms, pressure }),
    ]
}

proptest! {
    /// Whatever is cancelled whenever: the seats in use are those that somebody holds, never more than the limit and the few
    /// beside newcomers, nobody
    /// is told twice or forgotten, and in the end nothing is left.
    #[test]
    fn no_seat_and_no_place_leaks(steps in prop::collection::vec(step(), 1..300), limit in 1u32..40) {
        let mut bench = Bench::with_limit(limit);
        let mut seats: Vec<(Seat<Told>, u32)> = Vec::new();
        let mut waiting: Vec<(Ticket<Told>, Option<Verdicts>, u32)> = Vec::new();
        for step in steps {
            match step {
                Step::Arrive { tier, cohort, seats: width, left_ms } => {
                    let level = Level::new(Tier::from_index(tier).unwrap(), cohort);
                    let deadline = bench.now + Duration::from_millis(left_ms);
                    let call = Call { level, seats: width, deadline, user: User(width.into()), ..bench.call(level.tier()) };
                    let counted = if tier == 0 { 0 } else { width.clamp(1, 64) };
                    match bench.arrive(&call) {
                        (Arrival::Run(seat), _) => seats.push((seat, counted)),
                        (Arrival::Queued(ticket), told) => waiting.push((ticket, Some(told), width.clamp(1, 64))),
                        (Arrival::Refused(_), _) => {}
                    }
                }
                Step::Finish(index) if !seats.is_empty() => {
                    let (seat, _) = seats.swap_remove(index.index(seats.len()));
                    seat.finish(bench.now, Outcome::Served);
                }
                Step::Cancel(index) if !seats.is_empty() => drop(seats.swap_remove(index.index(seats.len()))),
                Step::Leave(index) if !waiting.is_empty() => drop(waiting.swap_remove(index.index(waiting.len()))),
                Step::GiveUp(index) if !waiting.is_empty() => {
                    let (ticket, told, _) = waiting.swap_remove(index.index(waiting.len()));
                    let gave_up = ticket.give_up().is_some();
                    let was_told = told.is_some_and(|told| told.try_recv().is_ok());
                    prop_assert!(!(gave_up && was_told), "told although it gave up");
                }
                Step::Deafen(index) if !waiting.is_empty() => {
                    let at = index.index(waiting.len());
                    waiting[at].1 = None;
                }
                Step::Tick { ms, pressure } => {
                    bench.now += Duration::from_millis(ms);
                    bench.admission.tick(bench.now, &Signals { downstream: pressure, ..Signals::default() });
                }
                _ => {}
            }
            // Everybody hears at once, so that what is held is known.
            let mut index = 0;
            while index < waiting.len() {
                match waiting[index].1.as_ref().map(mpsc::Receiver::try_recv) {
                    Some(Ok(verdict)) => {
                        let (_, _, width) = waiting.swap_remove(index);
                        seats.extend(verdict.ok().map(|seat| (seat, width)));
                    }
                    _ => index += 1,
                }
            }
            let held: u32 = seats.iter().map(|(_, width)| width).sum();
            let widest = seats.iter().map(|(_, width)| *width).max().unwrap_or(0);
            let beside = (limit / 8).max(1);
            prop_assert!(held <= (limit + beside).max(widest), "{held} of {limit}");
        }
        drop((seats, waiting));
        let view = bench.tick();
        prop_assert_eq!((view.inflight, view.queued), (0, 0));
    }
}
