//! A session after its hello: mail one way, acks the other.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use prost::Message as _;
use rand::Rng as _;
use spillway_api::internal::v1::{
    AcknowledgeRequest, FetchRequest, FetchResponse, MailboxHint, SessionOpened, StoredMessage,
    WhisperRequest, mailbox_hint::Hint,
};
use spillway_api::v1::{self, session_request, session_response::Frame};
use spillway_api::{FieldError, message_id};
use spillway_bus::{Event, Subscription};
use spillway_types::MessageId;
use tokio::time::{Instant, sleep_until};
use tonic::{Request, Status, Streaming};

use crate::Parts;
use crate::auth::{AuthError, Proof};
use crate::metrics::Source;
use crate::session::ack_batch::AckBatch;
use crate::session::backlog::{Backlog, Read};
use crate::session::hello::{Established, broken_frame, fresh_ticket};
use crate::session::in_flight::InFlight;
use crate::session::outbound::{Outbound, Progress};
use crate::session::sweep_schedule::SweepSchedule;
use crate::session::{SessionError, Stop};
use crate::wire::wire_duration;

/// Ids in one ack frame.
const ACK_IDS_MAX: usize = 256;
/// When a device could not be checked before its ticket was renewed, for want of an answer.
const REFRESH_RETRY: Duration = Duration::from_secs(30);

type Call<T> = BoxFuture<'static, Result<T, Status>>;

pub(super) struct Live {
    parts: Arc<Parts>,
    proof: Proof,
    opened: SessionOpened,
    inbound: Streaming<v1::SessionRequest>,
    hints: Box<dyn Subscription>,
    outbound: Outbound,
    in_flight: InFlight,
    acks: AckBatch,
    backlog: Backlog,
    sweeps: SweepSchedule,
    page: Option<Call<FetchResponse>>,
    /// At most one call at a time, so that a client which acks faster than the mailbox deletes is slowed down.
    acking: Option<Call<()>>,
    acking_ids: Vec<MessageId>,
    /// Since when the client has not read half of what waits for it. Nothing is delivered meanwhile.
    full_since: Option<Instant>,
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
    Cancelled,
    Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    Delivered,
    /// It has been delivered before, or cannot be.
    Skipped,
    NoRoom,
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
            sweeps: SweepSchedule::new(now),
            refresh_at: now + refresh_after(&parts),
            page: None,
            acking: None,
            acking_ids: Vec::new(),
            full_since: None,
            close_at: None,
            parts,
            proof,
            opened,
            inbound,
            hints,
            outbound,
        }
    }

    pub(super) async fn run(&mut self) -> Stop {
        let drain = self.parts.drain.clone();
        let mut draining = pin!(drain.draining());
        let mut cancelled = pin!(self.parts.sessions.cancelled());
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
                self.backlog.catch_up(Instant::now());
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
                self.migrate();
                Ok(())
            }
            Happened::Time => Ok(()),
        }
    }

    // What is due.

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
            self.backlog.sweep(now);
            self.sweeps.advance(now, rand::rng().random());
        }
        if now >= self.refresh_at { Box::pin(self.refresh(now)).await } else { None }
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

    fn migrate(&mut self) {
        let config = &self.parts.config.session;
        let after = config.migrate_spread.mul_f64(rand::rng().random());
        self.close_at = Some(Instant::now() + after + config.migrate_grace);
        self.outbound.push(Frame::Migrate(v1::Migrate { after: Some(wire_duration(after)) }));
    }

    fn start_calls(&mut self, now: Instant) {
        let room = self.room();
        let window = self.parts.config.session.in_flight_max;
        if self.page.is_none() && self.backlog.due(room, window).is_some_and(|due| due <= now) {
            let after = self.backlog.ask();
            self.in_flight.page_asked();
            self.page = Some(self.fetch(after, room));
        }
        if self.acking.is_none()
            && let Some(ids) = self.acks.take(now)
        {
            self.acking = Some(self.acknowledge(&ids));
            self.acking_ids = ids;
        }
    }

    // From the client.

    fn on_frame(&mut self, frame: Result<Option<v1::SessionRequest>, Status>) -> Result<(), Stop> {
        let bad =
            |field, problem: &str| Err(Stop::Failed(SessionError::Frame(FieldError::new(field, problem))));
        match frame {
            Ok(None) => Err(Stop::ClientLeft),
            Err(status) => Err(broken_frame(&status)),
            Ok(Some(request)) => match request.frame {
                Some(session_request::Frame::Ack(ack)) => self.on_ack(&ack),
                Some(session_request::Frame::Hello(_)) => bad("hello", "is the first frame only"),
                None => bad("frame", "is required"),
            },
        }
    }

    fn on_ack(&mut self, ack: &v1::Ack) -> Result<(), Stop> {
        let frame_error = |error| Stop::Failed(SessionError::Frame(error));
        if ack.ids.len() > ACK_IDS_MAX {
            let problem = format!("must have at most {ACK_IDS_MAX} entries");
            return Err(frame_error(FieldError::new("ack.ids", problem)));
        }
        let now = Instant::now();
        for id in &ack.ids {
            let id = message_id("ack.ids", id).map_err(frame_error)?;
            self.in_flight.acked(id);
            self.acks.push(id, now);
        }
        self.parts.metrics.acks.inc_by(ack.ids.len() as u64);
        Ok(())
    }

    fn on_acknowledged(&mut self, answer: Result<(), Status>) {
        self.acking = None;
        let ids = std::mem::take(&mut self.acking_ids);
        match answer {
            Ok(()) => {
                self.in_flight.deleted(&ids);
                self.acks.succeeded();
            }
            Err(status) => {
                tracing::debug!(code = ?status.code(), acks = ids.len(), "acks go again");
                self.acks.failed(ids, Instant::now());
            }
        }
    }

    // From the bus.

    fn on_hint(&mut self, hint: Bytes) -> Result<(), Stop> {
        let hint = MailboxHint::decode(hint).ok().and_then(|hint| hint.hint);
        match hint {
            Some(Hint::Stored(_)) if self.backlog.holds_hints() => self.backlog.catch_up(Instant::now()),
            Some(Hint::Stored(stored)) => {
                if self.offer(stored, Source::Hint) == Offer::NoRoom {
                    self.backlog.catch_up(Instant::now());
                }
            }
            Some(Hint::Wake(_)) => self.backlog.catch_up(Instant::now()),
            Some(Hint::Whisper(whisper)) => self.whisper(whisper),
            Some(Hint::SessionOpened(other)) => {
                let age = |opened: &SessionOpened| (opened.opened_at_us, opened.nonce);
                if age(&other) > age(&self.opened) {
                    return Err(Stop::Replaced);
                }
            }
            Some(Hint::DeviceRemoved(_)) => return Err(Stop::DeviceRemoved),
            None => tracing::error!("a mailbox hint cannot be read"),
        }
        Ok(())
    }

    fn whisper(&mut self, whisper: WhisperRequest) {
        let Ok(envelope) = v1::Envelope::decode(whisper.envelope) else {
            return tracing::error!("a whispered envelope cannot be read");
        };
        if self.full_since.is_none() {
            let (id, guid, envelope) = (Bytes::new(), whisper.guid, Some(envelope));
            self.outbound.push(Frame::Delivery(v1::Delivery { id, guid, envelope, ephemeral: true }));
            self.parts.metrics.deliveries.count(Source::Whisper);
            self.note_fullness();
        }
    }

    // From the mailbox.

    fn on_page(&mut self, page: Result<FetchResponse, Status>) {
        self.page = None;
        let now = Instant::now();
        match page {
            Ok(page) => self.deliver_page(page, now),
            Err(status) => {
                tracing::debug!(code = ?status.code(), "a page is asked for again");
                self.backlog.failed(now);
            }
        }
        self.in_flight.page_handled();
    }

    fn deliver_page(&mut self, page: FetchResponse, now: Instant) {
        let mut last = None;
        for stored in page.messages {
            let id = message_id("id", &stored.id).ok();
            if self.offer(stored, Source::Store) == Offer::NoRoom {
                return self.backlog.no_room(last, now);
            }
            last = id.or(last);
        }
        if self.backlog.page(last, page.more, now) == Read::FirstFinished {
            self.outbound.push(Frame::QueueEmpty(v1::QueueEmpty {}));
        }
    }

    fn offer(&mut self, stored: StoredMessage, source: Source) -> Offer {
        let Ok(id) = message_id("id", &stored.id) else {
            tracing::error!("a stored message's id cannot be read");
            return Offer::Skipped;
        };
        if self.in_flight.contains(id) {
            return Offer::Skipped;
        }
        if self.room() == 0 {
            return Offer::NoRoom;
        }
        let Ok(envelope) = v1::Envelope::decode(stored.envelope) else {
            tracing::error!(%id, "a stored envelope cannot be read");
            return Offer::Skipped;
        };
        self.in_flight.delivered(id);
        self.outbound.push(Frame::Delivery(v1::Delivery {
            id: stored.id,
            guid: stored.guid,
            envelope: Some(envelope),
            ephemeral: false,
        }));
        self.parts.metrics.deliveries.count(source);
        self.note_fullness();
        Offer::Delivered
    }

    fn room(&self) -> usize {
        if self.full_since.is_some() { 0 } else { self.in_flight.room() }
    }

    fn note_fullness(&mut self) {
        if self.outbound.is_full() {
            self.full_since.get_or_insert_with(Instant::now);
        }
    }

    fn fetch(&self, after: Option<MessageId>, room: usize) -> Call<FetchResponse> {
        let config = &self.parts.config.session;
        // From the watermark on, what the client has not acked yet comes first.
        let wanted = if after.is_none() { room + self.in_flight.known() } else { room };
        let messages_max = u32::try_from(wanted).unwrap_or(u32::MAX).min(config.page_messages_max);
        let mut request = Request::new(FetchRequest {
            mailbox_id: Bytes::copy_from_slice(self.proof.caller.mailbox.as_bytes()),
            after: after.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id.to_bytes())),
            messages_max,
            bytes_max: config.page_bytes_max,
        });
        request.set_timeout(config.call_timeout);
        let mut mailbox = self.parts.mailbox.clone();
        async move { Ok(mailbox.fetch(request).await?.into_inner()) }.boxed()
    }

    fn acknowledge(&self, ids: &[MessageId]) -> Call<()> {
        let mut request = Request::new(AcknowledgeRequest {
            mailbox_id: Bytes::copy_from_slice(self.proof.caller.mailbox.as_bytes()),
            ids: ids.iter().map(|id| Bytes::copy_from_slice(&id.to_bytes())).collect(),
        });
        request.set_timeout(self.parts.config.session.call_timeout);
        let mut mailbox = self.parts.mailbox.clone();
        async move { mailbox.acknowledge(request).await.map(drop) }.boxed()
    }
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
