//! Durable sends against inserts of the same row: gateway, NATS, mailbox and Cassandra against Cassandra alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use bytes::Bytes;
use spillway_api::v1::messages_client::MessagesClient;
use spillway_client::Client;
use spillway_store::cql::Config;
use spillway_store::cql::floor::RawInserts;
use spillway_store::mailboxes::StoredMessage;
use spillway_types::{Guid, MailboxId, MessageIdGenerator, SystemClock};
use tonic::transport::Channel;

use super::world::World;
use crate::bench::closed_loop::{Compared, compare};
use crate::bench::message::{self, CONTENT};
use crate::bench::people::User;
use crate::bench::table::{Row, Target};
use crate::bench::{CALLERS, CONNECTIONS, Options};

pub(crate) const ROW: &str = "durable sends through the fleet";

/// Receivers that share the load, so that no mailbox fills up.
const RECEIVERS: usize = 256;
/// Indices in the population, far from those of other rows.
const FIRST_SENDER: u64 = 100_000;
const FIRST_RECEIVER: u64 = 200_000;

/// Who sends to whom. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Senders {
    people: Arc<Vec<User>>,
    receivers: Arc<Vec<User>>,
    calls: Arc<Vec<MessagesClient<Channel>>>,
}

/// Rows as sends make them, by the driver alone. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Inserts {
    raw: RawInserts,
    ids: Arc<MessageIdGenerator>,
    mailboxes: Arc<Vec<MailboxId>>,
    next: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Sends(Compared);

impl Sends {
    pub(crate) fn per_second(self) -> f64 {
        self.0.value
    }

    pub(crate) fn row(self) -> Row {
        Row::ratio(ROW, self.0.value, "1/s", self.0.floor, Target::AtLeast(0.5))
    }
}

pub(crate) async fn durable(options: &Options, world: &World, senders: &Senders) -> Result<Sends> {
    let inserts = Inserts::open(world).await?;
    let senders = senders.clone();
    let compared = compare(
        "durable sends",
        options.window(),
        move |caller, n| senders.send(caller, caller * 31 + n as usize),
        move |_, _| inserts.insert(),
    );
    Ok(Sends(compared.await?))
}

impl Senders {
    pub(crate) async fn sign_up(world: &World) -> Result<Self> {
        let people = &world.people;
        Ok(Self {
            people: Arc::new(people.sign_up(FIRST_SENDER..FIRST_SENDER + CALLERS as u64).await?),
            receivers: Arc::new(people.sign_up(FIRST_RECEIVER..FIRST_RECEIVER + RECEIVERS as u64).await?),
            calls: Arc::new(people.clients.iter().map(Client::messages).collect()),
        })
    }

    /// Any numbers are somebody.
    pub(crate) fn send(
        &self,
        sender: usize,
        receiver: usize,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let receiver = &self.receivers[receiver % self.receivers.len()];
        let identity = &self.people[sender % self.people.len()].identity;
        message::send(self.calls[sender % CONNECTIONS].clone(), identity, message::to(receiver))
    }
}

impl Inserts {
    /// Into the fleet's own table, for mailboxes that nobody has.
    pub(crate) async fn open(world: &World) -> Result<Self> {
        let config = Config { contact_points: world.cql(), ..Config::default() };
        Ok(Self {
            raw: RawInserts::open(&config).await?,
            ids: Arc::new(MessageIdGenerator::new(Arc::new(SystemClock))),
            mailboxes: Arc::new((0..RECEIVERS).map(|_| MailboxId::random()).collect()),
            next: Arc::default(),
        })
    }

    pub(crate) fn insert(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        let mailbox = self.mailboxes[self.next.fetch_add(1, Ordering::Relaxed) % self.mailboxes.len()];
        let message = StoredMessage {
            id: self.ids.mint(),
            guid: Guid::random(),
            envelope: Bytes::from_static(CONTENT),
        };
        let raw = self.raw.clone();
        async move { Ok(raw.insert(mailbox, &message).await?) }
    }
}
