//! The role over a lease in memory and a local bus.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use prometheus::Registry;
use prost::Message as _;
use spillway_api::internal::v1 as wire;
use spillway_bus::{Bus, LocalBus, Subject};
use spillway_chassis::Tasks;
use spillway_store::leases::{HolderId, Lease};
use spillway_store::{Cas, Leases, StoreError};
use spillway_types::{Clock, TestClock};

use crate::{Config, Control, Deps};

pub(crate) fn holder(number: u8) -> HolderId {
    HolderId([number; 16])
}

/// `load` is in flight, queued, refused and capacity, the same for every role.
pub(crate) fn beacon(number: u8, name: &str, roles: &[wire::Role], load: [u64; 4]) -> wire::LoadBeacon {
    let [in_flight, queued, refused, capacity_seats] = load;
    let role = |role: &wire::Role| wire::RoleLoad {
        role: (*role).into(),
        in_flight,
        queued,
        refused,
        capacity_seats,
        sessions: 0,
    };
    wire::LoadBeacon {
        process_id: holder(number).0.to_vec().into(),
        name: name.to_owned(),
        roles: roles.iter().map(role).collect(),
        resident_bytes: 1 << 20,
        sent_at_us: TestClock::default().now().as_micros(),
        verification: None,
        leaving: false,
        identity_writes: None,
        mailbox_writes: None,
    }
}

/// Tells something, such as that codes can be sent, twice a second, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Sender(Tasks);

impl Sender {
    pub(crate) fn of(codes: wire::VerificationCapacity, bus: &Arc<LocalBus>) -> Self {
        Self::telling(
            wire::LoadBeacon { verification: Some(codes), ..beacon(200, "sender", &[], [0; 4]) },
            bus,
        )
    }

    pub(crate) fn of_store(writes: wire::StoreWrites, bus: &Arc<LocalBus>) -> Self {
        let told = beacon(201, "writer", &[], [0; 4]);
        Self::telling(wire::LoadBeacon { identity_writes: Some(writes), ..told }, bus)
    }

    fn telling(told: wire::LoadBeacon, bus: &Arc<LocalBus>) -> Self {
        let bus = bus.clone();
        let tasks = Tasks::new();
        let cancelled = tasks.cancelled();
        tasks.spawn("sender", async move {
            let send = async {
                loop {
                    bus.publish(Subject::Load, told.encode_to_vec().into()).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            };
            tokio::select! { () = send => {}, () = cancelled => {} }
        });
        Self(tasks)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What the store does to calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Weather {
    #[default]
    Fine,
    /// Answers with an error; nothing happens.
    Refusing,
    /// Writes happen, and their answers are lost.
    Mute,
    /// Does not answer for a long time.
    Hanging,
}

#[derive(Debug, Default)]
pub(crate) struct MemoryLeases {
    leases: Mutex<HashMap<String, Lease>>,
    weather: Mutex<Weather>,
}

impl MemoryLeases {
    pub(crate) fn weather(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    pub(crate) fn stored(&self) -> Option<Lease> {
        self.leases.lock().unwrap().get("control").copied()
    }

    async fn storm(&self) -> Result<(), StoreError> {
        let weather = *self.weather.lock().unwrap();
        match weather {
            Weather::Fine | Weather::Mute => Ok(()),
            Weather::Refusing => Err(unavailable()),
            Weather::Hanging => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                Err(unavailable())
            }
        }
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable(Arc::new(std::io::Error::other("no quorum")))
}

#[async_trait]
impl Leases for MemoryLeases {
    async fn get(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        self.storm().await?;
        Ok(self.leases.lock().unwrap().get(name).copied())
    }

    async fn put(&self, name: &str, lease: Lease, expected: Option<Lease>) -> Result<Cas, StoreError> {
        self.storm().await?;
        let mut leases = self.leases.lock().unwrap();
        if leases.get(name).copied() != expected {
            return Ok(Cas::Conflict);
        }
        leases.insert(name.to_owned(), lease);
        if *self.weather.lock().unwrap() == Weather::Mute { Err(unavailable()) } else { Ok(Cas::Applied) }
    }
}

/// One process of the role.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) control: Control,
    pub(crate) tasks: Tasks,
    pub(crate) registry: Registry,
}

pub(crate) fn node(number: u8, config: Config, leases: Arc<dyn Leases>, bus: &Arc<LocalBus>) -> Node {
    let (tasks, registry) = (Tasks::new(), Registry::new());
    let bus: Arc<dyn Bus> = bus.clone();
    let deps = Deps {
        leases,
        bus,
        clock: Arc::new(TestClock::default()),
        tasks: tasks.clone(),
        registry: registry.clone(),
        process: holder(number),
    };
    Node { control: Control::new(config, deps).unwrap(), tasks, registry }
}
