//! Sends at a fixed rate, whatever becomes of them, and what became of them by the second in which they were due.

mod seconds;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use spillway_api::v1;
use spillway_client::Outgoing;
use spillway_types::{Clock, Guid, SystemClock};
use surge::curve::Curve;
use surge::ledger::Conversation;
use surge::pacer::{Pacer, StopHandle};
use surge::population::registration_id;
use surge::schedule::{Arrivals, Schedule};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::phone::Phone;
use super::world::{Shared, World};
use crate::bench::ENVELOPE_BYTES;

use self::seconds::End;
pub(super) use self::seconds::Seconds;

/// A case that runs longer than this hangs.
const LOAD_MAX: Duration = Duration::from_secs(1_800);
/// Everybody has one device.
const DEVICE: u32 = 1;

#[derive(Debug)]
pub(super) struct Load {
    pub(super) seconds: Arc<Seconds>,
    failures: Arc<Failures>,
    stop: StopHandle,
    driver: JoinSet<()>,
}

/// Sends that failed, by what the sender was told.
#[derive(Debug, Default)]
struct Failures(Mutex<BTreeMap<String, u64>>);

/// What a load came to.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) failed: u64,
    /// Seconds in which less than nine of ten sends were answered in time.
    pub(super) bad_seconds: u64,
    /// Such as `3 × no usable answer (unavailable)`.
    pub(super) reasons: String,
}

impl Load {
    /// The seed draws who writes to whom.
    pub(super) fn start(world: &World, per_s: f64, seed: u64) -> Result<Self> {
        let curve = Curve::constant(per_s, LOAD_MAX).context("no such rate")?;
        let started = Instant::now();
        let schedule = Schedule::new((), Arc::new(curve), Arrivals::Uniform, seed);
        let pacer = Pacer::start(started, schedule).context("no thread for the pacer")?;
        let stop = pacer.stop_handle();
        let seconds = Arc::new(Seconds::new(started));
        let failures = Arc::new(Failures::default());
        let mut driver = JoinSet::new();
        let sender =
            Sender { shared: world.shared.clone(), seconds: seconds.clone(), failures: failures.clone() };
        driver.spawn(drive(pacer, world.people.clone(), sender, StdRng::seed_from_u64(seed)));
        Ok(Self { seconds, failures, stop, driver })
    }

    /// Ends the load and waits for what is under way, which its callers bound by their deadlines.
    pub(super) async fn finish(mut self) -> Tally {
        self.stop.stop();
        while self.driver.join_next().await.is_some() {}
        let failures = self.failures.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reasons: Vec<_> = failures.iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
        Tally {
            failed: failures.values().sum(),
            bad_seconds: self.seconds.bad(),
            reasons: reasons.join(", "),
        }
    }
}

async fn drive(mut pacer: Pacer<()>, people: Arc<[Arc<Phone>]>, sender: Sender, mut random: StdRng) {
    let mut sends = JoinSet::new();
    while let Some(due) = pacer.next().await {
        while sends.try_join_next().is_some() {}
        let from = random.random_range(0..people.len());
        // Anybody but the sender.
        let to = (from + random.random_range(1..people.len())) % people.len();
        sender.seconds.due(due.planned);
        sends.spawn(sender.clone().send(people[from].clone(), people[to].clone(), due.planned));
    }
    while sends.join_next().await.is_some() {}
}

#[derive(Clone)]
struct Sender {
    shared: Arc<Shared>,
    seconds: Arc<Seconds>,
    failures: Arc<Failures>,
}

impl Sender {
    async fn send(self, from: Arc<Phone>, to: Arc<Phone>, planned: Instant) {
        let ledger = &self.shared.ledger;
        let person = |phone: &Phone| u32::try_from(phone.index).unwrap_or(u32::MAX);
        let conversation = Conversation { sender: person(&from), receiver: person(&to), device: DEVICE };
        let ticket = ledger.send(conversation);
        let content = ledger.encode(ticket, SystemClock.now(), ENVELOPE_BYTES);
        let envelope = v1::DeviceEnvelope {
            device_id: DEVICE,
            registration_id: registration_id(to.index),
            content: Bytes::from(content),
        };
        let message = Outgoing {
            to: to.identity.account(),
            guid: Guid::random(),
            envelopes: vec![envelope],
            ephemeral: false,
            urgent: false,
        };
        let failure = match from.client().send(&from.identity, message).await {
            Ok(sent) if sent.full_devices.is_empty() => {
                ledger.acked(ticket);
                self.seconds.ended(planned, End::Acked);
                return;
            }
            Ok(_) => "the mailbox is full".to_owned(),
            Err(error) => error.to_string(),
        };
        ledger.gave_up(ticket);
        self.seconds.ended(planned, End::Failed);
        *self.failures.0.lock().unwrap_or_else(PoisonError::into_inner).entry(failure).or_default() += 1;
    }
}
