//! Hints and presence over NATS.
//!
//! Each device that is online is a subscription of its own on a server, and that interest is its presence: it ends when
//! the connection of the gateway ends. A general client spends 5 KB on a subscription, so hints have a small client of
//! their own (`protocol`, `link`, `session`), which spends as much as [`crate::LocalBus`] does: see
//! `examples/interest_memory.rs`.
//!
//! Devices are spread over **cells**, independent clusters, by a hash of the mailbox (`subjects`). To each cluster there
//! are two connections, one for hints that come in (`inbound`) and one for those that go out (`outbound`), so that a
//! burst of one does not delay the other. Both come back by themselves, on any server of the cluster; after that every
//! subscription gets [`Event::Lagged`](crate::Event::Lagged), because nobody knows what was missed.
//!
//! Not here: queue groups, headers, replies. Requests have the general client.

mod dispatch;
mod identity;
mod inbound;
mod link;
mod metrics;
mod outbound;
mod protocol;
mod servers;
mod session;
mod state;
mod subjects;
mod tls;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use prometheus::Registry;
use spillway_chassis::Tasks;
use tokio::sync::{Notify, watch};

pub use self::identity::IdentityError;
pub use self::servers::AddressError;
pub use self::state::{LinkState, LinkWatch};
pub use self::tls::TlsError;

use self::identity::Identity;
use self::inbound::{Inbound, InboundTraffic};
use self::link::Dialer;
pub(super) use self::metrics::register_metrics;
use self::metrics::{LinkMetrics, Metrics};
use self::outbound::{Outbound, OutboundTraffic};
use self::servers::{Server, Servers};
use self::session::{Session, Traffic};
use self::subjects::Subjects;
use crate::nats::NatsConfig;
use crate::{Bus, BusError, Subject, Subscription};

/// Why the bus cannot work, whatever the servers do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("`servers` is empty: the bus needs the address of a NATS server")]
    NoServers,
    #[error("cell {0} has no servers")]
    EmptyCell(usize),
    #[error("prefix {0:?} has other characters than letters, digits, `-` and `_`")]
    Prefix(String),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// Connects the processes of a fleet. Its connections end when it is dropped, or when its tasks are cancelled.
pub struct NatsBus {
    subjects: Arc<Subjects>,
    /// The main cluster. Without cells of their own, devices are here as well.
    main: Cluster,
    cells: Vec<Cluster>,
    tasks: Tasks,
}

struct Cluster {
    inbound: Arc<Inbound>,
    outbound: Arc<Outbound>,
    links: [LinkWatch; 2],
}

/// What all clusters of a bus have in common.
struct Parts<'a> {
    subjects: Arc<Subjects>,
    dialer: Arc<Dialer>,
    metrics: Metrics,
    tasks: &'a Tasks,
}

impl NatsBus {
    /// Does not wait for a server: what is published until there is one is lost, and subscribing waits for two seconds.
    /// `name` is what the servers call this process. Reads small files on the calling thread.
    ///
    /// # Errors
    ///
    /// When the settings, or files that they name, cannot work.
    pub fn start(
        config: &NatsConfig,
        name: &str,
        tasks: &Tasks,
        registry: &Registry,
    ) -> Result<Self, StartError> {
        if !config.prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            return Err(StartError::Prefix(config.prefix.clone()));
        }
        let main_servers = addresses(&config.servers)?;
        if main_servers.is_empty() {
            return Err(StartError::NoServers);
        }
        let mut cell_servers = Vec::with_capacity(config.cells.len());
        for (index, urls) in config.cells.iter().enumerate() {
            if urls.is_empty() {
                return Err(StartError::EmptyCell(index));
            }
            cell_servers.push(addresses(urls)?);
        }
        let (identity, tls) = (Identity::load(config)?, tls::client_config(config)?);
        let tasks = tasks.child();
        let parts = Parts {
            subjects: Arc::new(Subjects::new(&config.prefix, config.cells.len().max(1))),
            dialer: Arc::new(Dialer { name: name.to_owned(), identity, tls }),
            metrics: Metrics::register(registry)?,
            tasks: &tasks,
        };
        let main = parts.connect("main cluster", main_servers);
        let cells = cell_servers.into_iter().enumerate();
        let cells = cells.map(|(index, servers)| parts.connect(&format!("cell {index}"), servers)).collect();
        let subjects = Arc::clone(&parts.subjects);
        Ok(Self { subjects, main, cells, tasks })
    }

    /// The state of each connection, for readiness.
    pub fn links(&self) -> Vec<LinkWatch> {
        self.clusters().flat_map(|cluster| cluster.links.clone()).collect()
    }

    /// How many subjects have a subscription here.
    pub fn interest(&self) -> usize {
        self.clusters().map(|cluster| cluster.inbound.subjects()).sum()
    }

    fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        std::iter::once(&self.main).chain(&self.cells)
    }

    fn cluster(&self, subject: &Subject) -> &Cluster {
        match subject {
            Subject::Mailbox(mailbox) if !self.cells.is_empty() => &self.cells[self.subjects.cell(mailbox)],
            _ => &self.main,
        }
    }
}

fn addresses(urls: &[String]) -> Result<Vec<Server>, AddressError> {
    urls.iter().map(|url| Server::parse(url)).collect()
}

impl Parts<'_> {
    fn connect(&self, cluster: &str, servers: Vec<Server>) -> Cluster {
        let (in_state, in_watch) = watch::channel(LinkState::initial());
        let (out_state, out_watch) = watch::channel(LinkState::initial());
        let inbound = Inbound::new(Arc::clone(&self.subjects), in_watch.clone(), self.metrics.clone());
        let outbound = Outbound::new(Arc::clone(&self.subjects), self.metrics.clone());
        let links = [
            LinkWatch { name: format!("hints in, {cluster}"), state: in_watch },
            LinkWatch { name: format!("hints out, {cluster}"), state: out_watch },
        ];
        let traffic = InboundTraffic::new(Arc::clone(&inbound));
        let metrics = self.metrics.inward.clone();
        self.session(&links[0], traffic, inbound.wake(), servers.clone(), in_state, metrics);
        let traffic = OutboundTraffic::new(Arc::clone(&outbound));
        let metrics = self.metrics.outward.clone();
        self.session(&links[1], traffic, outbound.wake(), servers, out_state, metrics);
        Cluster { inbound, outbound, links }
    }

    fn session(
        &self,
        link: &LinkWatch,
        traffic: impl Traffic,
        wake: Arc<Notify>,
        servers: Vec<Server>,
        state: watch::Sender<LinkState>,
        metrics: LinkMetrics,
    ) {
        let servers = Servers::new(servers, &mut rand::rng());
        let dialer = Arc::clone(&self.dialer);
        let session = Session { name: link.name.clone(), traffic, wake, dialer, servers, state, metrics };
        session.spawn(self.tasks);
    }
}

#[async_trait]
impl Bus for NatsBus {
    async fn publish(&self, subject: Subject, hint: Bytes) -> Result<(), BusError> {
        self.cluster(&subject).outbound.publish(&subject, &hint)
    }

    async fn subscribe(&self, subject: Subject) -> Result<Box<dyn Subscription>, BusError> {
        let subscription = self.cluster(&subject).inbound.subscribe(subject).await?;
        Ok(Box::new(subscription))
    }
}

impl Drop for NatsBus {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

impl fmt::Debug for NatsBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let links: Vec<_> =
            self.links().into_iter().map(|link| (link.name, link.state.borrow().clone())).collect();
        f.debug_struct("NatsBus").field("interest", &self.interest()).field("links", &links).finish()
    }
}
