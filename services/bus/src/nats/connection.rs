//! One TCP connection to NATS, and what is known about it.
//!
//! A connection is made in the background and again after it broke, for ever: a process that starts before NATS waits
//! for it, and its readiness says so. Only what no waiting can mend is an error here: a file that cannot be read, an
//! address that is none.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ClientError, ConnectOptions, Event, ServerAddr, ServerError};
use prometheus::Registry;
use rand::Rng;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use spillway_chassis::Tasks;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::NatsConfig;
use super::metrics::{LinkMetrics, NatsMetrics};
use super::sample::Sample;

/// Messages that a subscription may be behind. Beyond it the library drops them, so a subscription that stalls costs
/// at most this many messages of memory.
pub(crate) const SUBSCRIPTION_CAPACITY: usize = 1_024;

/// Bytes of the largest message, headers and payload together, that a server must accept: `max_payload: 512KB`, in the
/// notation of its configuration.
pub const MESSAGE_BYTES_MAX: usize = 512 * 1024;

/// A server that has not answered two pings is given up, so a dead one is noticed within a minute.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// TCP, TLS and the handshake with one server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause between two tries. Outages end for all processes at once, so the pause is spread.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Events of the library that wait for us. It drops those that do not fit; [`RECONCILE_INTERVAL`] makes up for it.
const EVENTS_CAPACITY: usize = 128;
const RECONCILE_INTERVAL: Duration = Duration::from_secs(1);
/// The library reports a connection a moment before it stores what the server said of itself.
const SETTLE: Duration = Duration::from_millis(10);

/// What cannot be mended by waiting.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("nats.servers is empty: name at least one, such as nats://localhost:4222")]
    NoServers,
    #[error(
        "`{address}` in nats.servers or nats.cells is no address: use nats://host:4222 or tls://host:4222"
    )]
    Address { address: String, source: io::Error },
    #[error("nats.{setting} `{value}` may have letters, digits, `-` and `_` only")]
    Token { setting: &'static str, value: String },
    #[error("nats.credentials and nats.nkey are both set: keep one")]
    TwoIdentities,
    #[error("nats.tls_certificate and nats.tls_key must be set together")]
    HalfCertificate,
    #[error("cannot read nats.{setting} at {}", path.display())]
    Unreadable { setting: &'static str, path: PathBuf, source: io::Error },
    #[error("nats.{setting} at {} is not {expected}", path.display())]
    Malformed { setting: &'static str, path: PathBuf, expected: &'static str },
}

/// What a readiness check needs to know of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    Connected,
    /// The server is about to end; the library goes to another one when it does.
    LameDuck,
    Disconnected {
        since: Instant,
        why: Disconnected,
    },
    /// Connected to a server that drops our larger messages.
    PayloadTooSmall {
        bytes_max: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disconnected {
    /// No try has ended yet.
    Connecting,
    Lost,
    Failed(String),
    /// The server does not accept who we are. Tries go on, because credentials may be added to it.
    Refused,
    Closed,
}

impl ConnectionState {
    pub const fn is_connected(&self) -> bool {
        matches!(self, Self::Connected | Self::LameDuck)
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected to NATS"),
            Self::LameDuck => f.write_str("connected to a NATS server that is about to end"),
            Self::Disconnected { since, why } => {
                write!(f, "not connected to NATS for {} s: {why}", since.elapsed().as_secs())
            }
            Self::PayloadTooSmall { bytes_max } => write!(
                f,
                "the NATS server's max_payload is {bytes_max} bytes: set it to {MESSAGE_BYTES_MAX} (512KB) or more"
            ),
        }
    }
}

impl fmt::Display for Disconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Lost => f.write_str("the connection broke"),
            Self::Failed(error) => f.write_str(error),
            Self::Refused => f.write_str(
                "the server refuses our credentials: check nats.credentials or nats.nkey, and the server's users",
            ),
            Self::Closed => f.write_str("closed by us"),
        }
    }
}

/// What all connections of one process share.
#[derive(Clone, Debug)]
pub struct Nats {
    config: Arc<NatsConfig>,
    role: Arc<str>,
    metrics: NatsMetrics,
    tasks: Tasks,
}

impl Nats {
    /// `role` is part of the names of inboxes, so that a server's permissions can keep roles from each other's
    /// answers. Connections live until `tasks` is cancelled.
    ///
    /// # Errors
    ///
    /// When `role` or the prefix in `config` cannot be part of a subject.
    pub fn new(
        config: NatsConfig,
        role: &str,
        registry: &Registry,
        tasks: &Tasks,
    ) -> Result<Self, ConnectError> {
        check_token("prefix", &config.prefix)?;
        check_token("role", role)?;
        let metrics = NatsMetrics::new(registry);
        Ok(Self { config: Arc::new(config), role: role.into(), metrics, tasks: tasks.clone() })
    }

    pub fn config(&self) -> &NatsConfig {
        &self.config
    }

    /// `tail` below the fleet's prefix.
    pub fn subject(&self, tail: &str) -> String {
        match self.config.prefix.as_str() {
            "" => tail.to_owned(),
            prefix => format!("{prefix}.{tail}"),
        }
    }

    pub(crate) const fn metrics(&self) -> &NatsMetrics {
        &self.metrics
    }

    pub(crate) const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// A connection of its own to `nats.servers`. `purpose` tells connections apart in metrics and logs, and in the
    /// server's list of its clients.
    pub(crate) async fn connect(&self, purpose: &'static str) -> Result<Connection, ConnectError> {
        self.connect_to(purpose, &self.config.servers).await
    }

    /// The same to other servers, such as those of a cell.
    pub(crate) async fn connect_to(
        &self,
        purpose: &'static str,
        servers: &[String],
    ) -> Result<Connection, ConnectError> {
        let addresses = addresses(servers)?;
        let (events, received) = mpsc::channel(EVENTS_CAPACITY);
        let inbox = format!("_INBOX.{}.{:016x}", self.role, rand::rng().random::<u64>());
        let client = self
            .options()?
            .name(format!("spillway {} {purpose}", self.role))
            .custom_inbox_prefix(&inbox)
            .event_callback(move |event| {
                let events = events.clone();
                async move { drop(events.try_send(event)) }
            })
            .connect(addresses)
            .await
            .map_err(|source| ConnectError::Address {
                address: servers.join(","),
                source: io::Error::other(source),
            })?;
        let connecting =
            ConnectionState::Disconnected { since: Instant::now(), why: Disconnected::Connecting };
        let (state, watched) = watch::channel(connecting);
        let follower = Follower {
            client: client.clone(),
            state,
            purpose,
            metrics: self.metrics.link(purpose),
            errors: Sample::default(),
        };
        self.tasks.spawn("nats connection", follower.run(received, self.tasks.clone()));
        Ok(Connection { client, inbox, state: watched })
    }

    /// Everything that does not depend on the connection.
    fn options(&self) -> Result<ConnectOptions, ConnectError> {
        let config = &self.config;
        let mut options = ConnectOptions::new()
            .retry_on_initial_connect()
            .ping_interval(PING_INTERVAL)
            .connection_timeout(CONNECT_TIMEOUT)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .reconnect_delay_callback(reconnect_pause);
        options = match (&config.credentials, &config.nkey) {
            (Some(_), Some(_)) => return Err(ConnectError::TwoIdentities),
            (Some(path), None) => {
                let text = read("credentials", path)?;
                options.credentials(&text).map_err(|_| ConnectError::Malformed {
                    setting: "credentials",
                    path: path.clone(),
                    expected: "a credentials file as nsc writes it, with a JWT and a seed",
                })?
            }
            (None, Some(path)) => {
                let seed = read("nkey", path)?.trim().to_owned();
                if nkeys::KeyPair::from_seed(&seed).is_err() {
                    return Err(ConnectError::Malformed {
                        setting: "nkey",
                        path: path.clone(),
                        expected: "the seed of a user's nkey (SU...)",
                    });
                }
                options.nkey(seed)
            }
            (None, None) => options,
        };
        with_tls(options, config)
    }
}

/// A connection, made or being made.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// Only this connection may subscribe below it.
    pub(crate) inbox: String,
    pub(crate) state: watch::Receiver<ConnectionState>,
}

fn check_token(setting: &'static str, value: &str) -> Result<(), ConnectError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if value.bytes().all(fits) {
        Ok(())
    } else {
        Err(ConnectError::Token { setting, value: value.to_owned() })
    }
}

fn addresses(servers: &[String]) -> Result<Vec<ServerAddr>, ConnectError> {
    if servers.is_empty() {
        return Err(ConnectError::NoServers);
    }
    let parse = |address: &String| {
        address
            .parse::<ServerAddr>()
            .map_err(|source| ConnectError::Address { address: address.clone(), source })
    };
    servers.iter().map(parse).collect()
}

fn read(setting: &'static str, path: &Path) -> Result<String, ConnectError> {
    std::fs::read_to_string(path).map_err(|source| ConnectError::Unreadable {
        setting,
        path: path.to_owned(),
        source,
    })
}

/// The library reads the files at each connect, which makes renewed certificates effective. They are read here as
/// well, so that a wrong one is an error at the start and not a reason to wait.
fn with_tls(mut options: ConnectOptions, config: &NatsConfig) -> Result<ConnectOptions, ConnectError> {
    if let Some(path) = &config.tls_roots {
        check_certificates("tls_roots", path)?;
        options = options.add_root_certificates(path.clone());
    }
    match (&config.tls_certificate, &config.tls_key) {
        (None, None) => Ok(options),
        (Some(certificate), Some(key)) => {
            check_certificates("tls_certificate", certificate)?;
            let text = read("tls_key", key)?;
            PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| ConnectError::Malformed {
                setting: "tls_key",
                path: key.clone(),
                expected: "a PEM file with a private key",
            })?;
            Ok(options.add_client_certificate(certificate.clone(), key.clone()))
        }
        _ => Err(ConnectError::HalfCertificate),
    }
}

fn check_certificates(setting: &'static str, path: &Path) -> Result<(), ConnectError> {
    let text = read(setting, path)?;
    let mut certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    // At least one, and no broken one.
    match certificates.next().map(|first| first.is_ok() && certificates.all(|other| other.is_ok())) {
        Some(true) => Ok(()),
        _ => Err(ConnectError::Malformed {
            setting,
            path: path.to_owned(),
            expected: "a PEM file with certificates",
        }),
    }
}

/// None before the first try, then up to a random part of a bound that doubles.
fn reconnect_pause(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let bound = (Duration::from_millis(10) * 2_u32.pow(doublings)).min(RECONNECT_PAUSE_MAX);
    if attempts <= 1 { Duration::ZERO } else { bound.mul_f64(rand::rng().random_range(0.5..=1.0)) }
}

/// Turns the library's events into a state.
struct Follower {
    client: Client,
    state: watch::Sender<ConnectionState>,
    purpose: &'static str,
    metrics: LinkMetrics,
    errors: Sample,
}

impl Follower {
    async fn run(self, mut events: mpsc::Receiver<Event>, tasks: Tasks) {
        let mut cancelled = std::pin::pin!(tasks.cancelled());
        let mut reconcile = tokio::time::interval(RECONCILE_INTERVAL);
        reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancelled.as_mut() => return,
                event = events.recv() => match event {
                    Some(event) => self.follow(event).await,
                    None => return,
                },
                _ = reconcile.tick() => self.reconcile(),
            }
        }
    }

    async fn follow(&self, event: Event) {
        match event {
            Event::Connected => {
                tokio::time::sleep(SETTLE).await;
                self.connected();
            }
            Event::Disconnected => self.disconnected(Disconnected::Lost),
            Event::Closed => self.disconnected(Disconnected::Closed),
            Event::ClientError(ClientError::Other(error)) => self.failed(error),
            Event::ClientError(_) | Event::Draining => {}
            Event::LameDuckMode => {
                self.metrics.lame_duck.inc();
                tracing::warn!(connection = self.purpose, "the NATS server is about to end");
                self.state.send_if_modified(|state| {
                    let turns = *state == ConnectionState::Connected;
                    if turns {
                        *state = ConnectionState::LameDuck;
                    }
                    turns
                });
            }
            Event::SlowConsumer(_) => {
                self.metrics.dropped.inc();
                if let Some(earlier) = self.errors.take() {
                    tracing::warn!(
                        connection = self.purpose,
                        earlier,
                        "messages of NATS were dropped: too slow"
                    );
                }
            }
            Event::ServerError(error) => self.server_error(&error),
        }
    }

    fn connected(&self) {
        let bytes_max = self.client.max_payload();
        let state = if bytes_max < MESSAGE_BYTES_MAX {
            ConnectionState::PayloadTooSmall { bytes_max }
        } else {
            ConnectionState::Connected
        };
        if let ConnectionState::PayloadTooSmall { .. } = state {
            tracing::error!(connection = self.purpose, "{state}");
        } else {
            tracing::info!(connection = self.purpose, "connected to NATS");
        }
        self.metrics.connected.set(1);
        self.state.send_replace(state);
    }

    fn disconnected(&self, why: Disconnected) {
        let mut broke = false;
        self.state.send_if_modified(|state| {
            let since = match state {
                ConnectionState::Disconnected { since, .. } => *since,
                _ => {
                    broke = true;
                    Instant::now()
                }
            };
            let turned = ConnectionState::Disconnected { since, why };
            let changed = *state != turned;
            *state = turned;
            changed
        });
        self.metrics.connected.set(0);
        if broke {
            self.metrics.disconnects.inc();
            tracing::warn!(connection = self.purpose, "not connected to NATS");
        }
    }

    /// A try to connect has failed.
    fn failed(&self, error: String) {
        // The library gives the kind of its error as text.
        let refused = error.contains("authorization violation") || error.contains("signing nonce");
        if let Some(earlier) = self.errors.take() {
            tracing::warn!(connection = self.purpose, error, earlier, "cannot connect to NATS");
        }
        self.disconnected(if refused { Disconnected::Refused } else { Disconnected::Failed(error) });
    }

    /// Of a connection that stands, such as a subject that the server's permissions forbid.
    fn server_error(&self, error: &ServerError) {
        self.metrics.server_errors.inc();
        if let Some(earlier) = self.errors.take() {
            tracing::warn!(connection = self.purpose, %error, earlier, "NATS reports an error");
        }
    }

    /// An event may have been dropped when too many came at once.
    fn reconcile(&self) {
        let connected = match *self.state.borrow() {
            ConnectionState::Disconnected { .. } => false,
            ConnectionState::Connected
            | ConnectionState::LameDuck
            | ConnectionState::PayloadTooSmall { .. } => true,
        };
        match self.client.connection_state() {
            State::Connected if !connected => self.connected(),
            State::Disconnected if connected => self.disconnected(Disconnected::Lost),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    fn nats(config: NatsConfig) -> Nats {
        Nats::new(config, "test", &Registry::new(), &Tasks::new()).unwrap()
    }

    async fn error(config: NatsConfig) -> String {
        let servers = vec!["nats://127.0.0.1:1".to_owned()];
        nats(NatsConfig { servers, ..config }).connect("test").await.unwrap_err().to_string()
    }

    /// A server that says `info`, and `answer` to whoever introduces himself.
    async fn server(info: &'static str, answer: &'static str) -> NatsConfig {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Tasks::new().spawn("server", async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(format!("INFO {info}\r\n").as_bytes()).await.unwrap();
                let (read, mut write) = stream.split();
                let mut lines = BufReader::new(read).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if line == "PING" && write.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        });
        NatsConfig { servers: vec![format!("nats://{address}")], ..NatsConfig::default() }
    }

    async fn reaches(config: NatsConfig, wanted: impl FnMut(&ConnectionState) -> bool) -> String {
        let mut state = nats(config).connect("test").await.unwrap().state;
        let reached = tokio::time::timeout(BOUND, state.wait_for(wanted)).await.expect("not reached");
        reached.unwrap().to_string()
    }

    #[tokio::test]
    async fn wrong_credentials_are_named_and_tried_again() {
        let info = r#"{"server_id":"x","version":"2.14.5","max_payload":1048576,"headers":true}"#;
        let config = server(info, "-ERR 'Authorization Violation'\r\n").await;
        let refused = |state: &ConnectionState| {
            matches!(state, ConnectionState::Disconnected { why: Disconnected::Refused, .. })
        };
        let text = reaches(config, refused).await;
        assert!(text.contains("nats.credentials or nats.nkey"), "{text}");
    }

    #[tokio::test]
    async fn a_server_that_takes_only_small_messages_is_named() {
        let info = r#"{"server_id":"x","version":"2.14.5","max_payload":65536,"headers":true}"#;
        let config = server(info, "PONG\r\n").await;
        let small =
            |state: &ConnectionState| *state == ConnectionState::PayloadTooSmall { bytes_max: 65_536 };
        let text = reaches(config, small).await;
        assert!(text.contains("max_payload") && text.contains("512KB"), "{text}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_waited_for() {
        let servers = vec!["nats://127.0.0.1:1".to_owned()];
        let config = NatsConfig { servers, ..NatsConfig::default() };
        let failed = |state: &ConnectionState| {
            matches!(state, ConnectionState::Disconnected { why: Disconnected::Failed(_), .. })
        };
        let text = reaches(config, failed).await;
        assert!(text.starts_with("not connected to NATS"), "{text}");
    }

    #[tokio::test]
    async fn wrong_settings_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let nonsense = directory.path().join("nonsense");
        std::fs::write(&nonsense, "nonsense").unwrap();
        let (there, missing) = (Some(nonsense), Some(directory.path().join("missing")));
        let config = NatsConfig::default();
        for (config, expected) in [
            (
                NatsConfig { credentials: missing.clone(), ..config.clone() },
                "cannot read nats.credentials at",
            ),
            (NatsConfig { credentials: there.clone(), ..config.clone() }, "nats.credentials at"),
            (NatsConfig { nkey: there.clone(), ..config.clone() }, "is not the seed of a user's nkey"),
            (
                NatsConfig { tls_roots: there.clone(), ..config.clone() },
                "is not a PEM file with certificates",
            ),
            (NatsConfig { tls_key: there.clone(), ..config.clone() }, "must be set together"),
            (
                NatsConfig { nkey: missing, credentials: there, ..config.clone() },
                "nats.credentials and nats.nkey are both set",
            ),
        ] {
            let text = error(config).await;
            assert!(text.contains(expected), "{text}");
        }
        let none = nats(config.clone()).connect("test").await.unwrap_err();
        assert!(matches!(none, ConnectError::NoServers));
        let servers = vec!["http://there".to_owned()];
        let form = nats(NatsConfig { servers, ..config.clone() }).connect("test").await.unwrap_err();
        assert!(matches!(form, ConnectError::Address { .. }), "{form}");
        let prefix = "a.b".to_owned();
        let prefix = NatsConfig { prefix, ..config };
        Nats::new(prefix, "test", &Registry::new(), &Tasks::new()).unwrap_err();
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(reconnect_pause(1), Duration::ZERO);
        assert!(reconnect_pause(2) >= Duration::from_millis(10));
        for attempts in [20, usize::MAX] {
            let pause = reconnect_pause(attempts);
            assert!(pause >= RECONNECT_PAUSE_MAX / 2 && pause <= RECONNECT_PAUSE_MAX, "{pause:?}");
        }
    }
}
