//! What comes from the bus and the mailbox: mail, mostly.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use prost::Message as _;
use spillway_admission::Tier;
use spillway_api::internal::v1::{
    FetchRequest, FetchResponse, MailboxHint, SessionOpened, StoredMessage, WhisperRequest,
    mailbox_hint::Hint,
};
use spillway_api::message_id;
use spillway_api::v1::{self, session_response::Frame};
use spillway_chassis::traces::{self, TraceParent};
use spillway_rpc::Class;
use spillway_types::MessageId;
use tokio::time::Instant;
use tonic::{Request, Status};
use tracing::Span;

use crate::metrics::{Route, Source};
use crate::session::Stop;
use crate::session::backlog::Read;
use crate::session::live::{Call, Live};

/// In a second.
const MICROS: u64 = 1_000_000;

/// Clocks that differ by more than 5 s refuse to work (see the mailbox's window); the rest is for a hint that is late.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    Delivered,
    /// It has been delivered before, or cannot be.
    Skipped,
    NoRoom,
}

impl Live {
    pub(super) fn on_hint(&mut self, hint: Bytes) -> Result<(), Stop> {
        let hint = MailboxHint::decode(hint).unwrap_or_default();
        let delivery =
            TraceParent::parse(&hint.traceparent).map_or_else(Span::none, |of| traces::delivery(&of));
        delivery.in_scope(|| self.on_news(hint.hint))
    }

    fn on_news(&mut self, hint: Option<Hint>) -> Result<(), Stop> {
        match hint {
            Some(Hint::Stored(_)) if self.backlog.holds_hints() => self.backlog.catch_up(Instant::now()),
            Some(Hint::Stored(stored)) => {
                if self.offer(stored, Source::Hint) == Offer::NoRoom {
                    self.backlog.catch_up(Instant::now());
                }
            }
            Some(Hint::Wake(_)) => self.backlog.catch_up(Instant::now()),
            Some(Hint::Whisper(whisper)) => self.whisper(whisper),
            Some(Hint::SessionOpened(other)) if self.is_older_than(&other) => return Err(Stop::Replaced),
            Some(Hint::SessionOpened(_)) => {}
            Some(Hint::DeviceRemoved(_)) => return Err(Stop::DeviceRemoved),
            None => tracing::error!("a mailbox hint cannot be read"),
        }
        Ok(())
    }

    /// Of one device's sessions the newest wins. Gateways' clocks differ by some seconds, so they decide only between
    /// sessions that opened at nearly the same time: a session that has been open for longer than that hears of
    /// newer ones only.
    fn is_older_than(&self, other: &SessionOpened) -> bool {
        if other.nonce == self.opened.nonce {
            return false;
        }
        let age = |opened: &SessionOpened| (opened.opened_at_us, opened.nonce);
        self.opened_here.elapsed() > CLOCKS_DIFFER_MAX || age(other) > age(&self.opened)
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

    pub(super) fn on_page(&mut self, page: Result<FetchResponse, Status>) {
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
        self.settled_s = self.settled_s.max(u32::try_from(page.settled_us / MICROS).unwrap_or(0));
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
            self.parts.metrics.delivery.caught_up(self.first_read);
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
            self.no_room_at = self.parts.clock.now();
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
        self.count_delivery(id, source);
        self.note_fullness();
        Offer::Delivered
    }

    fn count_delivery(&mut self, id: MessageId, source: Source) {
        let sent = id.time();
        let route = match source {
            Source::Hint => Route::Hint,
            Source::Store | Source::Whisper if sent.as_micros() < self.opened.opened_at_us => Route::Backlog,
            Source::Store | Source::Whisper if sent <= self.no_room_at => Route::Held,
            Source::Store | Source::Whisper => Route::Found,
        };
        if self.backlog.is_first_read() {
            self.first_read += 1;
        }
        self.parts.metrics.delivery.took(route, self.parts.clock.now().since(sent));
    }

    pub(super) fn room(&self) -> usize {
        if self.full_since.is_some() { 0 } else { self.in_flight.room() }
    }

    pub(super) fn note_fullness(&mut self) {
        if self.outbound.is_full() {
            self.full_since.get_or_insert_with(Instant::now);
        }
    }

    /// With a turn: not more at a time than [`SessionConfig::reads_in_turn`](crate::SessionConfig::reads_in_turn), and as calls of that
    /// tier.
    pub(super) fn fetch(
        &self,
        after: Option<MessageId>,
        room: usize,
        turn: Option<Tier>,
    ) -> Call<FetchResponse> {
        let config = &self.parts.config.session;
        // From the watermark on, what the client has not acked yet comes first.
        let wanted = if after.is_none() { room + self.in_flight.known() } else { room };
        let messages_max = u32::try_from(wanted).unwrap_or(u32::MAX).min(config.page_messages_max);
        let mut request = Request::new(FetchRequest {
            mailbox_id: Bytes::copy_from_slice(self.proof.caller.mailbox.as_bytes()),
            after: after.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id.to_bytes())),
            messages_max,
            bytes_max: config.page_bytes_max,
            settled_us: u64::from(self.settled_s) * MICROS,
        });
        request.set_timeout(config.call_timeout);
        let mut mailbox = self.parts.mailbox.clone();
        let fetch = async move { Ok(mailbox.fetch(request).await?.into_inner()) };
        let Some(tier) = turn else {
            return fetch.boxed();
        };
        let turns = Arc::clone(&self.parts.reads_in_turn);
        let class = Class::current().map(|class| class.with_tier(tier));
        async move {
            let _turn = turns.acquire_owned().await.expect("it is never closed");
            match class {
                Some(class) => class.scope(fetch).await,
                None => fetch.await,
            }
        }
        .boxed()
    }
}
