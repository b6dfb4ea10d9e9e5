use std::sync::Arc;
use std::time::Duration;

use spillway_rpc::Chain;
use spillway_store::StoreError;
use spillway_store::verifications::{ProviderTag, QueuedCode, Verification, VerificationId};
use spillway_types::PhoneNumber;
use tokio::time::{Instant, timeout};

use super::UnderWay;
use super::routes::{Attempt, Route, Routes};
use crate::config::{DispatchConfig, VerificationConfig};
use crate::delivery::DeliveryDelay;
use crate::metrics::{CodeOutcome, GuardVerdict, Metrics, NO_PROVIDER, WorkEvent};
use crate::provider::{Accepted, ProviderError};
use crate::routing::{Ask, Receipted};
use crate::secrets::{Secrets, UnsealError};
use crate::sessions::{Sessions, Step};
use crate::verification::{Claim, Rules, claim, mark_failed, postpone};

/// Pause before a hand-over is recorded again, when the store did not answer; doubled for each further time.
const RECORD_RETRY_MIN: Duration = Duration::from_millis(50);
/// The shortest wait for a provider: a rate limit has room for several codes then, and each wake-up of a worker reads up
/// to as many sessions as it may have calls.
const WAIT_MIN: Duration = Duration::from_millis(50);

/// How a hand-over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing is left to do for this session.
    Done,
    /// Another code is queued already.
    Again,
    /// It failed, or another worker is at it.
    Retry { pause: Duration },
    /// No provider takes anything for a while.
    Throttled { pause: Duration },
}

/// Everything that one hand-over needs.
#[derive(Debug)]
pub(crate) struct HandOver {
    pub(crate) config: DispatchConfig,
    pub(crate) verification: VerificationConfig,
    pub(crate) sessions: Sessions,
    pub(crate) routes: Arc<Routes>,
    pub(crate) secrets: Secrets,
    pub(crate) delivery: Arc<DeliveryDelay>,
    pub(crate) metrics: Metrics,
    pub(crate) under_way: Arc<UnderWay>,
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
        let Some((queued, session)) = session.and_then(|session| Some((session.queued?, session))) else {
            self.metrics.work(WorkEvent::Stale);
            return Ok(Outcome::Done);
        };
        if session.expires_at <= self.sessions.now() {
            self.metrics.code(NO_PROVIDER, CodeOutcome::Stale);
            self.sessions.unqueue(session).await?;
            return Ok(Outcome::Done);
        }
        let left = queued.held_until.since(self.sessions.now());
        if !left.is_zero() {
            return Ok(self.held(left));
        }
        let to = self.secrets.open(session.id, &session.sealed_number)?;
        let number = &to.number;
        let ask = Ask {
            country: number.country_code(),
            transport: queued.transport,
            failed: &session.failed,
            places: self.secrets.places(&to),
        };
        let attempt = match self.routes.route(&ask) {
            Route::Send(attempt) => Some(attempt),
            Route::Pretend => None,
            Route::Wait { pause, everybody } => return Ok(self.wait(pause, everybody)),
            Route::Nobody => {
                self.metrics.code(NO_PROVIDER, CodeOutcome::Refused);
                return self.drop_request(session, queued).await;
            }
        };
        let Some((session, claim)) = self.claim(session).await? else { return Ok(Outcome::Done) };
        let claimed = match claim {
            Claim::Ours(claimed) => claimed,
            Claim::Held { left } => return Ok(self.held(left)),
            Claim::Nothing => {
                self.metrics.work(WorkEvent::Stale);
                return Ok(Outcome::Done);
            }
        };
        if claimed.transport != queued.transport {
            // A request for the other transport came between; what was reserved is not for that one.
            return self.postpone(session, claimed, Duration::ZERO, claimed.attempts, None).await;
        }
        let left = claimed.held_until.since(self.sessions.now());
        if left < self.config.provider_timeout {
            // The claim took so long that it may run out during the call, and then another worker sends as well.
            return Ok(Outcome::Retry { pause: left });
        }
        let _settling = self.under_way.begin(id);
        match attempt {
            Some(attempt) => self.send(session, claimed, attempt, number).await,
            None => self.pretend(session, claimed).await,
        }
    }

    async fn send(
        &self,
        session: Verification,
        claimed: QueuedCode,
        attempt: Attempt,
        number: &PhoneNumber,
    ) -> Result<Outcome, HandOverError> {
        let code = self.secrets.code(session.id);
        let provider = attempt.provider();
        let started = Instant::now();
        let sending = provider.send(number, claimed.transport, &code);
        match timeout(self.config.provider_timeout, sending).await {
            Ok(Ok(accepted)) => self.accepted(session, claimed, attempt, accepted, started.elapsed()).await,
            Ok(Err(ProviderError::Unanswered)) | Err(_) => self.timed_out(session, claimed, attempt).await,
            Ok(Err(error)) => self.failed(session, claimed, attempt, &error).await,
        }
    }

    /// Does all that happens to a code but send it: the session looks the same to whoever asked for it.
    async fn pretend(&self, session: Verification, claimed: QueuedCode) -> Result<Outcome, HandOverError> {
        self.metrics.guard(GuardVerdict::Pretend);
        tokio::time::sleep(self.routes.usual_call().min(self.config.provider_timeout)).await;
        let waited = self.sessions.now().since(claimed.since);
        let delay = self.delivery.estimate().unwrap_or_default().max(waited);
        self.recorded(session, claimed, None, delay).await
    }

    fn held(&self, left: Duration) -> Outcome {
        self.metrics.work(WorkEvent::Held);
        // Whoever holds it will mostly be done long before its claim ends.
        Outcome::Retry { pause: left.min(self.config.backoff_max) }
    }

    fn wait(&self, pause: Duration, everybody: bool) -> Outcome {
        // Not longer than the greatest pause, so that what nobody waits for any more is found.
        let pause = pause.max(WAIT_MIN).min(self.config.backoff_max.max(WAIT_MIN));
        if everybody { Outcome::Throttled { pause } } else { Outcome::Retry { pause } }
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
        attempt: Attempt,
        accepted: Accepted,
        call: Duration,
    ) -> Result<Outcome, HandOverError> {
        let dispatch = self.sessions.now().since(taken.since).max(call);
        self.metrics.dispatch_seconds.observe(dispatch.as_secs_f64());
        let delay = dispatch.saturating_add(accepted.delivery_delay.unwrap_or_default());
        let will_be_told = accepted.message.is_some() && attempt.gives_receipts();
        let told = accepted.message.and_then(|name| attempt.awaits_receipt(&name, session.id, dispatch));
        let known = (!will_be_told).then_some(delay);
        known.into_iter().for_each(|delay| self.delivery.record(delay));
        let provider = attempt.tag();
        let estimate = self.delivery.estimate().unwrap_or_default();
        attempt.accepted(session.id, call, known, estimate);
        let mut session = session;
        if let Some(receipted) = told {
            self.heard(&receipted);
            if !receipted.arrived {
                mark_failed(&mut session, provider);
            }
        }
        self.recorded(session, taken, Some(provider), estimate.max(delay)).await
    }

    async fn recorded(
        &self,
        session: Verification,
        taken: QueuedCode,
        provider: Option<ProviderTag>,
        delay: Duration,
    ) -> Result<Outcome, HandOverError> {
        let recorded = self.record(session, taken, provider, delay).await?;
        let is_queued = recorded.is_some_and(|session| session.queued.is_some());
        Ok(if is_queued { Outcome::Again } else { Outcome::Done })
    }

    /// Records what cannot be undone, so it is worth several tries while the claim keeps others away.
    async fn record(
        &self,
        session: Verification,
        taken: QueuedCode,
        provider: Option<ProviderTag>,
        delay: Duration,
    ) -> Result<Option<Verification>, StoreError> {
        let rules = Rules(&self.verification);
        let mac = self.secrets.code_mac(session.id, self.secrets.code(session.id).expose());
        let mut pause = RECORD_RETRY_MIN;
        loop {
            let recorded = self
                .sessions
                .change_from(session.clone(), |session, now| {
                    rules.handed_over(session, taken, mac, provider, delay, now);
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

    /// What a receipt says of the present delay.
    pub(super) fn heard(&self, receipted: &Receipted) {
        if receipted.arrived {
            self.delivery.record(receipted.delay);
        }
    }

    async fn failed(
        &self,
        session: Verification,
        claimed: QueuedCode,
        attempt: Attempt,
        error: &ProviderError,
    ) -> Result<Outcome, HandOverError> {
        let (provider, country) = (attempt.tag(), attempt.country());
        attempt.failed(error);
        match error {
            // The router has learnt that this one takes no more for now, and perhaps another does.
            ProviderError::Throttled { .. } => {
                self.postpone(session, claimed, Duration::ZERO, claimed.attempts, None).await
            }
            ProviderError::Failed(_) | ProviderError::Unanswered => {
                self.retry(session, claimed, provider, country).await
            }
            ProviderError::Refused(_)
                if self.routes.has_other(country, claimed.transport, &with(&session.failed, provider)) =>
            {
                self.retry(session, claimed, provider, country).await
            }
            ProviderError::Refused(_) => self.drop_request(session, claimed).await,
        }
    }

    async fn timed_out(
        &self,
        session: Verification,
        claimed: QueuedCode,
        attempt: Attempt,
    ) -> Result<Outcome, HandOverError> {
        let (provider, country) = (attempt.tag(), attempt.country());
        attempt.timed_out();
        self.retry(session, claimed, provider, country).await
    }

    /// At once when another provider can have it, else after a pause.
    async fn retry(
        &self,
        session: Verification,
        claimed: QueuedCode,
        provider: ProviderTag,
        country: u16,
    ) -> Result<Outcome, HandOverError> {
        let attempts = claimed.attempts.saturating_add(1);
        if attempts >= self.config.attempts_max.get() {
            self.metrics.code(NO_PROVIDER, CodeOutcome::GivenUp);
            return self.drop_request(session, claimed).await;
        }
        let failed = with(&session.failed, provider);
        let pause = if self.routes.has_other_ready(country, claimed.transport, &failed) {
            Duration::ZERO
        } else {
            let doubled = self.config.backoff_min.saturating_mul(1 << claimed.attempts.min(16));
            doubled.min(self.config.backoff_max)
        };
        self.postpone(session, claimed, pause, attempts, Some(provider)).await
    }

    /// Ends the claim and holds the code for a pause, whoever takes it next.
    async fn postpone(
        &self,
        session: Verification,
        claimed: QueuedCode,
        pause: Duration,
        attempts: u8,
        failed: Option<ProviderTag>,
    ) -> Result<Outcome, HandOverError> {
        self.sessions
            .change_from(session, |session, now| {
                let is_ours = postpone(session, claimed, now.saturating_add(pause), attempts);
                if let Some(provider) = failed.filter(|_| is_ours) {
                    mark_failed(session, provider);
                }
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

fn with(failed: &[ProviderTag], provider: ProviderTag) -> Vec<ProviderTag> {
    failed.iter().copied().chain([provider]).collect()
}
