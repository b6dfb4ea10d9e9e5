//! The waiting room at a gateway: hands out places, answers polls from memory, admits whose turn has come.
//!
//! What control publishes each second is all that a poll needs (`hear`); what a gateway has to tell goes to control with
//! the request for the next numbers, and each second (`report`). Nothing here outlives the process, and nobody loses his place with it.

mod claim;
mod enter;
mod hear;
mod judge;
mod keys;
mod poll;
mod report;
mod standing;
mod state;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spillway_api::internal::v1::control_client::ControlClient;
use spillway_rpc::{Channel, Hop};
use spillway_types::{Clock, Secret};
use spillway_waiting_room::{DifficultyLaw, Door, Room as RoomId};
use tokio::time::Instant;

use crate::attestation::Attestation;
use crate::config::RoomConfig;
pub(crate) use claim::{RoomError, Used};
use judge::Judge;
use keys::DailyKeys;
use report::Numbers;
pub use standing::RoomView;
use state::State;

/// There is one.
const ROOM: RoomId = RoomId(0);

/// Clones are handles on the same one.
#[derive(Clone)]
pub(crate) struct Room(Arc<Shared>);

struct Shared {
    config: RoomConfig,
    process: [u8; 16],
    control: ControlClient<Channel>,
    judge: Option<Judge>,
    hop: Hop,
    clock: Arc<dyn Clock>,
    start: Instant,
    keys: DailyKeys,
    door: Door,
    law: DifficultyLaw,
    network_key: Secret,
    lottery_key: Secret,
    state: Mutex<State>,
    /// Whoever finds no number left asks for more, and the others wait for him.
    numbers: tokio::sync::Mutex<Numbers>,
}

/// What the room is made of.
pub(crate) struct Deps {
    /// This process, as in its beacons.
    pub(crate) process: [u8; 16],
    pub(crate) control: ControlClient<Channel>,
    pub(crate) attestation: Option<Arc<dyn Attestation>>,
    pub(crate) hop: Hop,
    pub(crate) clock: Arc<dyn Clock>,
    /// The same at all gateways.
    pub(crate) secret: Secret,
}

impl Room {
    pub(crate) fn new(config: RoomConfig, deps: Deps) -> Self {
        let now = deps.clock.now();
        let asked = config.attestation.clone().unwrap_or_default();
        let judge = deps.attestation.map(|attestation| Judge::new(attestation, &asked));
        Self(Arc::new(Shared {
            config,
            process: deps.process,
            control: deps.control,
            judge,
            hop: deps.hop,
            start: Instant::now(),
            keys: DailyKeys::new(&deps.secret, now),
            door: Door::new(&deps.secret),
            law: DifficultyLaw::default(),
            network_key: deps.secret.derive("waiting room networks", &[]),
            lottery_key: deps.secret.derive("waiting room lottery", &[]),
            state: Mutex::new(State::default()),
            numbers: tokio::sync::Mutex::new(Numbers::default()),
            clock: deps.clock,
        }))
    }

    pub(crate) fn is_required(&self) -> bool {
        self.0.config.required
    }

    /// Monotonic, as [`spillway_waiting_room::View`] wants it.
    fn now(&self) -> Duration {
        self.0.start.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in between loses a count at most.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("config", &self.0.config).finish_non_exhaustive()
    }
}
