//! Clients of a service, and people who sign up with it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use spillway_api::{Reason, v1};
use spillway_client::{CallError, Client, ClientConfig, Identity};
use spillway_types::PhoneNumber;
use surge::codes::{CodeStream, CodesError, Phones};
use surge::population::Population;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::CONNECTIONS;

/// Limits that would bite because everything comes from one address. They are still computed, in shadow, so that their
/// cost is in every figure.
pub(crate) const SHADOWED_LIMITS: [&str; 5] =
    ["VERIFICATION_START_NETWORK", "MESSAGES", "MESSAGE_BYTES", "SESSION_OPEN", "AUTHENTICATE"];

/// Sign-ups under way at once while a population is made.
const SIGN_UPS_AT_ONCE: usize = 64;
/// A population is made whole; a service that is busy takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
const CODE_WAIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct People {
    /// `http://` address of the public API.
    pub(crate) address: String,
    pub(crate) clients: Vec<Client>,
    pub(crate) phones: Phones,
    pub(crate) population: Population,
    /// End with this.
    _codes: JoinSet<Result<(), CodesError>>,
}

/// Somebody who has an account.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) index: u64,
    pub(crate) identity: Arc<Identity>,
}

impl People {
    /// `codes`: `http://` addresses of the sandbox providers' codes.
    pub(crate) async fn reach(address: &str, codes: &[String]) -> Result<Self> {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Client::connect(address, ClientConfig::default()).await?);
        }
        let phones = Phones::default();
        let mut streams = JoinSet::new();
        for codes in codes {
            let stream = CodeStream::open(codes, phones.clone()).await?;
            streams.spawn(stream.run());
        }
        Ok(Self {
            address: address.to_owned(),
            clients,
            phones,
            population: Population::new(1),
            _codes: streams,
        })
    }

    pub(crate) fn client(&self, n: usize) -> &Client {
        &self.clients[n % self.clients.len()]
    }

    pub(crate) async fn sign_up(&self, indices: Range<u64>) -> Result<Vec<User>> {
        stream::iter(indices)
            .map(|index| {
                let client = self.client(index as usize).clone();
                sign_up_patiently(client, self.population, self.phones.clone(), index)
            })
            .buffered(SIGN_UPS_AT_ONCE)
            .try_collect()
            .await
    }
}

/// A complete sign-up, begun again when the service says so for as long as it takes.
async fn sign_up_patiently(
    client: Client,
    population: Population,
    phones: Phones,
    index: u64,
) -> Result<User> {
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        let error = match sign_up(client.clone(), population, phones.clone(), index).await {
            Ok(user) => return Ok(user),
            Err(error) => error,
        };
        let refusal = error.downcast_ref::<CallError>().and_then(CallError::refusal);
        let told = refusal
            .filter(|refusal| refusal.reason == Reason::Overload)
            .and_then(|refusal| refusal.retry_after);
        match told {
            Some(pause) if Instant::now() + pause < give_up_at => tokio::time::sleep(pause).await,
            _ => return Err(error),
        }
    }
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
