use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use rand::SeedableRng;

use super::super::guard::PlaceKey;
use super::*;
use crate::routing::budget::Change;
use crate::routing::capacity::Capacity;
use crate::routing::receipts::Delivery;

const SMS: Transport = Transport::Sms;
const GRACE: Duration = Duration::from_secs(60);
/// The time-out of a call, and calls at a time, as by default.
const TIMEOUT: Duration = Duration::from_secs(10);
const CALLS: usize = 256;
const STEP: Duration = Duration::from_millis(20);

/// How a provider behaves.
#[derive(Clone, Copy, Debug)]
struct Behaviour {
    kind: Kind,
    conversion: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Well,
    Errors,
    Hangs,
}

#[derive(Clone, Debug)]
struct Code {
    id: u32,
    failed: Vec<ProviderTag>,
}

/// A router among providers, workers and people, in virtual time.
struct World {
    router: Router,
    rng: SmallRng,
    start: Instant,
    now: Now,
    behaviours: Vec<Behaviour>,
    waiting: VecDeque<Code>,
    /// Calls that are under way, by when they end.
    ends: BinaryHeap<Reverse<(Instant, u32)>>,
    calls: HashMap<u32, (Ticket, Code, End)>,
    /// Codes that are typed, by when.
    typed: BinaryHeap<Reverse<(Instant, u32)>>,
    codes: u32,
    demand: f64,
    owed: f64,
    /// Codes taken, by second and provider.
    taken: Vec<Vec<usize>>,
    paused_until: Instant,
}

fn id(n: u32) -> VerificationId {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&n.to_be_bytes());
    VerificationId(id)
}

fn terms(name: &str, rate: f64) -> Terms {
    Terms { rate_per_second: Some(rate), ..Terms::free(name) }
}

fn config(terms: Vec<Terms>) -> RouterConfig {
    RouterConfig { terms, worth: 1_000_000, budget: BudgetLimits::default(), guard: None, grace_min: GRACE }
}

const fn ask(failed: &[ProviderTag]) -> Ask<'_> {
    Ask {
        country: 49,
        transport: SMS,
        failed,
        places: Places { prefix: PlaceKey(1), network: None, country: PlaceKey(2) },
    }
}

fn well(conversion: f64) -> Behaviour {
    Behaviour { kind: Kind::Well, conversion }
}

impl World {
    fn new(seed: u64, demand: f64, providers: &[(f64, f64)]) -> Self {
        let start = Instant::now();
        let now = Now { at: start, wall: Timestamp::ZERO };
        let lines = providers.iter().enumerate().map(|(n, (rate, _))| terms(&format!("p{n}"), *rate));
        Self {
            router: Router::new(config(lines.collect()), SmallRng::seed_from_u64(seed), now),
            rng: SmallRng::seed_from_u64(seed + 1),
            start,
            now,
            behaviours: providers.iter().map(|(_, conversion)| well(*conversion)).collect(),
            waiting: VecDeque::new(),
            ends: BinaryHeap::new(),
            calls: HashMap::new(),
            typed: BinaryHeap::new(),
            codes: 0,
            demand,
            owed: 0.0,
            taken: Vec::new(),
            paused_until: start,
        }
    }

    fn run(&mut self, seconds: usize) {
        for _ in 0..seconds {
            self.taken.push(vec![0; self.behaviours.len()]);
            for _ in 0..50 {
                self.step();
            }
            for due in self.router.due(10_000, self.now.at) {
                self.router.seen(due, false, self.now.at);
            }
        }
    }

    fn step(&mut self) {
        self.now.at += STEP;
        self.now.wall = Timestamp::ZERO.saturating_add(self.now.at - self.start);
        self.owed += self.demand * STEP.as_secs_f64();
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            self.codes += 1;
            if self.waiting.len() < 2_000 {
                self.waiting.push_back(Code { id: self.codes, failed: Vec::new() });
            }
        }
        while let Some(Reverse((at, code))) = self.typed.peek().copied()
            && at <= self.now.at
        {
            self.typed.pop();
            self.router.proved(id(code), self.now.at);
        }
        while let Some(Reverse((at, call))) = self.ends.peek().copied()
            && at <= self.now.at
        {
            self.ends.pop();
            self.end(call);
        }
        let mut turns = self.waiting.len().min(CALLS);
        while turns > 0 && self.calls.len() < CALLS && self.paused_until <= self.now.at {
            turns -= 1;
            let Some(code) = self.waiting.pop_front() else { break };
            self.begin(code);
        }
    }

    fn begin(&mut self, code: Code) {
        match self.router.route(&ask(&code.failed), self.now) {
            Verdict::Send(ticket) => {
                let behaviour = self.behaviours[ticket.provider];
                let (end, takes) = match behaviour.kind {
                    Kind::Well => {
                        let millis = self.rng.random_range(100..400);
                        let session = id(code.id);
                        let delay = Duration::from_secs(5);
                        (
                            End::Accepted { session, delay: Some(delay), estimate: delay },
                            Duration::from_millis(millis),
                        )
                    }
                    Kind::Errors => (End::Failed, Duration::from_millis(50)),
                    Kind::Hangs => (End::TimedOut, TIMEOUT),
                };
                self.ends.push(Reverse((self.now.at + takes, code.id)));
                self.calls.insert(code.id, (ticket, code, end));
            }
            Verdict::Wait { pause, everybody, .. } => {
                if everybody {
                    self.paused_until = self.now.at + pause;
                }
                self.waiting.push_back(code);
            }
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, call: u32) {
        let (ticket, mut code, end) = self.calls.remove(&call).unwrap();
        let (provider, tag) = (ticket.provider, ticket.tag);
        self.router.end(ticket, end, self.now);
        if matches!(end, End::Accepted { .. }) {
            self.taken.last_mut().unwrap()[provider] += 1;
            if self.rng.random_bool(self.behaviours[provider].conversion) {
                let after = Duration::from_millis(self.rng.random_range(8_000..40_000));
                self.typed.push(Reverse((self.now.at + after, code.id)));
            }
            return;
        }
        code.failed.retain(|known| *known != tag);
        code.failed.push(tag);
        self.waiting.push_front(code);
    }

    /// Codes taken in a second, by all or by one.
    fn all(&self, second: usize) -> usize {
        self.taken[second].iter().sum()
    }

    fn share(&self, provider: usize, seconds: std::ops::Range<usize>) -> f64 {
        let all: usize = seconds.clone().map(|second| self.all(second)).sum();
        let its: usize = seconds.map(|second| self.taken[second][provider]).sum();
        its as f64 / all as f64
    }
}

/// The best of three dies, in whatever way, under more demand than the others can take.
#[test]
fn the_best_of_three_dies_and_the_others_are_used_up_within_30_s() {
    for (kind, seed) in [(Kind::Errors, 1), (Kind::Hangs, 2)] {
        let mut world = World::new(seed, 120.0, &[(60.0, 0.95), (50.0, 0.85), (40.0, 0.80)]);
        world.run(180);
        let before: usize = (170..180).map(|second| world.all(second)).sum();
        assert!(before >= 1_140, "{before} in the 10 s before");
        assert!(world.share(0, 170..180) > 0.45, "the best one has all that it takes");

        world.behaviours[0].kind = kind;
        world.run(120);
        let remaining = 90.0;
        let enough = |from: usize| {
            let taken: usize = (from..from + 5).map(|second| world.all(second)).sum();
            taken as f64 >= 0.95 * remaining * 5.0
        };
        let recovered = (180..295).find(|from| (*from..295).all(enough)).expect("it recovers") - 180;
        println!("{kind:?}, seed {seed}: above 95 % of what remains after {recovered} s, for good");
        assert!(recovered <= 30, "{kind:?}: {recovered} s");

        world.behaviours[0].kind = Kind::Well;
        world.run(60);
        let back = (300..355).find(|second| world.taken[*second][0] >= 20).expect("it is used again") - 300;
        println!("{kind:?}, seed {seed}: used again after {back} s");
        assert!(back <= 40, "{kind:?}: {back} s");
    }
}

/// It takes everything and delivers nothing any more: the others get the codes, although nobody reports a failure.
#[test]
fn who_delivers_nothing_loses_its_share_and_gets_it_back() {
    let mut world = World::new(5, 20.0, &[(100.0, 0.9), (100.0, 0.75), (100.0, 0.7)]);
    world.run(600);
    let before = world.share(0, 500..600);
    assert!(before > 0.9, "the best one has nearly all: {before}");
    world.behaviours[0].conversion = 0.0;
    world.run(180);
    let during = world.share(0, 720..780);
    println!("share before {before:.3}, from two minutes after the collapse on {during:.3}");
    assert!(during < 0.1, "{during}");
    world.behaviours[0].conversion = 0.9;
    world.run(2_400);
    let after = world.share(0, 3_000..3_180);
    println!("share 40 minutes after it has recovered {after:.3}");
    assert!(after > 0.5, "{after}");
}

/// Nobody types codes any more, whoever sends them: that is no reason to send none.
#[test]
fn when_all_collapse_codes_are_still_sent() {
    let mut world = World::new(6, 40.0, &[(100.0, 0.9), (100.0, 0.8)]);
    world.run(600);
    world.behaviours.iter_mut().for_each(|behaviour| behaviour.conversion = 0.0);
    world.run(600);
    let late: usize = (1_100..1_200).map(|second| world.all(second)).sum();
    assert!(late >= 3_800, "{late} of 4,000");
}

#[test]
fn who_failed_in_a_session_is_tried_again_in_it_only_when_all_have() {
    let now = Now { at: Instant::now(), wall: Timestamp::ZERO };
    let lines: Vec<Terms> = ["a", "b", "c"].map(Terms::free).into();
    let tags: Vec<ProviderTag> = lines.iter().map(Terms::tag).collect();
    let mut router = Router::new(config(lines), SmallRng::seed_from_u64(1), now);
    let mut goes_to = |failed: &[ProviderTag]| match router.route(&ask(failed), now) {
        Verdict::Send(ticket) => {
            let tag = ticket.tag;
            router.end(ticket, End::NotSent, now);
            tag
        }
        other => panic!("{other:?}"),
    };
    for _ in 0..50 {
        assert_ne!(goes_to(&[tags[0]]), tags[0]);
        assert_eq!(goes_to(&[tags[0], tags[2]]), tags[1]);
        assert_eq!(goes_to(&[tags[2], tags[0], tags[1]]), tags[2], "the least recently failed");
    }
}

#[test]
fn transports_and_countries_are_kept_to() {
    let now = Now { at: Instant::now(), wall: Timestamp::ZERO };
    let german = Terms { countries: vec![49], transports: vec![SMS], ..Terms::free("german") };
    let mut router = Router::new(config(vec![german]), SmallRng::seed_from_u64(1), now);
    assert!(matches!(router.route(&ask(&[]), now), Verdict::Send(_)));
    assert!(matches!(router.route(&Ask { country: 7, ..ask(&[]) }, now), Verdict::Nobody));
    let voice = Ask { transport: Transport::Voice, ..ask(&[]) };
    assert!(matches!(router.route(&voice, now), Verdict::Nobody));
}

#[test]
fn a_cheap_provider_goes_on_when_the_dear_one_is_not_paid_for_any_more() {
    let now = Now { at: Instant::now(), wall: Timestamp::ZERO };
    let costs = |default| super::super::terms::Costs { default, countries: HashMap::new() };
    let transports = vec![SMS];
    let dear = Terms { sms: costs(50), transports: transports.clone(), ..Terms::free("dear") };
    let cheap = Terms { sms: costs(20), transports, ..Terms::free("cheap") };
    let budget = BudgetLimits { hour: Some(100), ..BudgetLimits::default() };
    let config = RouterConfig { budget, ..config(vec![dear, cheap]) };
    let mut router = Router::new(config, SmallRng::seed_from_u64(3), now);
    let (mut spent, mut sent, mut unlent) = (0, 0, 100);
    let verdict = loop {
        match router.route(&ask(&[]), now) {
            Verdict::Wait { why: Why::Borrowing(Scope::Hour), everybody: true, .. } => {
                lend(&mut router, &mut unlent, now);
            }
            Verdict::Send(ticket) => {
                spent += ticket.reservation.cost();
                sent += 1;
            }
            other => break other,
        }
        assert!(sent < 10);
    };
    assert!(spent <= 100 && spent > 80, "{spent}");
    let Verdict::Wait { why, pause, everybody } = verdict else { panic!("{verdict:?}") };
    assert_eq!((why, pause, everybody), (Why::Budget(Scope::Hour), Duration::from_secs(3_600), true));
}

#[test]
fn a_code_that_timed_out_stays_paid_and_one_that_failed_does_not() {
    let now = Now { at: Instant::now(), wall: Timestamp::ZERO };
    let sms = super::super::terms::Costs { default: 10, countries: HashMap::new() };
    let budget = BudgetLimits { hour: Some(100), ..BudgetLimits::default() };
    let config = RouterConfig { budget, ..config(vec![Terms { sms, ..Terms::free("a") }]) };
    let mut router = Router::new(config, SmallRng::seed_from_u64(3), now);
    assert!(matches!(router.route(&ask(&[]), now), Verdict::Wait { why: Why::Borrowing(Scope::Hour), .. }));
    lend(&mut router, &mut 100, now);
    for (end, left) in [(End::Failed, 100), (End::NotSent, 100), (End::Refused, 100), (End::TimedOut, 90)] {
        let Verdict::Send(ticket) = router.route(&ask(&[]), now) else { panic!("{end:?}") };
        router.end(ticket, end, now);
        assert_eq!(router.budget_left(now.wall).0, Some(left), "{end:?}");
    }
}

/// Lends all that is wanted, as a ledger that nobody else uses.
fn lend(router: &mut Router, unlent: &mut u64, now: Now) {
    for need in router.needs(true, now.wall) {
        let granted = match need.change {
            Change::Borrow(amount) => amount.min(*unlent),
            Change::GiveBack(_) | Change::Look => 0,
        };
        if let Change::GiveBack(amount) = need.change {
            *unlent += amount;
        }
        *unlent -= granted;
        router.settled(&need, granted, *unlent, now.wall);
    }
}

fn capacity(router: &mut Router, now: Now) -> Capacity {
    router.capacity(1_000.0, 0, now)
}

#[test]
fn what_can_be_sent_is_what_those_take_who_are_used() {
    let mut now = Now { at: Instant::now(), wall: Timestamp::ZERO };
    let (fast, slow) = (terms("fast", 60.0), terms("slow", 40.0));
    let mut router = Router::new(config(vec![fast, slow]), SmallRng::seed_from_u64(1), now);
    assert_eq!(capacity(&mut router, now).providers, 100.0);
    assert_eq!(router.capacity(50.0, 0, now).providers, 50.0, "no more calls than there is room for");
    // The fast one fails until it is left alone, and then counts as little as it is tried.
    for _ in 0..2_000 {
        let Verdict::Send(ticket) = router.route(&ask(&[]), now) else { panic!("one is used") };
        let end = if ticket.provider == 0 { End::Failed } else { End::NotSent };
        router.end(ticket, end, now);
    }
    assert_eq!(router.standing(0, SMS, now.at).breaker, BreakerState::Open);
    assert_eq!(capacity(&mut router, now).providers, 40.0);
    now.at += Duration::from_secs(2);
    assert_eq!(capacity(&mut router, now).providers, 41.0);
}

#[test]
fn what_is_paid_for_lasts_for_the_hour_and_nothing_when_it_is_used_up() {
    let now = Now { at: Instant::now(), wall: Timestamp::ZERO };
    let sms = super::super::terms::Costs { default: 10, countries: HashMap::new() };
    let paid = Terms { sms, ..Terms::free("paid") };
    let budget = BudgetLimits { hour: Some(36_000), ..BudgetLimits::default() };
    let mut router = Router::new(
        RouterConfig { budget: budget.clone(), ..config(vec![paid.clone()]) },
        SmallRng::seed_from_u64(1),
        now,
    );
    let paid_for = |router: &mut Router, now| {
        let capacity = capacity(router, now);
        capacity.paid + capacity.paid_shared
    };
    assert_eq!(paid_for(&mut router, now), 0.0, "nothing is borrowed yet, and nobody knows what can be");
    let mut unlent = 36_000;
    lend(&mut router, &mut unlent, now);
    let first = capacity(&mut router, now);
    assert!(first.paid > 0.0 && first.paid < 0.1 && first.paid_shared > 0.9, "{first:?}");
    assert!((paid_for(&mut router, now) - 1.0).abs() < 1e-9);
    let mut sent = 0;
    loop {
        match router.route(&ask(&[]), now) {
            Verdict::Send(_) => sent += 1,
            Verdict::Wait { why: Why::Borrowing(_), .. } => lend(&mut router, &mut unlent, now),
            Verdict::Wait { why, .. } => break assert_eq!(why, Why::Budget(Scope::Hour)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sent, 3_600);
    assert_eq!(paid_for(&mut router, now), 0.0);
    let next = Now { wall: now.wall.saturating_add(Duration::from_secs(3_600)), ..now };
    assert_eq!(paid_for(&mut router, next), 0.0);
    lend(&mut router, &mut 36_000, next);
    assert!((paid_for(&mut router, next) - 1.0).abs() < 1e-9);
    // Somebody who costs nothing does not wait for money.
    let both = config(vec![paid, Terms::free("free")]);
    let mut router = Router::new(RouterConfig { budget, ..both }, SmallRng::seed_from_u64(1), now);
    assert_eq!(capacity(&mut router, now).paid, f64::INFINITY);
}

#[test]
fn a_country_that_few_serve_bounds_the_others_by_its_share_and_one_that_nobody_serves_does_not() {
    let now = Now { at: Instant::now(), wall: Timestamp::ZERO };
    let german = Terms { countries: vec![49], ..terms("german", 10.0) };
    let american = Terms { countries: vec![1], ..terms("american", 90.0) };
    let mut router = Router::new(config(vec![german, american]), SmallRng::seed_from_u64(1), now);
    assert_eq!(capacity(&mut router, now).providers, 100.0);
    (0..50).for_each(|_| router.began(49, now.at));
    (0..50).for_each(|_| router.began(1, now.at));
    assert_eq!(capacity(&mut router, now).providers, 20.0, "half of them are Germans");
    (0..100).for_each(|_| router.began(91, now.at));
    assert_eq!(capacity(&mut router, now).providers, 40.0, "and now a quarter");
}

/// It takes everything, and its receipts say that it delivers a tenth: then a tenth can be sent.
#[test]
fn who_takes_more_than_he_delivers_counts_for_what_arrives() {
    let start = Instant::now();
    let mut now = Now { at: start, wall: Timestamp::ZERO };
    let mut router = Router::new(config(vec![Terms::free("only")]), SmallRng::seed_from_u64(1), now);
    let send = |router: &mut Router, n: u32, arrives: bool, now: Now| {
        let Verdict::Send(ticket) = router.route(&ask(&[]), now) else { panic!("it is used") };
        router.awaits_receipt(&ticket, &n.to_string(), id(n), Duration::ZERO, now.at);
        let estimate = Duration::from_secs(5);
        router.end(ticket, End::Accepted { session: id(n), delay: None, estimate }, now);
        if arrives {
            let told = router.receipt(0, &n.to_string(), Delivery::Arrived, now.at).unwrap();
            assert_eq!((told.session, told.arrived), (id(n), true));
        }
    };
    for n in 0..1_000 {
        now.at = start + Duration::from_millis(20) * n;
        send(&mut router, n, true, now);
    }
    assert_eq!(capacity(&mut router, now).providers, 1_000.0);
    for n in 1_000..6_000 {
        now.at = start + Duration::from_millis(20) * n;
        send(&mut router, n, n % 10 == 0, now);
    }
    let providers = capacity(&mut router, now).providers;
    assert!((4.0..7.0).contains(&providers), "{providers} of 50 a second");
}

/// Receipts say that nothing arrives any more: nobody has to wait until codes were not typed.
#[test]
fn receipts_find_out_who_delivers_nothing_within_seconds() {
    let start = Instant::now();
    let mut now = Now { at: start, wall: Timestamp::ZERO };
    let mut router = Router::new(config(vec![Terms::free("only")]), SmallRng::seed_from_u64(1), now);
    let mut failed = 0;
    for n in 0..1_000 {
        now.at += Duration::from_millis(50);
        let Verdict::Send(ticket) = router.route(&ask(&[]), now) else { panic!("it is used") };
        let name = n.to_string();
        router.awaits_receipt(&ticket, &name, id(n), Duration::ZERO, now.at);
        router.end(ticket, End::Accepted { session: id(n), delay: None, estimate: Duration::ZERO }, now);
        let delivery = if n < 400 { Delivery::Arrived } else { Delivery::Failed };
        router.receipt(0, &name, delivery, now.at).unwrap();
        failed += u32::from(n >= 400);
        if router.standing(0, SMS, now.at).breaker == BreakerState::Open {
            break;
        }
    }
    println!("found out after {failed} failed deliveries");
    assert!((20..100).contains(&failed), "{failed}");
}
