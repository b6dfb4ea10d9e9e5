use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use spillway_admission::Tier;
use spillway_api::internal::v1::mailbox_server::Mailbox;
use spillway_api::internal::v1::{
    AcknowledgeRequest, AcknowledgeResponse, AppendRequest, AppendResponse, FetchRequest, FetchResponse,
    MailboxHint, PurgeRequest, PurgeResponse, StoredMessage, WhisperRequest, WhisperResponse,
    append_response::Outcome, mailbox_hint::Hint,
};
use spillway_api::{Reason, Refusal, v1};
use spillway_bus::{Bus as _, LocalBus, Subject};
use spillway_rpc::Class;
use spillway_types::{Guid, MailboxId, MessageIdGenerator, TestClock};
use tonic::{Request, Response, Status};

/// What the mailbox does with the next appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Unavailable,
    /// Stores the message and never answers.
    SilentAfterStoring,
    OutOfWindow,
}

/// Mailboxes in memory that record what they are asked.
#[derive(Clone)]
pub(crate) struct FakeMailbox(Arc<Shared>);

/// The watermark of every mailbox.
pub(crate) const SETTLED_US: u64 = 1_610_000_000_000_000;

struct Shared {
    bus: Arc<LocalBus>,
    ids: MessageIdGenerator,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    stored: HashMap<Bytes, BTreeMap<Bytes, StoredMessage>>,
    pub(crate) appends: Vec<AppendRequest>,
    pub(crate) whispers: Vec<WhisperRequest>,
    pub(crate) acknowledges: Vec<AcknowledgeRequest>,
    pub(crate) fetches: usize,
    /// Whose mailbox each fetch was of.
    pub(crate) fetched: Vec<MailboxId>,
    /// How long the next ones take.
    pub(crate) fetches_take: Duration,
    /// What each fetch knew of the watermark.
    pub(crate) known_settled_us: Vec<u64>,
    /// Of each call, what it is and how important.
    pub(crate) classes: Vec<(&'static str, Option<Tier>)>,
    /// How the next appends fail; when empty, they do not.
    pub(crate) append_faults: std::collections::VecDeque<Fault>,
    pub(crate) append_always: Option<Fault>,
    pub(crate) acknowledge_failures: usize,
    pub(crate) full: HashSet<MailboxId>,
    pub(crate) near_full: HashSet<MailboxId>,
    pub(crate) loses_hints: bool,
}

impl FakeMailbox {
    pub(crate) fn new(bus: Arc<LocalBus>, clock: TestClock) -> Self {
        let ids = MessageIdGenerator::new(Arc::new(clock));
        Self(Arc::new(Shared { bus, ids, state: Mutex::default() }))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Puts messages into a mailbox without a hint, as if they had come while the device was away.
    pub(crate) fn fill(&self, mailbox: MailboxId, count: usize, bytes: usize) -> Vec<Bytes> {
        let envelope = v1::Envelope { content: vec![7; bytes].into(), ..Default::default() };
        let envelope = Bytes::from(envelope.encode_to_vec());
        let one = |_| {
            let id = Bytes::copy_from_slice(&self.0.ids.mint().to_bytes());
            let guid = Bytes::copy_from_slice(Guid::random().as_bytes());
            let stored = StoredMessage { id: id.clone(), guid, envelope: envelope.clone() };
            self.state().mailbox(mailbox).insert(id.clone(), stored);
            id
        };
        (0..count).map(one).collect()
    }

    pub(crate) fn stored(&self, mailbox: MailboxId) -> Vec<StoredMessage> {
        self.state().mailbox(mailbox).values().cloned().collect()
    }
}

impl State {
    fn mailbox(&mut self, mailbox: MailboxId) -> &mut BTreeMap<Bytes, StoredMessage> {
        self.stored.entry(Bytes::copy_from_slice(mailbox.as_bytes())).or_default()
    }
}

impl FakeMailbox {
    fn note(&self, call: &'static str) {
        let tier = Class::current().map(|class| class.level.tier());
        self.state().classes.push((call, tier));
    }
}

#[tonic::async_trait]
impl Mailbox for FakeMailbox {
    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        self.note("append");
        let request = request.into_inner();
        let mailbox = MailboxId::try_from(&request.mailbox_id[..]).unwrap();
        let (fault, loses_hints, full, near_full) = {
            let mut state = self.state();
            state.appends.push(request.clone());
            let fault = state.append_always.or_else(|| state.append_faults.pop_front());
            let (full, near_full) = (state.full.contains(&mailbox), state.near_full.contains(&mailbox));
            (fault, state.loses_hints, full, near_full)
        };
        match fault {
            Some(Fault::Unavailable) => return Err(Status::unavailable("scripted")),
            Some(Fault::OutOfWindow) => {
                return Err(Refusal::new(Reason::IdOutOfWindow, "scripted").into_status());
            }
            Some(Fault::SilentAfterStoring) | None => {}
        }
        if full {
            let outcome = Outcome::Full.into();
            return Ok(Response::new(AppendResponse { outcome, near_full: true }));
        }
        let stored = StoredMessage { id: request.id.clone(), guid: request.guid, envelope: request.envelope };
        self.state().mailbox(mailbox).insert(request.id, stored.clone());
        if fault == Some(Fault::SilentAfterStoring) {
            std::future::pending::<()>().await;
        }
        if !loses_hints {
            let hint = MailboxHint { hint: Some(Hint::Stored(stored)), ..MailboxHint::default() };
            self.0.bus.publish(Subject::Mailbox(mailbox), hint.encode_to_vec().into()).await.unwrap();
        }
        Ok(Response::new(AppendResponse { outcome: Outcome::Stored.into(), near_full }))
    }

    async fn whisper(&self, request: Request<WhisperRequest>) -> Result<Response<WhisperResponse>, Status> {
        self.note("whisper");
        let whisper = request.into_inner();
        self.state().whispers.push(whisper.clone());
        let subject = Subject::Mailbox(MailboxId::try_from(&whisper.mailbox_id[..]).unwrap());
        let hint = MailboxHint { hint: Some(Hint::Whisper(whisper)), ..MailboxHint::default() };
        self.0.bus.publish(subject, hint.encode_to_vec().into()).await.unwrap();
        Ok(Response::new(WhisperResponse {}))
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        self.note("fetch");
        let request = request.into_inner();
        let mailbox = MailboxId::try_from(&request.mailbox_id[..]).unwrap();
        let takes = {
            let mut state = self.state();
            state.fetches += 1;
            state.fetched.push(mailbox);
            state.known_settled_us.push(request.settled_us);
            state.fetches_take
        };
        tokio::time::sleep(takes).await;
        let mut state = self.state();
        let mailbox = state.mailbox(mailbox);
        let mut bytes = 0;
        let mut messages: Vec<StoredMessage> = Vec::new();
        let mut more = false;
        for stored in mailbox.values().filter(|stored| stored.id > request.after) {
            if messages.len() >= request.messages_max as usize || bytes >= request.bytes_max as usize {
                more = true;
                break;
            }
            bytes += stored.envelope.len();
            messages.push(stored.clone());
        }
        Ok(Response::new(FetchResponse { messages, more, settled_us: SETTLED_US }))
    }

    async fn acknowledge(
        &self,
        request: Request<AcknowledgeRequest>,
    ) -> Result<Response<AcknowledgeResponse>, Status> {
        self.note("acknowledge");
        let request = request.into_inner();
        let mut state = self.state();
        state.acknowledges.push(request.clone());
        if state.acknowledge_failures > 0 {
            state.acknowledge_failures -= 1;
            return Err(Status::unavailable("scripted"));
        }
        let mailbox = state.mailbox(MailboxId::try_from(&request.mailbox_id[..]).unwrap());
        request.ids.iter().for_each(|id| {
            mailbox.remove(id);
        });
        Ok(Response::new(AcknowledgeResponse {}))
    }

    async fn purge(&self, _: Request<PurgeRequest>) -> Result<Response<PurgeResponse>, Status> {
        Err(Status::unimplemented("gateways do not purge"))
    }
}
