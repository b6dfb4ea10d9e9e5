//! Hours of a fleet's directory in virtual time: people who sign up, hide and show themselves, hints that are lost, clocks
//! that differ, a store that is slow and away for minutes, and processes that start anew.
//!
//! What must hold: who could be found for a minute is found by every process that answers, and who has been hidden for a
//! minute by none.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use spillway_types::{AccountId, Clock, NumberMac};
use tokio::time::{Instant, sleep};

use crate::Config;
use crate::config::FilterConfig;
use crate::fake::{FakeStore, PausedClock, Process, number};

const HOURS: u64 = 3;
const PEOPLE: u64 = 400;
const MINUTE: Duration = Duration::from_secs(60);
const PROCESSES: usize = 3;

/// Since when somebody is as he is.
#[derive(Clone, Copy, Debug)]
struct Person {
    account: AccountId,
    is_listed: bool,
    since: Instant,
}

struct Fleet {
    rng: SmallRng,
    store: FakeStore,
    processes: Vec<Process>,
    people: BTreeMap<u64, Person>,
    /// When the store fails and works again.
    weather: Instant,
    restarts: u64,
    /// By processes that have ended.
    builds: u64,
}

impl Fleet {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let store = FakeStore::default();
        store.part_max(7);
        let processes = (0..PROCESSES).map(|id| start(&store, &mut rng, id)).collect();
        let weather = Instant::now() + MINUTE;
        Self { rng, store, processes, people: BTreeMap::new(), weather, restarts: 0, builds: 0 }
    }

    /// Somebody signs up, hides or shows himself, through a registration process whose clock is wrong by up to 15 s.
    async fn change(&mut self) {
        let n = self.rng.random_range(0..PEOPLE);
        let mac = number(n);
        let person = self.people.get(&n).copied();
        let is_listed = !person.is_some_and(|person| person.is_listed);
        let account = person.map_or_else(AccountId::random, |person| person.account);
        if is_listed {
            let clock = self.clock(15_000);
            self.hint(mac).await;
            // Written together with the entry, which may be there some seconds later, or before it is.
            let (first, second) = (self.rng.random_bool(0.5), self.rng.random_range(0..4_000));
            let at = clock.now();
            let entry = |store: &FakeStore| store.set(mac, Some(account));
            if first {
                self.store.log(mac, at)
            } else {
                entry(&self.store)
            }
            sleep(Duration::from_millis(second)).await;
            if first { entry(&self.store) } else { self.store.log(mac, at) }
        } else {
            self.store.set(mac, None);
        }
        self.people.insert(n, Person { account, is_listed, since: Instant::now() });
    }

    /// Reaches each process in two cases of three, and is lost otherwise.
    async fn hint(&mut self, mac: NumberMac) {
        for process in &self.processes {
            if self.rng.random_bool(0.66) {
                process.hint(mac).await;
            }
        }
    }

    fn clock(&mut self, off_by_max: i64) -> PausedClock {
        let ahead = self.rng.random_range(-off_by_max..=off_by_max);
        self.store.clock().ahead_by(ahead)
    }

    fn change_weather(&mut self) {
        if Instant::now() < self.weather {
            return;
        }
        let storm = self.rng.random_bool(0.5);
        self.store.fail_log(storm && self.rng.random_bool(0.7));
        self.store.fail_walks(storm && self.rng.random_bool(0.7));
        self.store.slow(Duration::from_millis(self.rng.random_range(0..500)));
        self.weather = Instant::now() + Duration::from_secs(self.rng.random_range(10..200));
        if self.rng.random_bool(0.05) {
            let before = self.store.clock().now().saturating_sub(Duration::from_secs(30));
            self.store.forget_log(before);
        }
        if self.rng.random_bool(0.1) {
            let id = self.rng.random_range(0..PROCESSES);
            self.builds += self.processes[id].directory.metrics.filter.builds();
            self.processes[id] = start(&self.store, &mut self.rng, id);
            self.restarts += 1;
        }
    }

    fn check(&self, seed: u64) -> usize {
        let mut checked = 0;
        for (id, process) in self.processes.iter().enumerate() {
            let Some(view) = process.directory.filter.view() else { continue };
            for (n, person) in &self.people {
                // Whoever is hidden is hidden by the store, which is asked after the filter.
                if person.is_listed && person.since.elapsed() >= MINUTE {
                    checked += 1;
                    let since = person.since.elapsed();
                    assert!(
                        view.may_have(&number(*n)),
                        "seed {seed}: process {id} denies {n}, who can be found for {since:?}"
                    );
                }
            }
        }
        checked
    }

    async fn check_answers(&self, seed: u64) {
        for process in &self.processes {
            for (n, person) in self.people.iter().filter(|(_, person)| person.since.elapsed() >= MINUTE) {
                let question = vec![format!("+49{n:010}")];
                let Ok(found) = process.directory.lookup(question, false).await else { continue };
                let accounts: Vec<_> = found.matches.iter().map(|(_, account)| *account).collect();
                let expected: &[_] = if person.is_listed { &[person.account] } else { &[] };
                assert_eq!(accounts, expected, "seed {seed}: {n} is {person:?}");
            }
        }
    }
}

fn start(store: &FakeStore, rng: &mut SmallRng, id: usize) -> Process {
    let filter = FilterConfig { rebuild_every: Duration::from_secs(300), ..FilterConfig::default() };
    let clock = store.clock().ahead_by(rng.random_range(-10_000..=10_000));
    Process::with(
        Config { filter, ..Config::default() },
        store.clone(),
        clock,
        u8::try_from(id).unwrap() * 80,
    )
}

async fn play(seed: u64) {
    let mut fleet = Fleet::new(seed);
    let mut checked = 0;
    let end = Instant::now() + Duration::from_secs(HOURS * 3_600);
    while Instant::now() < end {
        fleet.change().await;
        fleet.change_weather();
        checked += fleet.check(seed);
        sleep(Duration::from_millis(fleet.rng.random_range(0..8_000))).await;
        checked += fleet.check(seed);
    }
    let builds = fleet.builds
        + fleet.processes.iter().map(|process| process.directory.metrics.filter.builds()).sum::<u64>();
    fleet.store.fail_log(false);
    fleet.store.fail_walks(false);
    sleep(MINUTE).await;
    fleet.check_answers(seed).await;
    println!("seed {seed}: {checked} answers checked, {builds} builds, {} restarts", fleet.restarts);
    assert!(checked > 10_000 && builds > 10, "seed {seed}: {checked} {builds}");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_denied_for_longer_than_a_minute() {
    for seed in 1..=6 {
        play(seed).await;
    }
}

/// What the simulation would find: without the log, who signed up while his hint was lost is denied until the next build.
#[tokio::test(start_paused = true)]
async fn without_the_log_a_lost_hint_denies() {
    let store = FakeStore::default();
    let process = Process::start(store.clone());
    process.until_built().await;
    store.set(number(1), Some(AccountId::random()));
    sleep(MINUTE).await;
    assert!(!process.directory.filter.view().unwrap().may_have(&number(1)));
    store.log(number(1), store.clock().now());
    sleep(Duration::from_secs(11)).await;
    assert!(process.directory.filter.view().unwrap().may_have(&number(1)));
}
