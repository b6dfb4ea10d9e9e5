//! What the people do: existing users who talk all the time, and newcomers who follow the curve.
//!
//! Everybody has a connection of their own, as phones do. Nobody's work waits for anybody else's answer: each
//! planned arrival is a task.

mod comeback;
mod door;
mod existing;
mod manner;
mod newcomer;
pub(crate) mod outcome;
mod pumper;
mod reachable;
mod receive;
mod sending;
mod somebody;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use spillway_api::Reason;
use spillway_client::{CallError, ClientConfig, Meter};
use spillway_types::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use comeback::Comeback;
pub(crate) use existing::ORDERS_MAX;
pub use existing::{ExistingUser, Life, Order, away, sign_up_existing};
pub use newcomer::{Newcomer, sign_up};
pub use pumper::pump;
pub use reachable::is_reachable;
pub(crate) use receive::{REOPENS_WITHIN, SEEN_MAX};
pub(crate) use sending::{Entered, Letter, Posted, enter, post, send};
pub use somebody::{Contact, Somebody};

use crate::codes::Phones;
use crate::cohorts::Crowd;
use crate::ledger::Ledger;
use crate::load::Behaviour;
use crate::population::Population;
use crate::room::Room;
use crate::stats::{Operation, Stats};
use crate::workers::Offset;

/// The steps of a newcomer's way in; each is timed from its own start.
pub const ENTER_ROOM: Operation = Operation("enter_room");
pub const POLL_ROOM: Operation = Operation("poll_room");
/// From the admission, or the first call where none is needed, to the account.
pub const FINISH_SIGN_UP: Operation = Operation("finish_sign_up");
pub const START_VERIFICATION: Operation = Operation("start_verification");
pub const RECEIVE_CODE: Operation = Operation("receive_code");
pub const RESEND_CODE: Operation = Operation("resend_code");
pub const CHECK_CODE: Operation = Operation("check_code");
/// A code that was mistyped.
pub const WRONG_CODE: Operation = Operation("wrong_code");
pub const CREATE_ACCOUNT: Operation = Operation("create_account");
pub const DISCOVER: Operation = Operation("discover_contacts");
pub const OPEN_SESSION: Operation = Operation("open_session");
pub const FETCH_KEYS: Operation = Operation("fetch_keys");
pub const FIRST_SEND: Operation = Operation("first_send");
/// Asking for a code to a number that is pumped, the wait for a turn included.
pub const PUMP: Operation = Operation("pump");
/// An existing user's answer to a newcomer.
pub const REPLY: Operation = Operation("reply");
/// From the moment a message was sent to its arrival at a device that is online.
pub const DELIVER: Operation = Operation("deliver");
/// One try of somebody who lost the connection, or was offline, to have a session.
pub const RECONNECT: Operation = Operation("reconnect");
/// From the loss, or from opening the app, to the session, with all tries and pauses.
pub const BACK: Operation = Operation("back_online");
/// From an open session to the end of what had been kept for it.
pub const BACKLOG: Operation = Operation("backlog");

/// What stays the same for a whole run.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Bytes of a message's content.
    pub content_bytes: usize,
    /// Numbers in a newcomer's address book.
    pub contacts: usize,
    /// Share of them that have an account.
    pub contacts_registered: f64,
    /// How long a newcomer stays after the first answer.
    pub linger: Duration,
    /// How long a phone waits for its code.
    pub code_patience: Duration,
    /// When a person asks for another one, if that is allowed by then.
    pub resend_after: Duration,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            content_bytes: 512,
            contacts: 50,
            // One in ten: the share of contacts already on a messenger that doubles in a month.
            contacts_registered: 0.1,
            linger: Duration::from_secs(2),
            code_patience: Duration::from_secs(60),
            resend_after: Duration::from_secs(30),
        }
    }
}

/// Where everybody lives: shared by all journeys of a run.
#[derive(Debug)]
pub struct World {
    pub address: String,
    pub client: ClientConfig,
    pub population: Population,
    /// People below this index are existing users.
    pub existing: u32,
    pub habits: Habits,
    pub behaviour: Behaviour,
    /// People below this index are existing users and those of the probe, who do not behave as the load says.
    pub newcomers_from: u32,
    pub phones: Phones,
    /// Who of the existing users behaves how.
    pub crowd: Crowd,
    pub ledger: Ledger,
    /// Replaced between the parts of a run, so that set-up and probe are not in the figures.
    pub stats: ArcSwap<Stats>,
    /// Replaced with it.
    pub room: ArcSwap<Room>,
    /// Whether the service lets nobody sign up who does not come through its waiting room. Found out by the first who does not.
    pub room_required: AtomicBool,
    /// Only ever goes on.
    pub stage: watch::Sender<Stage>,
    /// Counts calls and their repetitions by the client.
    pub meter: Meter,
    /// Messages that people sent again, each of which the meter takes for a first attempt.
    pub sent_again: AtomicU64,
    /// What people had wanted, and how often it had been asked for, when answers that were late on purpose were in time again.
    pub asked_until_recovery: OnceLock<(u64, u64)>,
    /// Sends that have not been answered.
    pub sending: AtomicUsize,
    /// Sign-ups under way of those whose turn has come.
    pub finishing: AtomicUsize,
    /// To the clock that everybody in the run goes by.
    pub clock: Offset,
}

/// Counted while it lives.
#[derive(Debug)]
pub(crate) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// How far a run is, for those who live in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Running,
    /// Nobody comes any more. Who was told to come back later gives up; who is under way, or has a place in the waiting room, goes on.
    Closing,
    /// Nobody begins to send: what is acknowledged from here on could not be seen to arrive. Who still waits for a turn goes home with the place.
    Quiet,
    /// Everybody goes home.
    Over,
}

impl World {
    pub fn stats(&self) -> Arc<Stats> {
        self.stats.load_full()
    }

    pub fn room(&self) -> Arc<Room> {
        self.room.load_full()
    }

    /// Resolves when the run has come so far.
    pub async fn reached(&self, stage: Stage) {
        // The sender lives in the world, so the wait ends with the run and not before.
        self.stage.subscribe().wait_for(|now| *now >= stage).await.ok();
    }

    /// What came of it, unless the load is over before: then it is cut off, which is nobody's fault.
    pub(crate) async fn unless_closing<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.reached(Stage::Closing) => None,
            done = work => Some(done),
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.stage.borrow() >= Stage::Closing
    }

    /// Resolves when the run is over.
    pub async fn over(&self) {
        self.reached(Stage::Over).await;
    }

    pub fn is_existing(&self, index: u32) -> bool {
        index < self.existing
    }

    /// When a message was sent, as a moment of this process.
    pub(crate) fn moment(&self, sent_at: Timestamp) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.clock.now().since(sent_at)).unwrap_or(now)
    }

    /// A phone that connects when it has something to say.
    pub(crate) fn connect_lazily(&self) -> Result<spillway_client::Client, spillway_client::ConnectError> {
        spillway_client::Client::lazy(&self.address, self.client.clone())
    }

    /// Connects one person's phone.
    pub(crate) async fn connect(&self) -> Result<spillway_client::Client, spillway_client::ConnectError> {
        spillway_client::Client::connect(&self.address, self.client.clone()).await
    }
}

/// How long, if the service had no room. Whoever asks too often, or wrongly, gives up.
fn told_to_wait(error: &CallError) -> Option<Duration> {
    match error {
        CallError::HeldBack { retry_after } => Some(*retry_after),
        CallError::Refused(refusal) if refusal.reason == Reason::Overload => refusal.retry_after,
        CallError::Refused(_) | CallError::Transport(_) => None,
    }
}
