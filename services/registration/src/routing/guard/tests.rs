use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

const LIMITS: Limits = Limits {
    conversion_min: 0.25,
    codes_min: 30,
    out_max: 30,
    half_life: Duration::from_secs(3_600),
    places_max: 65_536,
};
const GRACE: Duration = Duration::from_secs(60);
const COUNTRY: PlaceKey = PlaceKey(u64::MAX);

fn places(prefix: u64) -> Places {
    Places { prefix: PlaceKey(prefix), network: None, country: COUNTRY }
}

/// People who ask for codes, in virtual time: what they type is judged at once, what they do not after the grace.
struct Town {
    guard: Guard,
    now: Instant,
    rng: SmallRng,
    /// When a code is typed (`true`) or its time is over.
    ends: BinaryHeap<Reverse<(Instant, u64, bool)>>,
    sent: HashMap<u64, usize>,
    pretended: HashMap<u64, usize>,
    /// Who was held and asks again.
    held: Vec<(u64, f64, u64)>,
}

impl Town {
    fn new(seed: u64) -> Self {
        Self {
            guard: Guard::new(LIMITS, Instant::now()),
            now: Instant::now(),
            rng: SmallRng::seed_from_u64(seed),
            ends: BinaryHeap::new(),
            sent: HashMap::new(),
            pretended: HashMap::new(),
            held: Vec::new(),
        }
    }

    /// Lets time pass, second by second.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(Reverse((at, prefix, typed))) = self.ends.peek().copied() {
            if at > until {
                break;
            }
            self.ends.pop();
            self.guard.judged(places(prefix), typed, at);
        }
        self.now = until;
        for (prefix, conversion, seconds) in std::mem::take(&mut self.held) {
            self.ask(prefix, conversion, seconds);
        }
    }

    /// Somebody asks for a code, and types it with the probability `conversion` within `seconds`.
    fn ask(&mut self, prefix: u64, conversion: f64, seconds: u64) {
        let at = places(prefix);
        match self.guard.verdict(at, self.now) {
            Verdict::Send => {
                *self.sent.entry(prefix).or_default() += 1;
                self.guard.sent(at, self.now);
                let typed = self.rng.random_bool(conversion);
                let takes = Duration::from_secs(self.rng.random_range(2..=seconds));
                let is_late = takes > GRACE;
                let end = if typed && !is_late { takes } else { GRACE };
                self.ends.push(Reverse((self.now + end, prefix, typed && !is_late)));
            }
            Verdict::Pretend => *self.pretended.entry(prefix).or_default() += 1,
            Verdict::Hold => self.held.push((prefix, conversion, seconds)),
        }
    }
}

/// A thousand numbers of one prefix, of which nobody types a code, among five per cent of honest people who live in two
/// hundred other prefixes and of whom three in four do. Slowly and at once.
#[test]
fn a_pumped_prefix_is_cut_within_60_codes_and_the_honest_are_not() {
    const PUMPED: u64 = 0;
    for (seed, a_second) in [(1, 5), (2, 50), (3, 1_000), (4, 1)] {
        let mut town = Town::new(seed);
        // One honest person for each nineteen numbers that are pumped.
        let (mut honest, mut pumped) = (0.0, 0);
        while pumped < 1_000 {
            for _ in 0..a_second {
                town.ask(PUMPED, 0.0, 30);
                pumped += 1;
                honest += 1.0 / 19.0;
                if honest >= 1.0 {
                    honest -= 1.0;
                    let prefix = town.rng.random_range(1..=200);
                    town.ask(prefix, 0.75, 40);
                }
            }
            town.pass(Duration::from_secs(1));
        }
        (0..600).for_each(|_| town.pass(Duration::from_secs(1)));
        let sent = town.sent[&PUMPED];
        assert!((30..60).contains(&sent), "{a_second} a second: {sent} sent to the pumped prefix");
        assert_eq!(sent + town.pretended[&PUMPED], 1_000, "nobody is held for ever");
        let honest_refused: usize =
            town.pretended.iter().filter(|(prefix, _)| **prefix != PUMPED).map(|(_, n)| n).sum();
        let honest_sent: usize =
            town.sent.iter().filter(|(prefix, _)| **prefix != PUMPED).map(|(_, n)| n).sum();
        assert!(honest_sent >= 50);
        assert!(honest_refused * 200 < honest_sent + honest_refused, "{honest_refused} of {honest_sent}");
    }
}

/// A hundred prefixes are pumped at the same time as 20,000 honest people sign up.
#[test]
fn many_pumped_prefixes_are_each_cut() {
    let mut town = Town::new(5);
    for second in 0..400u64 {
        for prefix in 0..100 {
            if second % 4 == prefix % 4 {
                town.ask(prefix, 0.02, 30);
            }
        }
        for _ in 0..50 {
            let prefix = town.rng.random_range(1_000..3_000);
            town.ask(prefix, 0.8, 50);
        }
        town.pass(Duration::from_secs(1));
    }
    let worst = (0..100).map(|prefix| town.sent[&prefix]).max();
    assert!(worst < Some(75), "with one in fifty typed: {worst:?}");
    let honest_refused: usize =
        town.pretended.iter().filter(|(prefix, _)| **prefix >= 1_000).map(|(_, n)| n).sum();
    assert_eq!(honest_refused, 0);
}

/// Five hundred honest people of one prefix within five seconds; they type after 20 to 50 s.
#[test]
fn a_burst_of_honest_people_is_delayed_and_not_refused() {
    let mut town = Town::new(6);
    for _ in 0..5 {
        (0..100).for_each(|_| town.ask(9, 0.8, 50));
        town.pass(Duration::from_secs(1));
    }
    let mut seconds = 5;
    while town.sent[&9] < 500 {
        town.pass(Duration::from_secs(1));
        seconds += 1;
        assert!(seconds < 90, "{} sent after {seconds} s", town.sent[&9]);
    }
    assert!(town.pretended.is_empty());
}

/// Everybody of a prefix is late, once: judged unproved at first, and proved after all.
#[test]
fn late_proofs_lift_a_cut() {
    let mut guard = Guard::new(LIMITS, Instant::now());
    let now = Instant::now();
    let at = places(1);
    for _ in 0..30 {
        guard.sent(at, now);
        guard.judged(at, false, now);
    }
    assert_eq!(guard.verdict(at, now), Verdict::Pretend);
    (0..20).for_each(|_| guard.late(at, now));
    assert_eq!(guard.verdict(at, now), Verdict::Send);
}

#[test]
fn a_cut_place_gets_some_codes_after_a_while_and_an_honest_one_comes_back() {
    let mut town = Town::new(7);
    for _ in 0..400 {
        town.ask(1, 0.0, 30);
        town.pass(Duration::from_secs(1));
    }
    assert!(town.pretended[&1] > 200);
    let before = town.sent[&1];
    for _ in 0..100 {
        town.pass(Duration::from_secs(60));
        town.ask(1, 0.0, 30);
    }
    let leaked = town.sent[&1] - before;
    assert!((5..=45).contains(&leaked), "still pumped, in 100 minutes: {leaked}");

    town.pass(Duration::from_secs(7_200));
    town.pretended.clear();
    for _ in 0..200 {
        town.ask(1, 0.8, 30);
        town.pass(Duration::from_secs(10));
    }
    let refused = town.pretended.get(&1).copied().unwrap_or(0);
    assert!(refused < 20, "honest people again: {refused} of 200 refused");
}

#[test]
fn a_network_and_a_country_are_cut_later_than_a_prefix() {
    let mut guard = Guard::new(LIMITS, Instant::now());
    let now = Instant::now();
    let at = |prefix: u64, network: u64| Places {
        prefix: PlaceKey(prefix),
        network: Some(PlaceKey(1_000_000 + network)),
        country: COUNTRY,
    };
    let mut send = |n: u64, network: u64| {
        let verdict = guard.verdict(at(n, network), now);
        if verdict == Verdict::Send {
            guard.sent(at(n, network), now);
            guard.judged(at(n, network), false, now);
        }
        verdict
    };
    let sent = (0..100).filter(|n| send(*n, 1) == Verdict::Send).count();
    assert_eq!(sent, 60, "from one network to a hundred prefixes");
    let sent = (100..2_000).filter(|n| send(*n, *n) == Verdict::Send).count();
    assert_eq!(sent, 540, "from everywhere to one country");
}

#[test]
fn memory_is_bounded_and_the_least_recent_goes() {
    let mut guard = Guard::new(Limits { places_max: 100, ..LIMITS }, Instant::now());
    let now = Instant::now();
    for n in 0..10_000 {
        guard.verdict(places(n), now);
        guard.verdict(places(0), now);
    }
    assert_eq!((guard.places.len(), guard.order.len()), (100, 100));
    let kept: HashSet<u64> = guard.places.keys().map(|key| key.0).collect();
    assert!(kept.contains(&0) && kept.contains(&9_999) && !kept.contains(&5_000));
}

/// A thousand numbers of one prefix, asked for at four processes in turn, five a second. They tell each other once a second, and hear of each
/// other a second later.
#[test]
fn a_fleet_pays_for_a_pumped_prefix_hardly_more_than_one_process() {
    let sent = |processes: usize, is_told: bool| {
        let start = Instant::now();
        let mut guards: Vec<Guard> = (0..processes).map(|_| Guard::new(LIMITS, start)).collect();
        let (mut ends, mut sent, mut told) = (std::collections::VecDeque::new(), 0, HashMap::new());
        for second in 0..200u64 {
            let now = start + Duration::from_secs(second);
            while ends.front().is_some_and(|(at, _)| *at <= now) {
                let (_, process): (Instant, usize) = ends.pop_front().unwrap();
                guards[process].judged(places(0), false, now);
            }
            for n in 0..5 {
                let process = (second as usize * 5 + n) % processes;
                let guard = &mut guards[process];
                if guard.verdict(places(0), now) == Verdict::Send {
                    guard.sent(places(0), now);
                    ends.push_back((now + GRACE, process));
                    sent += 1;
                }
            }
            if is_told {
                guards.iter_mut().for_each(|guard| guard.heard(told.clone(), now));
                told.clear();
                for (key, count) in guards.iter_mut().flat_map(|guard| guard.tell(now)) {
                    let sum: &mut PlaceCount = told.entry(key).or_default();
                    sum.codes += count.codes;
                    sum.proofs += count.proofs;
                    sum.out += count.out;
                }
            }
        }
        sent
    };
    let (one, apart, together) = (sent(1, false), sent(4, false), sent(4, true));
    println!(
        "codes to a pumped prefix: {one} from one process, {apart} from four apart, {together} from four that hear of each other"
    );
    assert!(one < 60 && apart >= 100, "{one} {apart}");
    assert!((30..75).contains(&together), "{together}");
}

#[test]
fn what_others_told_counts_for_some_seconds_only_and_honest_places_are_not_told() {
    let now = Instant::now();
    let mut guard = Guard::new(LIMITS, now);
    let wasted = PlaceCount { codes: 40.0, proofs: 0.0, out: 0.0 };
    guard.heard([(PlaceKey(1), wasted)], now);
    assert_eq!(guard.verdict(places(1), now), Verdict::Pretend);
    assert_eq!(guard.verdict(places(2), now), Verdict::Send);
    assert_eq!(guard.verdict(places(1), now + HEARD_FOR), Verdict::Send, "nobody says so any more");
    for n in 0..100 {
        guard.sent(places(7), now);
        guard.judged(places(7), n % 2 == 0, now);
        guard.sent(places(8), now);
        guard.judged(places(8), false, now);
    }
    let told: Vec<PlaceKey> = guard.tell(now).into_iter().map(|(key, _)| key).collect();
    assert_eq!(told, [PlaceKey(8)], "half of the other's are typed, and so are a quarter of the country's");
}
