use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spillway_rpc::Chain;
use spillway_store::StoreError;
use spillway_store::verifications::{QueuedCode, Verification};
use spillway_types::Timestamp;
use tokio::time::{Instant, timeout};

use super::Wake;
use super::queue::Outcome;
use crate::config::{DispatchConfig, VerificationConfig};
use crate::delivery::DeliveryDelay;
use crate::metrics::{CodeOutcome, Metrics};
use crate::provider::{Accepted, Provider, ProviderError};
use crate::secrets::{Secrets, UnsealError};
use crate::sessions::{Sessions, Step};
use crate::verification::Rules;

/// Everything that one hand-over needs.
#[derive(Debug)]
pub(crate) struct HandOver {
    pub(crate) config: DispatchConfig,
    pub(crate) verification: VerificationConfig,
    pub(crate) sessions: Sessions,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) secrets: Secrets,
    pub(crate) delivery: Arc<DeliveryDelay>,
    pub(crate) metrics: Metrics,
    /// So that an outage of the provider makes two log lines and not one for each code.
    pub(crate) failing: AtomicBool,
}

#[derive(Debug, thiserror::Error)]
enum HandOverError {
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Unseal(#[from] UnsealError),
}

impl HandOver {
    pub(super) async fn run(&self, wake: Wake, attempts: u8) -> Outcome {
        match self.try_run(wake, attempts).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "a queued code could not be processed");
                Outcome::Retry { pause: self.config.backoff_max }
            }
        }
    }

    async fn try_run(&self, wake: Wake, attempts: u8) -> Result<Outcome, HandOverError> {
        let Some(session) = self.sessions.get_any(wake.id).await? else { return Ok(Outcome::Done) };
        let Some(queued) = session.queued else { return Ok(Outcome::Done) };
        if session.expires_at <= self.sessions.now() {
            self.metrics.code(self.provider.name(), CodeOutcome::Stale);
            self.sessions.unqueue(session).await?;
            return Ok(Outcome::Done);
        }
        let number = match wake.number {
            Some(number) => number,
            None => self.secrets.open(session.id, &session.sealed_number)?,
        };
        let code = self.secrets.code(session.id);
        let started = Instant::now();
        let sending = self.provider.send(&number, queued.transport, &code);
        match timeout(self.config.provider_timeout, sending).await {
            Ok(Ok(accepted)) => self.accepted(session, queued, accepted, started.elapsed()).await,
            Ok(Err(error)) => self.failed(session, queued, &error, attempts).await,
            Err(_elapsed) => self.timed_out(session, queued, attempts).await,
        }
    }

    async fn accepted(
        &self,
        session: Verification,
        taken: QueuedCode,
        accepted: Accepted,
        call: Duration,
    ) -> Result<Outcome, HandOverError> {
        self.metrics.code(self.provider.name(), CodeOutcome::Accepted);
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(provider = self.provider.name(), "the provider takes codes again");
        }
        let delay = self.measure(taken, accepted, call, self.sessions.now());
        let mac = self.secrets.code_mac(session.id, self.secrets.code(session.id).expose());
        let rules = Rules(&self.verification);
        let recorded = self
            .sessions
            .change_from(session, |session, now| {
                rules.handed_over(session, taken, mac, delay, now);
                Ok::<_, HandOverError>(Step::Write(()))
            })
            .await?;
        let is_queued = recorded.is_some_and(|(session, ())| session.queued.is_some());
        Ok(if is_queued { Outcome::Again } else { Outcome::Done })
    }

    /// The delivery delay at present: what nine of ten codes had lately, or this one if it was slower.
    fn measure(&self, taken: QueuedCode, accepted: Accepted, call: Duration, now: Timestamp) -> Duration {
        let dispatch = now.since(taken.since).max(call);
        self.metrics.dispatch_seconds.observe(dispatch.as_secs_f64());
        let delay = dispatch.saturating_add(accepted.delivery_delay.unwrap_or_default());
        self.delivery.record(delay);
        self.delivery.estimate().unwrap_or_default().max(delay)
    }

    async fn failed(
        &self,
        session: Verification,
        queued: QueuedCode,
        error: &ProviderError,
        attempts: u8,
    ) -> Result<Outcome, HandOverError> {
        let outcome = match error {
            ProviderError::Throttled { retry_after } => {
                self.metrics.code(self.provider.name(), CodeOutcome::Throttled);
                return Ok(Outcome::Throttled { pause: *retry_after });
            }
            ProviderError::Failed(_) => CodeOutcome::Failed,
            ProviderError::Refused(_) => CodeOutcome::Refused,
        };
        self.metrics.code(self.provider.name(), outcome);
        self.log_failure(error);
        if error.retryable() {
            return self.retry(session, queued, attempts).await;
        }
        self.drop_request(session, queued).await
    }

    async fn timed_out(
        &self,
        session: Verification,
        queued: QueuedCode,
        attempts: u8,
    ) -> Result<Outcome, HandOverError> {
        self.metrics.code(self.provider.name(), CodeOutcome::TimedOut);
        self.log_failure(&ProviderError::Failed("it did not answer in time".into()));
        self.retry(session, queued, attempts).await
    }

    fn log_failure(&self, error: &ProviderError) {
        let provider = self.provider.name();
        if self.failing.swap(true, Ordering::Relaxed) {
            tracing::debug!(provider, error = %Chain(error), "a code was not handed over");
        } else {
            tracing::warn!(provider, error = %Chain(error), "the provider has begun to fail");
        }
    }

    async fn retry(
        &self,
        session: Verification,
        queued: QueuedCode,
        attempts: u8,
    ) -> Result<Outcome, HandOverError> {
        if attempts + 1 >= self.config.attempts_max.get() {
            self.metrics.code(self.provider.name(), CodeOutcome::GivenUp);
            return self.drop_request(session, queued).await;
        }
        let doubled = self.config.backoff_min.saturating_mul(1 << attempts.min(16));
        Ok(Outcome::Retry { pause: doubled.min(self.config.backoff_max) })
    }

    /// Takes a request out of the queue without a hand-over, unless it has been replaced.
    async fn drop_request(
        &self,
        session: Verification,
        queued: QueuedCode,
    ) -> Result<Outcome, HandOverError> {
        let kept = self
            .sessions
            .change_from(session, |session, _| {
                if session.queued != Some(queued) {
                    return Ok::<_, HandOverError>(Step::Keep(()));
                }
                session.queued = None;
                Ok(Step::Write(()))
            })
            .await?;
        let is_queued = kept.is_some_and(|(session, ())| session.queued.is_some());
        Ok(if is_queued { Outcome::Again } else { Outcome::Done })
    }
}
