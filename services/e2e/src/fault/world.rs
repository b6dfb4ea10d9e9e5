//! The people of a run, and what they share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::stream::{self, StreamExt, TryStreamExt};
use spillway_client::{Client, ClientConfig};
use spillway_fleet::Fleet;
use surge::codes::{CodeStream, Phones};
use surge::ledger::Ledger;
use surge::population::Population;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::phone::Phone;
use crate::bench::people::{User, sign_up};

/// Sign-ups at once: enough to be quick, too few to be a surge.
const SIGN_UPS_AT_ONCE: usize = 16;
/// Everybody has an account after this and a second for each so many, or the fleet does not work.
const SIGN_UPS_MAX: Duration = Duration::from_secs(120);
const SIGN_UPS_PER_S_MIN: u64 = 10;
/// Tries of one person before the run is given up.
const SIGN_UP_TRIES: u32 = 3;
/// Devices that come online at once when the run starts, a second.
const ONLINE_PER_S: u64 = 500;
/// Everybody is back after this, or is not coming.
pub(super) const ONLINE_MAX: Duration = Duration::from_secs(60);
/// Indices from here on are people who come during a run.
const NEWCOMERS: u64 = 10_000_000;

#[derive(Debug)]
pub(super) struct World {
    pub(super) shared: Arc<Shared>,
    /// Those who write to each other.
    pub(super) people: Arc<[Arc<Phone>]>,
    devices: u64,
    phones: Phones,
    population: Population,
    newcomers: AtomicU64,
    /// Everybody's phones, and the streams of codes.
    online: JoinSet<()>,
    codes: JoinSet<()>,
}

/// What every phone needs.
#[derive(Debug)]
pub(super) struct Shared {
    /// Of all gateways.
    address: String,
    pub(super) ledger: Ledger,
    /// Rises when every device is to come back on a new connection.
    pub(super) reconnect: watch::Sender<u64>,
    /// Open sessions.
    pub(super) online: AtomicU64,
}

impl Shared {
    /// A connection of its own, made at the first call.
    pub(super) fn client(&self) -> Client {
        Client::lazy(&self.address, ClientConfig::default()).expect("addresses of the fleet are addresses")
    }
}

impl World {
    pub(super) fn new(fleet: &Fleet, seed: u64) -> Self {
        let gateways: Vec<_> =
            fleet.public_addresses().iter().map(|address| format!("http://{address}")).collect();
        let shared = Shared {
            address: gateways.join(","),
            ledger: Ledger::new(seed),
            reconnect: watch::Sender::new(0),
            online: AtomicU64::new(0),
        };
        let phones = Phones::default();
        let mut codes = JoinSet::new();
        for address in fleet.codes_addresses() {
            codes.spawn(answer(address, phones.clone()));
        }
        Self {
            shared: Arc::new(shared),
            people: Arc::new([]),
            devices: 0,
            phones,
            population: Population::new(seed),
            newcomers: AtomicU64::new(NEWCOMERS),
            online: JoinSet::new(),
            codes,
        }
    }

    /// Signs up `people` and `idle` more, and lets them come online.
    pub(super) async fn sign_up(&mut self, people: u64, idle: u64) -> Result<()> {
        self.devices = people + idle;
        let clients: Vec<_> = (0..SIGN_UPS_AT_ONCE).map(|_| self.shared.client()).collect();
        let sign_ups = stream::iter(0..self.devices)
            .map(|index| {
                let client = clients[index as usize % clients.len()].clone();
                sign_up_patiently(client, self.population, self.phones.clone(), index)
            })
            .buffered(SIGN_UPS_AT_ONCE)
            .inspect_ok(|user| {
                if (user.index + 1) % 500 == 0 {
                    println!("{} people have signed up", user.index + 1);
                }
            })
            .try_collect();
        let bound = SIGN_UPS_MAX + Duration::from_secs(self.devices / SIGN_UPS_PER_S_MIN);
        let users: Vec<User> = timeout(bound, sign_ups)
            .await
            .with_context(|| format!("{} people did not sign up within {bound:?}", self.devices))?
            .context("the people of the run cannot sign up")?;
        let phones: Vec<_> = users.into_iter().map(|user| Arc::new(Phone::new(user, &self.shared))).collect();
        for (at, phone) in phones.iter().enumerate() {
            let after = Duration::from_millis(at as u64 * 1_000 / ONLINE_PER_S);
            let (phone, shared) = (phone.clone(), self.shared.clone());
            self.online.spawn(async move {
                sleep(after).await;
                phone.stay_online(shared).await;
            });
        }
        self.people = phones.into_iter().take(usize::try_from(people)?).collect();
        Ok(())
    }

    /// Of those who write to each other, one a line.
    pub(super) fn credentials(&self) -> String {
        self.people.iter().map(|phone| format!("{}\n", phone.identity.credential())).collect()
    }

    pub(super) fn devices(&self) -> u64 {
        self.devices
    }

    /// # Errors
    ///
    /// When some device is not online after a minute.
    pub(super) async fn all_online(&self) -> Result<()> {
        let until = Instant::now() + ONLINE_MAX + Duration::from_secs(self.devices / ONLINE_PER_S);
        loop {
            let online = self.shared.online.load(Ordering::Relaxed);
            if online == self.devices {
                return Ok(());
            }
            if Instant::now() >= until {
                bail!("only {online} of {} devices are online", self.devices);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// One more person signs up: registration works.
    pub(super) async fn newcomer(&self) -> Result<()> {
        let index = self.newcomers.fetch_add(1, Ordering::Relaxed);
        sign_up_patiently(self.shared.client(), self.population, self.phones.clone(), index).await?;
        Ok(())
    }

    pub(super) async fn everybody_leaves(&mut self) {
        self.online.shutdown().await;
        self.codes.shutdown().await;
    }
}

/// What was under way when a process died may have to be begun again, as a person would.
async fn sign_up_patiently(
    client: Client,
    population: Population,
    phones: Phones,
    index: u64,
) -> Result<User> {
    let mut tries = 0;
    loop {
        tries += 1;
        match sign_up(client.clone(), population, phones.clone(), index).await {
            Err(error) if tries < SIGN_UP_TRIES => {
                eprintln!("person {index} starts again: {error:#}");
                sleep(Duration::from_secs(1)).await;
            }
            outcome => return outcome,
        }
    }
}

/// Listens for codes at one registration process for as long as the run lasts, across its restarts.
async fn answer(address: SocketAddr, phones: Phones) {
    loop {
        if let Ok(stream) = CodeStream::open(&format!("http://{address}"), phones.clone()).await {
            // Ends with the process.
            stream.run().await.ok();
        }
        sleep(Duration::from_millis(200)).await;
    }
}
