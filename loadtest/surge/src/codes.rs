//! The phones of the population: where codes arrive.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use spillway_api::v1;
use spillway_api::v1::sandbox_codes_client::SandboxCodesClient;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

/// The time a person is willing to wait for an error.
const OPENS_WITHIN: Duration = Duration::from_millis(4_500);

#[derive(Debug, thiserror::Error)]
pub enum CodesError {
    #[error(
        "cannot reach the sandbox provider's codes at {address}; start the service with \
         `[listen] sandbox_codes` set, and name that address with --codes"
    )]
    Unreachable {
        address: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the stream of codes ended")]
    Ended(#[source] Option<Box<Status>>),
}

/// Hands each code that arrives to whoever waits at that number, and counts it. Clones share the waiters.
#[derive(Clone, Debug, Default)]
pub struct Phones(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<HashMap<String, oneshot::Sender<String>>>,
    arrived: AtomicU64,
    /// What arrives where nobody waits is somebody else's.
    only_expected: bool,
}

/// The stream that feeds [`Phones`].
#[derive(Debug)]
pub struct CodeStream {
    phones: Phones,
    codes: Streaming<v1::SandboxCode>,
}

/// The place where one number's next code arrives. Dropping it stops the waiting.
#[derive(Debug)]
pub struct ExpectedCode {
    phones: Phones,
    number: String,
    code: oneshot::Receiver<String>,
}

impl Phones {
    /// Phones that count only codes that somebody waits for: those of the others are counted by the others.
    pub fn of_part() -> Self {
        Self(Arc::new(Shared { only_expected: true, ..Shared::default() }))
    }

    /// Starts to wait for the next code of a number; call it before the code is asked for.
    pub fn expect(&self, number: &str) -> ExpectedCode {
        let (sender, code) = oneshot::channel();
        self.waiting().insert(number.to_owned(), sender);
        ExpectedCode { phones: self.clone(), number: number.to_owned(), code }
    }

    /// A code has arrived at a number.
    pub fn ring(&self, number: &str, code: String) {
        let waiting = self.waiting().remove(number);
        if waiting.is_some() || !self.0.only_expected {
            self.0.arrived.fetch_add(1, Relaxed);
        }
        if let Some(waiting) = waiting {
            // Nobody waits any more: the caller gave up between the lock and here.
            waiting.send(code).ok();
        }
    }

    /// Codes that have arrived at any number, whether anybody waited for them or not (but see [`Phones::of_part`]).
    pub fn arrived(&self) -> u64 {
        self.0.arrived.load(Relaxed)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<String>>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ExpectedCode {
    /// The code, or `None` when none came in time.
    pub async fn within(mut self, bound: Duration) -> Option<String> {
        self.wait(bound).await
    }

    /// The same, for somebody who goes on waiting when none has come.
    pub async fn wait(&mut self, bound: Duration) -> Option<String> {
        tokio::time::timeout(bound, &mut self.code).await.ok()?.ok()
    }
}

impl Drop for ExpectedCode {
    fn drop(&mut self) {
        self.code.close();
        let mut waiting = self.phones.waiting();
        // A later wait for the same number has put its own sender there, which is still open.
        if waiting.get(&self.number).is_some_and(oneshot::Sender::is_closed) {
            waiting.remove(&self.number);
        }
    }
}

impl CodeStream {
    /// Opens the stream; codes delivered from then on are seen.
    ///
    /// # Errors
    ///
    /// When nobody serves codes at that address.
    pub async fn open(address: &str, phones: Phones) -> Result<Self, CodesError> {
        let unreachable = |source| CodesError::Unreachable { address: address.to_owned(), source };
        match timeout(OPENS_WITHIN, Self::opened(address)).await {
            Ok(Ok(codes)) => Ok(Self { phones, codes }),
            Ok(Err(source)) => Err(unreachable(source)),
            Err(late) => Err(unreachable(late.into())),
        }
    }

    async fn opened(
        address: &str,
    ) -> Result<Streaming<v1::SandboxCode>, Box<dyn std::error::Error + Send + Sync>> {
        let channel = Endpoint::from_shared(address.to_owned())?.tcp_nodelay(true).connect().await?;
        let watched = SandboxCodesClient::new(channel).watch(v1::WatchCodesRequest {}).await?;
        Ok(watched.into_inner())
    }

    /// Feeds the phones until the stream ends.
    ///
    /// # Errors
    ///
    /// Always, in the end: with the reason why the stream ended.
    pub async fn run(mut self) -> Result<(), CodesError> {
        loop {
            match self.codes.message().await {
                Ok(Some(code)) => self.phones.ring(&code.number, code.code),
                Ok(None) => return Err(CodesError::Ended(None)),
                Err(status) => return Err(CodesError::Ended(Some(Box::new(status)))),
            }
        }
    }
}
