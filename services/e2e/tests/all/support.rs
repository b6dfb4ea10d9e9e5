//! A real process, and people who talk to it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spillway_api::v1;
use spillway_client::{CallError, Client, ClientConfig, Enrolled, Identity, Outgoing, RetryPolicy, Sent, Verification};
use spillway_types::{AccountId, Guid, PhoneNumber};
use surge::codes::{CodeStream, Phones};
use surge::population::{Population, registration_id};
use surge::server::{ServerError, ServerOptions, ServerProcess};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Longer than anything takes on a busy machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A service under test. Its log, and every secret that the test sees, go where the search for leaks finds them.
pub(crate) struct Node {
    pub(crate) server: ServerProcess,
    name: &'static str,
    folder: TempDir,
    settings: Vec<(String, String)>,
    phones: Phones,
    codes: JoinSet<()>,
}

/// Somebody with an account.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) index: u64,
    pub(crate) client: Client,
    pub(crate) identity: Arc<Identity>,
}

pub(crate) fn population() -> Population {
    Population::new(2021)
}

impl Node {
    /// Starts a service on fresh data. `settings` are like `("GATEWAY__SESSION__X", "1s")`.
    pub(crate) async fn start(name: &'static str, settings: &[(&str, &str)]) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings.iter().map(|(key, value)| (format!("SPILLWAY_{key}"), (*value).to_owned())).collect();
        let server = ServerProcess::start(&options(name, folder.path(), &settings)).await.unwrap();
        let mut node = Node { server, name, folder, settings, phones: Phones::default(), codes: JoinSet::new() };
        node.answer_phones().await;
        node
    }

    /// Starts a process again on the same data, after the last one has ended.
    pub(crate) async fn start_again(&mut self) {
        self.server = self.try_start_again(&[]).await.unwrap();
        self.answer_phones().await;
    }

    pub(crate) async fn try_start_again(&self, more: &[(&str, &str)]) -> Result<ServerProcess, ServerError> {
        let mut settings = self.settings.clone();
        settings.extend(more.iter().map(|(key, value)| (format!("SPILLWAY_{key}"), (*value).to_owned())));
        ServerProcess::start(&options(self.name, self.folder.path(), &settings)).await
    }

    /// Another process on the same data under changed settings, from now on.
    pub(crate) async fn start_again_with(&mut self, more: &[(&str, &str)]) {
        self.server = self.try_start_again(more).await.unwrap();
        self.answer_phones().await;
    }

    /// `kill -9`, and wait until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.server.signal("KILL").await.unwrap();
        self.server.wait().await.unwrap();
    }

    pub(crate) fn data(&self) -> PathBuf {
        data(self.folder.path())
    }

    pub(crate) fn phones(&self) -> &Phones {
        &self.phones
    }

    async fn answer_phones(&mut self) {
        let stream = CodeStream::open(self.server.codes.as_ref().unwrap(), self.phones.clone()).await.unwrap();
        self.codes.spawn(async move {
            // Ends with the process.
            stream.run().await.ok();
        });
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.server.public, impatient()).await.unwrap()
    }

    /// Signs up person `index` on a connection of their own.
    pub(crate) async fn person(&self, index: u64) -> Person {
        let client = self.client().await;
        let verification = self.verified(&client, index).await;
        let enrolled = self.create(&client, &verification, index).await.unwrap();
        Person { index, client, identity: Arc::new(enrolled.identity) }
    }

    pub(crate) async fn people<const N: usize>(&self) -> [Person; N] {
        let mut people = Vec::new();
        for index in 0..N as u64 {
            people.push(self.person(index).await);
        }
        people.try_into().unwrap_or_else(|_| unreachable!("N people were signed up"))
    }

    /// A session whose number has been proved.
    pub(crate) async fn verified(&self, client: &Client, index: u64) -> Verification {
        let person = population().person(index);
        self.keep_secret(&person.number);
        let code = self.phones.expect(&person.number);
        let number = PhoneNumber::parse(&person.number).unwrap();
        let verification = client.start_verification(&number, v1::Transport::Sms).await.unwrap();
        let code = code.within(PATIENCE).await.expect("a code arrives");
        self.keep_secret(&code);
        let verification = client.check_code(&verification, &code).await.unwrap();
        assert!(verification.is_verified());
        verification
    }

    pub(crate) async fn create(
        &self,
        client: &Client,
        verification: &Verification,
        index: u64,
    ) -> Result<Enrolled, CallError> {
        let enrolled = client.create_account(verification, population().device(index)).await?;
        self.keep_secret(enrolled.identity.credential());
        Ok(enrolled)
    }

    /// Notes a secret that must not be found in any log.
    pub(crate) fn keep_secret(&self, secret: &str) {
        let path = logs().join(format!("{}.secrets", self.name));
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "{secret}").unwrap();
    }

    /// The value of a metric, with all its series added up.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        let text = get(&self.server.admin, "/metrics").await;
        text.lines()
            .filter(|line| line.starts_with(name) && line.contains(label))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
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
        let envelope = v1::DeviceEnvelope {
            device_id: 1,
            registration_id: registration_id(self.index),
            content: content.into(),
        };
        Outgoing { to: self.account(), guid, envelopes: vec![envelope], ephemeral: false, urgent: false }
    }
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

/// `GET` over a connection of its own; the body.
pub(crate) async fn get(address: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = address.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap().split_once("\r\n\r\n").unwrap().1.to_owned()
}

pub(crate) fn options(name: &str, folder: &Path, settings: &Vec<(String, String)>) -> ServerOptions {
    let mut all = vec![
        // Everything is logged, so that the search for leaked secrets is worth something.
        ("SPILLWAY_TELEMETRY__LEVEL".to_owned(), "debug,h2=info,hyper=info,fjall=info,lsm_tree=info".to_owned()),
        ("SPILLWAY_QUOTAS__VERIFICATION_START_NETWORK__ENABLED".to_owned(), "false".to_owned()),
    ];
    all.extend(settings.iter().cloned());
    ServerOptions {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_spillway-under-test")),
        data: data(folder),
        log: logs().join(format!("{name}.log")),
        settings: all,
        arguments: Vec::new(),
    }
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// Where `cargo xtask test` looks for leaks; a folder of the build without it.
fn logs() -> PathBuf {
    let folder = std::env::var_os("SPILLWAY_TEST_LOGS")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("logs"), PathBuf::from);
    fs::create_dir_all(&folder).unwrap();
    folder
}
