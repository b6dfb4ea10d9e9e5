//! A directory in memory, whose store can be slow and fail, and a process that serves it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use prometheus::Registry;
use prost::Message as _;
use spillway_api::internal::v1::NumberListed;
use spillway_bus::{Bus, LocalBus, Subject};
use spillway_chassis::{Drain, Health, Tasks};
use spillway_store::directory::{PutLog, WalkPage, WalkPosition};
use spillway_store::{Directory as DirectoryStore, StoreError};
use spillway_types::{AccountId, Clock, NumberMac, Pepper, Secret, Timestamp};
use tokio::time::Instant;

use crate::{Config, Deps, Directory};

/// A clock that goes with tokio's, which a test can pause.
#[derive(Clone, Debug)]
pub(crate) struct PausedClock {
    began: Instant,
    /// How far it is ahead of others that began with it.
    ahead: i64,
}

impl PausedClock {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), ahead: 0 }
    }

    /// In milliseconds.
    pub(crate) fn ahead_by(&self, ahead: i64) -> Self {
        Self { ahead, ..self.clone() }
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        let ms = i64::try_from(self.began.elapsed().as_millis()).unwrap() + self.ahead;
        Timestamp::from_millis(1_610_722_800_000_u64.saturating_add_signed(ms))
    }
}

pub(crate) fn pepper() -> Pepper {
    Pepper::new(1, Secret::from_bytes([7; 32]))
}

/// The hash of some number.
pub(crate) fn number(n: u64) -> NumberMac {
    pepper().mac_of_text(&format!("+49{n:010}")).unwrap()
}

#[derive(Clone, Debug)]
pub(crate) struct FakeStore(Arc<Mutex<State>>, PausedClock);

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<NumberMac, AccountId>,
    log: Vec<(Timestamp, NumberMac)>,
    /// The log does not know what was before.
    log_begins: Timestamp,
    slow: Duration,
    fail: bool,
    fail_walks: bool,
    fail_log: bool,
    part_max: usize,
    numbers_read: usize,
}

impl Default for FakeStore {
    fn default() -> Self {
        let state = State { part_max: 100_000, ..State::default() };
        Self(Arc::new(Mutex::new(state)), PausedClock::new())
    }
}

impl FakeStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn clock(&self) -> &PausedClock {
        &self.1
    }

    /// An entry that comes or goes without anybody being told, and without the log.
    pub(crate) fn set(&self, number: NumberMac, account: Option<AccountId>) {
        match account {
            Some(account) => self.state().entries.insert(number, account),
            None => self.state().entries.remove(&number),
        };
    }

    pub(crate) fn log(&self, number: NumberMac, at: Timestamp) {
        self.state().log.push((at, number));
    }

    pub(crate) fn forget_log(&self, before: Timestamp) {
        let mut state = self.state();
        state.log.retain(|(at, _)| *at >= before);
        state.log_begins = before;
    }

    /// How long each call takes.
    pub(crate) fn slow(&self, by: Duration) {
        self.state().slow = by;
    }

    pub(crate) fn fail(&self, fail: bool) {
        self.state().fail = fail;
    }

    pub(crate) fn fail_walks(&self, fail: bool) {
        self.state().fail_walks = fail;
    }

    pub(crate) fn fail_log(&self, fail: bool) {
        self.state().fail_log = fail;
    }

    pub(crate) fn part_max(&self, part_max: usize) {
        self.state().part_max = part_max;
    }

    pub(crate) fn numbers_read(&self) -> usize {
        self.state().numbers_read
    }

    async fn take_time(&self, fails: impl Fn(&State) -> bool) -> Result<(), StoreError> {
        let slow = self.state().slow;
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        let state = self.state();
        if state.fail || fails(&state) {
            return Err(StoreError::Unavailable(Arc::new(std::io::Error::other("no answer"))));
        }
        Ok(())
    }
}

#[async_trait]
impl DirectoryStore for FakeStore {
    async fn put(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError> {
        self.take_time(|_| false).await?;
        self.log(number, self.1.now());
        self.set(number, Some(account));
        Ok(())
    }

    async fn remove(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError> {
        self.take_time(|_| false).await?;
        let mut state = self.state();
        if state.entries.get(&number) == Some(&account) {
            state.entries.remove(&number);
        }
        Ok(())
    }

    async fn lookup(&self, numbers: &[NumberMac]) -> Result<Vec<Option<AccountId>>, StoreError> {
        self.state().numbers_read += numbers.len();
        self.take_time(|_| false).await?;
        let state = self.state();
        Ok(numbers.iter().map(|number| state.entries.get(number).copied()).collect())
    }

    async fn walk(&self, from: &WalkPosition, at_most: NonZeroUsize) -> Result<WalkPage, StoreError> {
        self.take_time(|state| state.fail_walks).await?;
        let state = self.state();
        let at_most = at_most.get().min(state.part_max);
        let start =
            from.key().map_or(Bound::Unbounded, |key| Bound::Excluded(NumberMac::try_from(key).unwrap()));
        let numbers: Vec<_> =
            state.entries.range((start, Bound::Unbounded)).take(at_most).map(|(number, _)| *number).collect();
        let last = numbers.last().filter(|_| numbers.len() == at_most);
        let next = last.map(|number| WalkPosition::after(number.as_bytes()));
        Ok(WalkPage { numbers, next })
    }

    async fn put_between(&self, from: Timestamp, until: Timestamp) -> Result<PutLog, StoreError> {
        self.take_time(|state| state.fail_log).await?;
        let state = self.state();
        if from < state.log_begins {
            return Ok(PutLog::Forgotten);
        }
        let puts = state.log.iter().filter(|(at, _)| (from..until).contains(at));
        Ok(PutLog::Numbers(puts.map(|(_, number)| *number).collect()))
    }
}

/// A process of the directory role.
pub(crate) struct Process {
    pub(crate) directory: Directory,
    pub(crate) store: FakeStore,
    pub(crate) bus: Arc<LocalBus>,
    pub(crate) health: Health,
    pub(crate) pepper: Pepper,
    tasks: Tasks,
}

impl Process {
    pub(crate) fn start(store: FakeStore) -> Self {
        let clock = store.clock().clone();
        Self::with(Config::default(), store, clock, 0)
    }

    pub(crate) fn with(config: Config, store: FakeStore, clock: PausedClock, id: u8) -> Self {
        let (tasks, bus) = (Tasks::new(), Arc::new(LocalBus::new()));
        let health = Health::new(Drain::new(&tasks).handle());
        let deps = Deps {
            directory: Arc::new(store.clone()),
            pepper: pepper(),
            bus: Arc::clone(&bus) as Arc<dyn Bus>,
            clock: Arc::new(clock),
            process: [id; 16],
            tasks: tasks.clone(),
            health: health.component("directory", "starting"),
            registry: Registry::new(),
        };
        let directory = Directory::new(config, deps).unwrap();
        Self { directory, store, bus, health, pepper: pepper(), tasks }
    }

    pub(crate) async fn until_built(&self) {
        while self.directory.filter.view().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Tells it that a number can be found, and waits until it has heard.
    pub(crate) async fn hint(&self, number: NumberMac) {
        let listed = NumberListed { number: number.as_bytes().to_vec().into() };
        self.bus.publish(Subject::NumberListed, listed.encode_to_vec().into()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}
