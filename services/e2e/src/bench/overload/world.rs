//! The service of a run, and the people who use it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use spillway_api::v1::messages_client::MessagesClient;
use spillway_api::{Reason, Refusal, v1};
use spillway_client::{CallError, Client, ClientConfig, Meter, Outgoing};
use spillway_fleet::{NodeKind, Role};
use spillway_types::Guid;
use surge::observe::Proc;
use surge::population::Population;
use tokio::process::Command;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::OBJECTIVE;
use super::offered::Ended;
use super::processor_share::ProcessorShare;
use crate::bench::fleet::world as fleet;
use crate::bench::node::process::Node;
use crate::bench::people::{People, User};
use crate::bench::{Options, message};

/// Enough that each is far below what is fair for one, and that all cohorts have some.
const USERS: usize = 1_024;
const RECEIVERS: usize = 1_024;
/// Who asks for a code at a time. Each number is another person, but so many connections are all that fit here.
const STRANGERS: usize = 1_024;

/// What bounds the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BoundBy {
    /// A fleet whose database has a slow processor.
    Store,
    /// A fleet whose mailbox worker has one.
    Worker,
    /// One process with the embedded store that has one: refusing costs it what it needs for serving.
    OneProcess,
}

impl BoundBy {
    /// Of a processor, for what is slow.
    const fn share(self) -> f64 {
        match self {
            Self::Store | Self::OneProcess => 0.35,
            // Below what the database on the other cores can take, and the least that a group can be given: a
            // millisecond of each period.
            Self::Worker => 0.1,
        }
    }
}

pub(crate) struct World {
    pub(crate) crowd: Crowd,
    service: Service,
    /// Its executable, which also talks to running ones.
    program: PathBuf,
    // After the service, so that its group is empty when it goes.
    _share: ProcessorShare,
}

enum Service {
    Node(Node),
    Fleet(fleet::World),
}

/// Everybody who calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Crowd {
    population: Population,
    users: Arc<Vec<User>>,
    /// Others than those who do not: what the service remembers of them is not theirs.
    listeners: Arc<Vec<User>>,
    receivers: Arc<Vec<User>>,
    calls: Arc<Vec<MessagesClient<Channel>>>,
    strangers: Arc<Vec<Client>>,
    cooperating: Arc<Vec<Client>>,
    /// How often these have asked.
    pub(crate) attempts: Meter,
}

impl World {
    pub(crate) async fn start(options: &Options, back_ends: &Path, bound: BoundBy) -> Result<Self> {
        let share = ProcessorShare::new(bound.share())?;
        let service = match bound {
            BoundBy::OneProcess => Service::Node(Node::start(options).await?),
            BoundBy::Store | BoundBy::Worker => {
                Service::Fleet(fleet::World::start(options, back_ends).await?)
            }
        };
        let crowd = Crowd::gather(service.people()).await?;
        for pid in service.slow_pids(bound) {
            share.hold(pid)?;
        }
        Ok(Self { crowd, service, program: options.server.clone(), _share: share })
    }

    /// Walks the brownout ladder of its gateways: `["set", "5"]` or `["auto"]`.
    pub(crate) async fn ladder(&self, order: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg("ladder").args(order).stdin(Stdio::null());
        for admin in self.service.gateway_admin() {
            command.args(["--admin", &admin]);
        }
        let output = command.output().await.context("the service's executable cannot be run")?;
        ensure!(output.status.success(), "the ladder: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Processor time of all of the service, the back ends included, in microseconds.
    pub(crate) fn cpu_us(&self) -> Result<u64> {
        Ok(Proc::default().processes(&self.service.pids())?.cpu_us)
    }

    pub(crate) async fn end(self) -> Result<()> {
        match self.service {
            Service::Node(node) => drop(node),
            Service::Fleet(fleet) => fleet.end().await?,
        }
        Ok(())
    }
}

impl Service {
    fn people(&self) -> &People {
        match self {
            Self::Node(node) => &node.people,
            Self::Fleet(fleet) => &fleet.people,
        }
    }

    fn gateway_admin(&self) -> Vec<String> {
        match self {
            Self::Node(node) => vec![node.server.admin.trim_start_matches("http://").to_owned()],
            Self::Fleet(fleet) => fleet.gateway_admin(),
        }
    }

    fn pids(&self) -> Vec<u32> {
        match self {
            Self::Node(node) => vec![node.server.pid()],
            Self::Fleet(fleet) => fleet.pids(|_| true),
        }
    }

    fn slow_pids(&self, bound: BoundBy) -> Vec<u32> {
        let slow = match bound {
            BoundBy::Worker => NodeKind::Role(Role::Mailbox),
            BoundBy::Store | BoundBy::OneProcess => NodeKind::Cassandra,
        };
        match self {
            Self::Node(node) => vec![node.server.pid()],
            Self::Fleet(fleet) => fleet.pids(|kind| kind == slow),
        }
    }
}

impl Crowd {
    async fn gather(people: &People) -> Result<Self> {
        let users = Arc::new(people.sign_up(0..USERS as u64).await?);
        let listeners = Arc::new(people.sign_up(20_000..20_000 + USERS as u64).await?);
        let receivers = Arc::new(people.sign_up(10_000..10_000 + RECEIVERS as u64).await?);
        let clients = async |count: usize, config: ClientConfig| -> Result<Vec<Client>> {
            let mut clients = Vec::new();
            for _ in 0..count {
                clients.push(Client::connect(&people.address, config.clone()).await?);
            }
            Ok(clients)
        };
        // A device has a connection of its own, and what the service does about a caller it does about his connection.
        let calls = clients(USERS, ClientConfig::default()).await?;
        let strangers = clients(STRANGERS, ClientConfig::default()).await?;
        let attempts = Meter::default();
        let patient = ClientConfig {
            call_timeout: OBJECTIVE,
            meter: Some(attempts.clone()),
            ..ClientConfig::default()
        };
        let cooperating = clients(USERS, patient).await?;
        Ok(Self {
            population: people.population,
            users,
            listeners,
            receivers,
            calls: Arc::new(calls.iter().map(Client::messages).collect()),
            strangers: Arc::new(strangers),
            cooperating: Arc::new(cooperating),
            attempts,
        })
    }

    /// Somebody sends, once, and does not listen to what the service says about it.
    pub(crate) fn send(&self, n: u64) -> impl Future<Output = Ended> + Send + use<> {
        let n = scattered(n);
        let at = n % self.users.len();
        let (user, mut calls) = (&self.users[at], self.calls[at].clone());
        let mut request = Request::new(message::to(&self.receivers[n / 7 % self.receivers.len()]));
        request.set_timeout(OBJECTIVE);
        user.identity.authorize(request.metadata_mut());
        async move {
            match calls.send(request).await {
                Ok(_) => Ended::Served,
                Err(status) => ended(&status),
            }
        }
    }

    /// Somebody sends with the reference client, which repeats and holds back as it is told.
    pub(crate) fn send_cooperating(&self, n: u64) -> impl Future<Output = Ended> + Send + use<> {
        let n = scattered(n);
        let at = n % self.listeners.len();
        let (client, user) = (self.cooperating[at].clone(), self.listeners[at].clone());
        let message = message::to(&self.receivers[n / 7 % self.receivers.len()]);
        let outgoing = Outgoing {
            to: self.receivers[n / 7 % self.receivers.len()].identity.account(),
            guid: Guid::random(),
            envelopes: message.envelopes,
            ephemeral: false,
            urgent: false,
        };
        async move {
            match client.send(&user.identity, outgoing).await {
                Ok(_) => Ended::Served,
                Err(CallError::HeldBack { .. }) => Ended::Refused,
                Err(error) if error.refusal().is_some_and(|refusal| refusal.reason == Reason::Overload) => {
                    Ended::Refused
                }
                Err(_) => Ended::Failed,
            }
        }
    }

    /// A stranger asks for a code, once.
    pub(crate) fn start_sign_up(&self, n: u64) -> impl Future<Output = Ended> + Send + use<> {
        let mut calls = self.strangers[n as usize % self.strangers.len()].sign_up();
        let person = self.population.person(1_000_000 + n);
        let mut request = Request::new(v1::StartVerificationRequest {
            number: person.number,
            transport: v1::Transport::Sms.into(),
            ..Default::default()
        });
        request.set_timeout(Duration::from_secs(5));
        async move {
            match calls.start_verification(request).await {
                Ok(_) => Ended::Served,
                Err(status) => ended(&status),
            }
        }
    }
}

fn ended(status: &Status) -> Ended {
    match Refusal::from_status(status) {
        Some(refusal) if refusal.reason == Reason::Overload => Ended::Refused,
        _ => Ended::Failed,
    }
}

/// Neighbours are other people; the same number is always the same.
fn scattered(n: u64) -> usize {
    (n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize
}
