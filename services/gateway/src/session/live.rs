//! A session after its hello: the loop that waits for what can happen. What then happens to mail is in [`mail`], what
//! the client says in [`client`].

mod client;
mod mail;

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rand::Rng as _;
use spillway_api::internal::v1::{FetchResponse, SessionOpened};
use spillway_api::v1::{self, session_response::Frame};
use spillway_bus::{Event, Subscription};
use spillway_types::{MessageId, Timestamp};
use tokio::time::{Instant, sleep_until};
use tonic::{Status, Streaming};

use crate::Parts;
use crate::auth::{AuthError, Proof};
use crate::session::Stop;
use crate::session::ack_batch::AckBatch;
use crate::session::backlog::Backlog;
use crate::session::hello::{Established, fresh_ticket};
use crate::session::in_flight::InFlight;
use crate::session::outbound::{Outbound, Progress};
use crate::session::sweep_schedule::SweepSchedule;
use crate::wire::wire_duration;

/// When a device could not be checked before its ticket was renewed, for want of an answer.
const REFRESH_RETRY: Duration = Duration::from_secs(30);

type Call<T> = BoxFuture<'static, Result<T, Status>>;

pub(super) struct Live {
    parts: Arc<Parts>,
    proof: Proof,
    opened: SessionOpened,
    opened_here: Instant,
    inbound: Streaming<v1::SessionRequest>,
    hints: Box<dyn Subscription>,
    outbound: Outbound,
    in_flight: InFlight,
    acks: AckBatch,
    backlog: Backlog,
    sweeps: SweepSchedule,
    /// The mailbox's settled watermark, as its pages told, in whole seconds since the Unix epoch: a lower one is right too, and every byte
    /// here counts a million times. 0 before the first.
    settled_s: u32,
    page: Option<Call<FetchResponse>>,
    /// At most one call at a time, so that a client which acks faster than the mailbox deletes is slowed down.
    acking: Option<Call<()>>,
    acking_ids: Vec<MessageId>,
    /// Since when the client has not read half of what waits for it. Nothing is delivered meanwhile.
    full_since: Option<Instant>,
    /// When a message last found no room. What was sent before then may have waited for the device.
    no_room_at: Timestamp,
    /// Messages that the first read has brought so far.
    first_read: u32,
    refresh_at: Instant,
    close_at: Option<Instant>,
}

/// What a session waits for.
enum Happened {
    Frame(Result<Option<v1::SessionRequest>, Status>),
    Hint(Option<Event>),
    Page(Result<FetchResponse, Status>),
    Acknowledged(Result<(), Status>),
    Progress(Progress),
    DrainBegan,
    MyMove,
    Cancelled,
    Time,
}

impl Live {
    pub(super) fn new(
        parts: Arc<Parts>,
        established: Established,
        inbound: Streaming<v1::SessionRequest>,
        outbound: Outbound,
    ) -> Self {
        let Established { proof, hints, opened } = established;
        let now = Instant::now();
        let config = &parts.config.session;
        Self {
            in_flight: InFlight::new(config.in_flight_max),
            acks: AckBatch::new(config.ack_delay, config.ack_batch),
            backlog: Backlog::new(now),
            sweeps: SweepSchedule::new(now, rand::rng().random()),
            settled_s: 0,
            refresh_at: now + refresh_after(&parts),
            page: None,
            acking: None,
            acking_ids: Vec::new(),
            full_since: None,
            no_room_at: Timestamp::ZERO,
            first_read: 0,
            close_at: None,
            parts,
            proof,
            opened,
            opened_here: now,
            inbound,
            hints,
            outbound,
        }
    }

    pub(super) async fn run(&mut self) -> Stop {
        let drain = self.parts.drain.clone();
        let mut draining = pin!(drain.draining());
        let mut cancelled = pin!(self.parts.sessions.cancelled());
        let balance = self.parts.balance.clone();
        let mut my_move = pin!(balance.my_move());
        let mut timer = pin!(sleep_until(Instant::now()));
        loop {
            if let Some(stop) = self.on_time(Instant::now()).await {
                return stop;
            }
            self.start_calls(Instant::now());
            let wake_at = self.wake_at();
            if timer.deadline() != wake_at {
                timer.as_mut().reset(wake_at);
            }
            let happened = tokio::select! {
                frame = self.inbound.message(), if !self.acks.is_full() => Happened::Frame(frame),
                hint = self.hints.next() => Happened::Hint(hint),
                page = done(&mut self.page) => Happened::Page(page),
                acknowledged = done(&mut self.acking) => Happened::Acknowledged(acknowledged),
                progress = self.outbound.progress(self.full_since.is_some()) => Happened::Progress(progress),
                () = &mut draining, if self.close_at.is_none() => Happened::DrainBegan,
                () = &mut my_move, if self.close_at.is_none() => {
                    my_move.set(balance.my_move());
                    Happened::MyMove
                }
                () = &mut cancelled => Happened::Cancelled,
                () = &mut timer => Happened::Time,
            };
            if let Err(stop) = self.on(happened) {
                return stop;
            }
        }
    }

    /// Tells the client why, and gives the mailbox the acks that it has not got yet.
    pub(super) async fn finish(mut self: Box<Self>, stop: Stop) {
        if matches!(stop, Stop::SlowReader) {
            self.outbound.clear();
        }
        self.outbound.end(stop.ending());
        if let Some(acking) = self.acking.take()
            && acking.await.is_err()
        {
            self.acks.failed(std::mem::take(&mut self.acking_ids), Instant::now());
        }
        while let Some(ids) = self.acks.take_now(Instant::now()) {
            if let Err(status) = self.acknowledge(&ids).await {
                // The device will see these again, and drop them.
                tracing::debug!(code = ?status.code(), acks = ids.len(), "acks were lost with their session");
                return;
            }
        }
    }

    fn on(&mut self, happened: Happened) -> Result<(), Stop> {
        match happened {
            Happened::Frame(frame) => self.on_frame(frame),
            Happened::Hint(Some(Event::Hint(hint))) => self.on_hint(hint),
            Happened::Hint(Some(Event::Lagged)) => {
                let now = Instant::now();
                self.backlog.outage(now);
                self.sweeps = SweepSchedule::new(now, rand::rng().random());
                Ok(())
            }
            // The bus is gone for good only when the process is.
            Happened::Hint(None) | Happened::Cancelled => Err(Stop::Draining),
            Happened::Page(page) => {
                self.on_page(page);
                Ok(())
            }
            Happened::Acknowledged(answer) => {
                self.on_acknowledged(answer);
                Ok(())
            }
            Happened::Progress(Progress::ClientLeft) => Err(Stop::ClientLeft),
            Happened::Progress(Progress::Drained) => {
                self.full_since = None;
                Ok(())
            }
            Happened::DrainBegan => {
                self.migrate(self.parts.config.session.migrate_spread);
                Ok(())
            }
            Happened::MyMove if !self.parts.balance.is_moving() => Ok(()),
            Happened::MyMove => {
                self.parts.metrics.sessions_moved.inc();
                // Within the second until the next ones are told.
                self.migrate(Duration::from_secs(1));
                Ok(())
            }
            Happened::Time => Ok(()),
        }
    }

    fn wake_at(&self) -> Instant {
        let config = &self.parts.config.session;
        let slow_at = self.full_since.map(|since| since + config.slow_reader_timeout);
        let page_at =
            self.page.is_none().then(|| self.backlog.due(self.room(), config.in_flight_max)).flatten();
        let ack_at = self.acking.is_none().then(|| self.acks.due()).flatten();
        let optional = [slow_at, page_at, ack_at, self.close_at].into_iter().flatten();
        optional.fold(self.refresh_at.min(self.sweeps.next()), Instant::min)
    }

    async fn on_time(&mut self, now: Instant) -> Option<Stop> {
        let config = &self.parts.config.session;
        if self.full_since.is_some_and(|since| now >= since + config.slow_reader_timeout) {
            return Some(Stop::SlowReader);
        }
        if self.close_at.is_some_and(|close_at| now >= close_at) {
            return Some(Stop::Draining);
        }
        if now >= self.sweeps.next() {
            self.sweep(now);
        }
        if now >= self.refresh_at { Box::pin(self.refresh(now)).await } else { None }
    }

    fn sweep(&mut self, now: Instant) {
        let chance = rand::rng().random();
        let others_wait = self.parts.reads_in_turn.available_permits() == 0;
        if !(others_wait && self.sweeps.put_off(now, chance)) {
            self.backlog.sweep(now);
            self.sweeps.advance(now, chance);
        }
    }

    async fn refresh(&mut self, now: Instant) -> Option<Stop> {
        match self.parts.auth.renew(self.proof).await {
            Ok(proof) => {
                self.proof = proof;
                self.outbound.push(Frame::Ticket(fresh_ticket(&self.parts, &proof)));
                self.note_fullness();
                self.refresh_at = now + refresh_after(&self.parts);
                None
            }
            Err(AuthError::Removed) => Some(Stop::DeviceRemoved),
            Err(error) => {
                tracing::debug!(error = %spillway_rpc::Chain(&error), "a ticket could not be renewed yet");
                self.refresh_at = now + REFRESH_RETRY;
                None
            }
        }
    }

    /// At a time of its own within `spread`, so that those who are told together do not come together.
    fn migrate(&mut self, spread: Duration) {
        let config = &self.parts.config.session;
        let after = spread.mul_f64(rand::rng().random());
        self.close_at = Some(Instant::now() + after + config.migrate_grace);
        self.outbound.push(Frame::Migrate(v1::Migrate { after: Some(wire_duration(after)) }));
    }

    fn start_calls(&mut self, now: Instant) {
        let room = self.room();
        let window = self.parts.config.session.in_flight_max;
        if self.page.is_none() && self.backlog.due(room, window).is_some_and(|due| due <= now) {
            let after = self.backlog.ask();
            self.in_flight.page_asked();
            self.page = Some(self.fetch(after, room, self.backlog.turn()));
        }
        if self.acking.is_none()
            && let Some(ids) = self.acks.take(now)
        {
            self.acking = Some(self.acknowledge(&ids));
            self.acking_ids = ids;
        }
    }
}

#[cfg(test)]
pub(super) fn run_size() -> usize {
    fn output_size<'a, F: 'a>(_: impl FnOnce(&'a mut Live) -> F) -> usize {
        size_of::<F>()
    }
    output_size(Live::run)
}

/// Well before the token expires, so that the client always holds a good one.
fn refresh_after(parts: &Parts) -> Duration {
    parts.config.identity.token_lifetime.mul_f64(rand::rng().random_range(0.7..0.8))
}

/// Waits for a call, if one is under way. Cancel-safe.
async fn done<T>(call: &mut Option<Call<T>>) -> Result<T, Status> {
    match call {
        Some(call) => call.await,
        None => pending().await,
    }
}
