//! A provider that does what a test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use spillway_registration::provider::{Accepted, Code, Provider, ProviderError};
use spillway_store::verifications::Transport;
use spillway_types::PhoneNumber;
use tokio::sync::{Semaphore, mpsc};

/// A call that reached the provider.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) number: String,
    pub(crate) transport: Transport,
    pub(crate) code: String,
}

#[derive(Debug)]
pub(crate) struct Scripted {
    calls: mpsc::Sender<Call>,
    /// Each answer takes a permit; tests that never hold have plenty.
    permits: Semaphore,
    failures: Mutex<VecDeque<ProviderError>>,
    failing_number: Option<String>,
}

impl Scripted {
    fn with(permits: usize, failing_number: Option<&str>) -> (Arc<Self>, mpsc::Receiver<Call>) {
        let (calls, seen) = mpsc::channel(10_000);
        let scripted = Self {
            calls,
            permits: Semaphore::new(permits),
            failures: Mutex::default(),
            failing_number: failing_number.map(str::to_owned),
        };
        (Arc::new(scripted), seen)
    }

    pub(crate) fn accepting() -> (Arc<Self>, mpsc::Receiver<Call>) {
        Self::with(Semaphore::MAX_PERMITS, None)
    }

    /// Takes calls, and answers each only when `release` allows it.
    pub(crate) fn holding() -> (Arc<Self>, mpsc::Receiver<Call>) {
        Self::with(0, None)
    }

    /// Fails for one number, always.
    pub(crate) fn failing_for(number: &str) -> (Arc<Self>, mpsc::Receiver<Call>) {
        Self::with(Semaphore::MAX_PERMITS, Some(number))
    }

    pub(crate) fn release(&self, answers: usize) {
        self.permits.add_permits(answers);
    }

    /// The next answers, before it goes back to accepting.
    pub(crate) fn fail_next(&self, failures: impl IntoIterator<Item = ProviderError>) {
        self.failures.lock().unwrap().extend(failures);
    }
}

pub(crate) fn failed() -> ProviderError {
    ProviderError::Failed("scripted".into())
}

pub(crate) fn throttled() -> ProviderError {
    ProviderError::Throttled { retry_after: Duration::from_millis(5) }
}

#[async_trait]
impl Provider for Scripted {
    async fn send(
        &self,
        number: &PhoneNumber,
        transport: Transport,
        code: &Code,
    ) -> Result<Accepted, ProviderError> {
        let number = number.as_e164().to_owned();
        let fails = self.failing_number.as_ref() == Some(&number);
        let call = Call { number, transport, code: code.expose().to_owned() };
        self.calls.try_send(call).expect("the test reads its calls");
        self.permits.acquire().await.unwrap().forget();
        let failure = self.failures.lock().unwrap().pop_front();
        match failure {
            Some(error) => Err(error),
            None if fails => Err(failed()),
            None => Ok(Accepted::default()),
        }
    }
}
