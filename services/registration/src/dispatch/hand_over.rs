use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spillway_rpc::Chain;
use spillway_store::StoreError;
use spillway_store::verifications::{QueuedCode, Verification, VerificationId};
use spillway_types::{KeyedHash, Timestamp};
use tokio::time::{Instant, timeout};

use super::UnderWay;
use crate::config::{DispatchConfig, VerificationConfig};
use crate::delivery::DeliveryDelay;
use crate::metrics::{CodeOutcome, Metrics, WorkEvent};
use crate::provider::{Accepted, Provider, ProviderError};
use crate::secrets::{Secrets, UnsealError};
use crate::sessions::{Sessions, Step};
use crate::verification::{Claim, Rules, claim, postpone};

/// Pause before a hand-over is recorded again, when the store did not answer; doubled for each further time.
const RECORD_RETRY_MIN: Duration = Duration::from_millis(50);

/// How a hand-over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing is left to do for this session.
    Done,
    /// Another code is queued already.
    Again,
    /// It failed, or another worker is at it.
    Retry { pause: Duration },
    /// The provider takes nothing for a while, from anybody.
    Throttled { pause: Duration },
}

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
    pub(crate) under_way: Arc<UnderWay>,
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
    pub(super) async fn run(&self, id: VerificationId) -> Outcome {
        match self.try_run(id).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "a queued code could not be processed");
                Outcome::Retry { pause: self.config.backoff_max }
            }
        }
    }

    async fn try_run(&self, id: VerificationId) -> Result<Outcome, HandOverError> {
        let session = self.sessions.get_any(id).await?;
        let Some(session) = session.filter(|session| session.queued.is_some()) else {
            self.metrics.work(WorkEvent::Stale);
            return Ok(Outcome::Done);
        };
        if session.expires_at <= self.sessions.now() {
            self.metrics.code(self.provider.name(), CodeOutcome::Stale);
            self.sessions.unqueue(session).await?;
            return Ok(Outcome::Done);
        }
        let number = self.secrets.open(session.id, &session.sealed_number)?;
        let Some((session, claim)) = self.claim(session).await? else { return Ok(Outcome::Done) };
        let claimed = match claim {
            Claim::Ours(claimed) => claimed,
            Claim::Held { left } => {
                self.metrics.work(WorkEvent::Held);
                // Whoever holds it will mostly be done long before its claim ends.
                return Ok(Outcome::Retry { pause: left.min(self.config.backoff_max) });
            }
            Claim::Nothing => {
                self.metrics.work(WorkEvent::Stale);
                return Ok(Outcome::Done);
            }
        };
        let left = claimed.held_until.since(self.sessions.now());
        if left < self.config.provider_timeout {
            // The claim took so long that it may run out during the call, and then another worker sends as well.
            return Ok(Outcome::Retry { pause: left });
        }
        let _settling = self.under_way.begin(id);
        let code = self.secrets.code(id);
        let started = Instant::now();
        let sending = self.provider.send(&number, claimed.transport, &code);
        match timeout(self.config.provider_timeout, sending).await {
            Ok(Ok(accepted)) => self.accepted(session, claimed, accepted, started.elapsed()).await,
            Ok(Err(error)) => self.failed(session, claimed, &error).await,
            Err(_elapsed) => self.timed_out(session, claimed).await,
        }
    }

    async fn claim(&self, session: Verification) -> Result<Option<(Verification, Claim)>, HandOverError> {
        let hold = self.config.provider_timeout.saturating_add(self.config.claim_margin);
        self.sessions
            .change_from(session, |session, now| {
                let claim = claim(session, hold, now);
                Ok(if matches!(claim, Claim::Ours(_)) { Step::Write(claim) } else { Step::Keep(claim) })
            })
            .await
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
        let recorded = self.record(session, taken, mac, delay).await?;
        let is_queued = recorded.is_some_and(|session| session.queued.is_some());
        Ok(if is_queued { Outcome::Again } else { Outcome::Done })
    }

    /// Records what cannot be undone, so it is worth several tries while the claim keeps others away.
    async fn record(
        &self,
        session: Verification,
        taken: QueuedCode,
        mac: KeyedHash,
        delay: Duration,
    ) -> Result<Option<Verification>, StoreError> {
        let rules = Rules(&self.verification);
        let mut pause = RECORD_RETRY_MIN;
        loop {
            let recorded = self
                .sessions
                .change_from(session.clone(), |session, now| {
                    rules.handed_over(session, taken, mac, None, delay, now);
                    Ok::<_, StoreError>(Step::Write(()))
                })
                .await;
            let left = taken.held_until.since(self.sessions.now());
            match recorded {
                Err(StoreError::Unavailable(_)) if left > pause && pause < self.config.claim_margin => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                recorded => return Ok(recorded?.map(|(session, ())| session)),
            }
        }
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
        claimed: QueuedCode,
        error: &ProviderError,
    ) -> Result<Outcome, HandOverError> {
        let outcome = match error {
            ProviderError::Throttled { retry_after } => {
                self.metrics.code(self.provider.name(), CodeOutcome::Throttled);
                let pause = (*retry_after).min(self.config.backoff_max);
                self.postpone(session, claimed, pause, claimed.attempts).await?;
                return Ok(Outcome::Throttled { pause });
            }
            ProviderError::Failed(_) => CodeOutcome::Failed,
            ProviderError::Refused(_) => CodeOutcome::Refused,
        };
        self.metrics.code(self.provider.name(), outcome);
        self.log_failure(error);
        if error.retryable() {
            return self.retry(session, claimed).await;
        }
        self.drop_request(session, claimed).await
    }

    async fn timed_out(&self, session: Verification, claimed: QueuedCode) -> Result<Outcome, HandOverError> {
        self.metrics.code(self.provider.name(), CodeOutcome::TimedOut);
        self.log_failure(&ProviderError::Failed("it did not answer in time".into()));
        self.retry(session, claimed).await
    }

    fn log_failure(&self, error: &ProviderError) {
        let provider = self.provider.name();
        if self.failing.swap(true, Ordering::Relaxed) {
            tracing::debug!(provider, error = %Chain(error), "a code was not handed over");
        } else {
            tracing::warn!(provider, error = %Chain(error), "the provider has begun to fail");
        }
    }

    async fn retry(&self, session: Verification, claimed: QueuedCode) -> Result<Outcome, HandOverError> {
        let attempts = claimed.attempts.saturating_add(1);
        if attempts >= self.config.attempts_max.get() {
            self.metrics.code(self.provider.name(), CodeOutcome::GivenUp);
            return self.drop_request(session, claimed).await;
        }
        let doubled = self.config.backoff_min.saturating_mul(1 << claimed.attempts.min(16));
        let pause = doubled.min(self.config.backoff_max);
        self.postpone(session, claimed, pause, attempts).await
    }

    /// Ends the claim and holds the code for a pause, whoever takes it next.
    async fn postpone(
        &self,
        session: Verification,
        claimed: QueuedCode,
        pause: Duration,
        attempts: u8,
    ) -> Result<Outcome, HandOverError> {
        self.sessions
            .change_from(session, |session, now| {
                let is_ours = postpone(session, claimed, now.saturating_add(pause), attempts);
                Ok::<_, HandOverError>(if is_ours { Step::Write(()) } else { Step::Keep(()) })
            })
            .await?;
        Ok(Outcome::Retry { pause })
    }

    /// Takes a request out of the queue without a hand-over, unless it has been replaced.
    async fn drop_request(
        &self,
        session: Verification,
        claimed: QueuedCode,
    ) -> Result<Outcome, HandOverError> {
        let kept = self
            .sessions
            .change_from(session, |session, now| {
                if session.queued == Some(claimed) {
                    session.queued = None;
                    return Ok::<_, HandOverError>(Step::Write(()));
                }
                let is_ours = postpone(session, claimed, now, 0);
                Ok(if is_ours { Step::Write(()) } else { Step::Keep(()) })
            })
            .await?;
        let is_queued = kept.is_some_and(|(session, ())| session.queued.is_some());
        Ok(if is_queued { Outcome::Again } else { Outcome::Done })
    }
}
