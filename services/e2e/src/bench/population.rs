//! A service of its own for a measurement, and people who have signed up with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use spillway_api::v1;
use spillway_client::{Client, ClientConfig, Identity};
use spillway_types::PhoneNumber;
use surge::codes::{CodeStream, Phones};
use surge::population::Population;
use surge::server::{ServerOptions, ServerProcess};
use tempfile::TempDir;
use tokio::task::AbortHandle;

use super::{CONNECTIONS, Options};

/// Sign-ups under way at once while a population is made.
const SIGN_UPS_AT_ONCE: usize = 64;
const CODE_WAIT: Duration = Duration::from_secs(20);

/// A running service with clients. Everything ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) server: ServerProcess,
    pub(crate) clients: Vec<Client>,
    pub(crate) phones: Phones,
    pub(crate) population: Population,
    codes: AbortHandle,
    folder: TempDir,
}

/// Somebody who has an account.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) index: u64,
    pub(crate) identity: Arc<Identity>,
}

impl Node {
    pub(crate) async fn start(options: &Options) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let server = ServerProcess::start(&server_options(options, folder.path().join("data"))).await?;
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Client::connect(&server.public, ClientConfig::default()).await?);
        }
        let phones = Phones::default();
        let codes = server.codes.clone().context("the service serves no sandbox codes")?;
        let stream = CodeStream::open(&codes, phones.clone()).await?;
        #[expect(clippy::disallowed_methods, reason = "aborted when the node is dropped")]
        let codes = tokio::spawn(stream.run()).abort_handle();
        Ok(Self { server, clients, phones, population: Population::new(1), codes, folder })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn client(&self, n: usize) -> &Client {
        &self.clients[n % self.clients.len()]
    }

    pub(crate) async fn people(&self, indices: std::ops::Range<u64>) -> Result<Vec<User>> {
        stream::iter(indices)
            .map(|index| {
                sign_up(self.client(index as usize).clone(), self.population, self.phones.clone(), index)
            })
            .buffered(SIGN_UPS_AT_ONCE)
            .try_collect()
            .await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.codes.abort();
    }
}

/// Settings under which everything comes from one address without a limit biting. The limits are still computed,
/// in shadow, so that their cost is in every figure.
pub(crate) fn server_options(options: &Options, data: PathBuf) -> ServerOptions {
    let shadowed =
        ["VERIFICATION_START_NETWORK", "MESSAGES", "MESSAGE_BYTES", "SESSION_OPEN", "AUTHENTICATE"];
    let mut settings: Vec<_> = shadowed
        .iter()
        .map(|limit| (format!("SPILLWAY_QUOTAS__{limit}__SHADOW"), "true".to_owned()))
        .collect();
    settings.push(("SPILLWAY_TELEMETRY__LEVEL".to_owned(), "warn".to_owned()));
    let log = data.with_extension("log");
    ServerOptions { binary: options.server.clone(), data, log, settings, arguments: Vec::new() }
}

/// A complete sign-up: start, the code, check, create.
pub(crate) async fn sign_up(
    client: Client,
    population: Population,
    phones: Phones,
    index: u64,
) -> Result<User> {
    let person = population.person(index);
    let number = PhoneNumber::parse(&person.number)?;
    let code = phones.expect(&person.number);
    let verification = client.start_verification(&number, v1::Transport::Sms).await?;
    let code = code.within(CODE_WAIT).await.context("no code arrived")?;
    let verification = client.check_code(&verification, &code).await?;
    ensure!(verification.is_verified(), "the right code was refused");
    let enrolled = client.create_account(&verification, population.device(index)).await?;
    Ok(User { index, identity: Arc::new(enrolled.identity) })
}
