//! A real process, and people who talk to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spillway_api::v1;
use spillway_client::{CallError, Client, ClientConfig, Identity, Outgoing, RetryPolicy, Sent, Verification};
use spillway_types::{AccountId, Guid};
use surge::population::registration_id;
use surge::server::{ServerError, ServerOptions, ServerProcess};
use tempfile::TempDir;
use tokio::time::Instant;

use super::desk::{Desk, logs};

/// Longer than anything takes on a busy machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A test that sends more than people write turns these off.
pub(crate) const NO_SEND_QUOTA: (&str, &str) = ("QUOTAS__MESSAGES__ENABLED", "false");

/// A service under test. Its log, and every secret that the test sees, go where the search for leaks finds them.
pub(crate) struct Node {
    pub(crate) server: ServerProcess,
    pub(crate) desk: Desk,
    name: &'static str,
    folder: TempDir,
    settings: Vec<(String, String)>,
}

/// Somebody with an account.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) index: u64,
    pub(crate) client: Client,
    pub(crate) identity: Arc<Identity>,
}

impl Node {
    /// Starts a service on fresh data. `settings` are like `("GATEWAY__SESSION__X", "1s")`.
    pub(crate) async fn start(name: &'static str, settings: &[(&str, &str)]) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let settings = prefixed(settings);
        let mut desk = Desk::new(name);
        let server = ServerProcess::start(&options(name, folder.path(), &settings)).await.unwrap();
        desk.answer_phones(server.codes.as_ref().unwrap()).await;
        Node { server, desk, name, folder, settings }
    }

    /// Starts a process again on the same data, after the last one has ended.
    pub(crate) async fn start_again(&mut self) {
        self.start_again_with(&[]).await;
    }

    /// The same, with more settings, this once.
    pub(crate) async fn start_again_with(&mut self, more: &[(&str, &str)]) {
        self.server = self.try_start_again(more).await.unwrap();
        self.desk.answer_phones(self.server.codes.as_ref().unwrap()).await;
    }

    pub(crate) async fn try_start_again(&self, more: &[(&str, &str)]) -> Result<ServerProcess, ServerError> {
        let settings = [self.settings.clone(), prefixed(more)].concat();
        ServerProcess::start(&options(self.name, self.folder.path(), &settings)).await
    }

    /// `kill -9`, and wait until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.server.signal("KILL").await.unwrap();
        self.server.wait().await.unwrap();
    }

    pub(crate) fn data(&self) -> PathBuf {
        data(self.folder.path())
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.server.public).await
    }

    /// Signs up person `index` on a connection of their own.
    pub(crate) async fn person(&self, index: u64) -> Person {
        self.desk.person(&self.server.public, index).await
    }

    pub(crate) async fn people<const N: usize>(&self) -> [Person; N] {
        let mut people = Vec::new();
        for index in 0..N as u64 {
            people.push(self.person(index).await);
        }
        people.try_into().unwrap_or_else(|_| unreachable!("N people were signed up"))
    }

    /// The same person on a new connection to the process that runs now.
    pub(crate) async fn again(&self, person: &Person) -> Person {
        Person { client: self.client().await, ..person.clone() }
    }

    /// A session whose number has been proved.
    pub(crate) async fn verified(&self, client: &Client, index: u64) -> Verification {
        self.desk.verified(client, index).await
    }

    pub(crate) fn keep_secret(&self, secret: &str) {
        self.desk.keep_secret(secret);
    }

    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        metric(&self.server.admin, name, label).await
    }

    pub(crate) async fn resident_bytes(&self) -> f64 {
        self.metric("process_resident_memory_bytes", "").await
    }
}

impl Person {
    pub(crate) fn account(&self) -> AccountId {
        self.identity.account()
    }

    pub(crate) async fn send(&self, to: &Person, content: impl Into<Bytes>) -> Result<Sent, CallError> {
        self.client.send(&self.identity, to.message(Guid::random(), content)).await
    }

    /// A message for this person's only device.
    pub(crate) fn message(&self, guid: Guid, content: impl Into<Bytes>) -> Outgoing {
        let envelopes = vec![envelope(1, registration_id(self.index), content)];
        Outgoing { to: self.account(), guid, envelopes, ephemeral: false, urgent: false }
    }

    /// Whatever else goes on: mail between these two arrives.
    pub(crate) async fn reaches(&self, to: &Person) {
        let mut inbox = to.inbox().await;
        let content = Bytes::copy_from_slice(Guid::random().as_bytes());
        self.send(to, content.clone()).await.unwrap();
        inbox.until_all(&[content]).await;
    }
}

pub(crate) fn envelope(
    device_id: u32,
    registration_id: u32,
    content: impl Into<Bytes>,
) -> v1::DeviceEnvelope {
    v1::DeviceEnvelope { device_id, registration_id, content: content.into() }
}

pub(crate) async fn connect(public: &str) -> Client {
    Client::connect(public, impatient()).await.unwrap()
}

/// Fails at once instead of retrying, so that a test sees what the service answers.
pub(crate) fn impatient() -> ClientConfig {
    let retry = RetryPolicy { attempts_max: 1, ..RetryPolicy::default() };
    ClientConfig { retry, call_timeout: Duration::from_secs(20), ..ClientConfig::default() }
}

/// Asks again until it holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The value of a metric, with all its series that have `label` added up.
pub(crate) async fn metric(admin: &str, name: &str, label: &str) -> f64 {
    let (_, text) = get(admin, "/metrics").await;
    text.lines()
        .filter(|line| line.starts_with(name) && line.contains(label))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// `GET` over a connection of its own: the status and the body.
pub(crate) async fn get(address: &str, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = address.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_spillway-under-test"))
}

fn prefixed(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(key, value)| (format!("SPILLWAY_{key}"), (*value).to_owned())).collect()
}

fn options(name: &str, folder: &Path, settings: &[(String, String)]) -> ServerOptions {
    let always = prefixed(&[
        // Everything is logged, so that the search for leaked secrets is worth something.
        ("TELEMETRY__LEVEL", "debug,h2=info,hyper=info,fjall=info,lsm_tree=info"),
        ("QUOTAS__VERIFICATION_START_NETWORK__ENABLED", "false"),
    ]);
    ServerOptions {
        binary: binary(),
        data: data(folder),
        log: logs().join(format!("{name}.log")),
        settings: [always, settings.to_vec()].concat(),
        arguments: Vec::new(),
    }
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}
