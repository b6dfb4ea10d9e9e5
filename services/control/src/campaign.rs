//! Drives a [`Contender`] over the store, for as long as the role runs.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use spillway_chassis::Tasks;
use spillway_rpc::Chain;
use spillway_store::leases::Lease;
use spillway_store::{Cas, Leases, StoreError};
use tokio::time::{Instant, sleep_until, timeout};

use crate::lease::{Attempt, Contender, NOBODY, Step};
use crate::metrics::WriteOutcome;
use crate::{Config, Shared};

/// The register's name in the store.
const LEASE: &str = "control";

/// A release that meets an earlier write of this process is tried again. Failing costs the successor some seconds.
const RELEASE_TRIES: usize = 3;

pub(crate) struct Campaign {
    leases: Arc<dyn Leases>,
    call_timeout: Duration,
    contender: Contender,
    shared: Arc<Shared>,
    /// The store has failed and not answered since. Only the first failure is logged.
    failing: bool,
}

/// Why nothing is known of a call to the store.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("the lease could not be read or written")]
    Store(#[from] StoreError),
    #[error("the store took too long")]
    TimedOut,
}

impl Campaign {
    pub(crate) fn new(config: &Config, leases: Arc<dyn Leases>, shared: Arc<Shared>) -> Self {
        let rng = SmallRng::from_rng(&mut rand::rng());
        let contender = Contender::new(config.timing(), shared.process, rng, Instant::now());
        Self { leases, call_timeout: config.call_timeout, contender, shared, failing: false }
    }

    /// Runs until the tasks are cancelled, and then gives the lease back.
    pub(crate) fn start(mut self, tasks: &Tasks) {
        let cancelled = tasks.cancelled();
        // Without it nobody might act for the fleet, and nothing would show it.
        tasks.spawn_critical("control lease", async move {
            tokio::pin!(cancelled);
            loop {
                // Calls are bounded, and one that is cut off would leave its outcome open.
                let wait_until = self.advance().await;
                tokio::select! {
                    () = sleep_until(wait_until) => {}
                    () = &mut cancelled => break,
                }
            }
            self.release().await;
        });
    }

    /// Takes steps until there is one to wait for.
    async fn advance(&mut self) -> Instant {
        loop {
            let before = self.contender.tenure();
            match self.contender.step(Instant::now()) {
                Step::Wait(until) => return until,
                Step::Read => self.read().await,
                Step::Write(attempt) => self.write(attempt).await,
            }
            let after = self.contender.tenure();
            self.shared.guard.record(after, self.contender.seen());
            match (before, after) {
                (Some(lost), None) => tracing::warn!(token = lost.token().0, "control lease lost"),
                (before, Some(won)) if before.is_none_or(|before| before.token() != won.token()) => {
                    tracing::info!(token = won.token().0, "control lease taken");
                }
                _ => {}
            }
        }
    }

    async fn read(&mut self) {
        let began = Instant::now();
        match self.bounded(self.leases.get(LEASE)).await {
            Ok(lease) => {
                self.failing = false;
                self.contender.read(lease, Instant::now());
            }
            Err(error) => {
                self.failed(&error);
                self.contender.read_failed(began);
            }
        }
    }

    async fn write(&mut self, attempt: Attempt) {
        let put = self.leases.put(LEASE, attempt.lease, attempt.expected);
        let outcome = match self.bounded(put).await {
            Ok(cas) => {
                self.failing = false;
                self.contender.written(attempt, cas, Instant::now());
                if cas == Cas::Applied { WriteOutcome::Applied } else { WriteOutcome::Conflict }
            }
            Err(error) => {
                self.failed(&error);
                self.contender.write_failed(attempt);
                WriteOutcome::Unknown
            }
        };
        self.shared.metrics.count_write(outcome);
    }

    /// Others need not wait for this process to fall silent.
    async fn release(&mut self) {
        self.shared.guard.record(None, self.contender.seen());
        if !self.contender.may_hold() {
            return;
        }
        for _ in 0..RELEASE_TRIES {
            match self.try_release().await {
                Ok(true) => return tracing::info!("control lease given back"),
                Ok(false) => {}
                Err(error) => tracing::debug!(error = %Chain(&error), "control lease not given back"),
            }
        }
    }

    /// Whether the lease is not this process's any more.
    async fn try_release(&self) -> Result<bool, CallError> {
        let held = match self.bounded(self.leases.get(LEASE)).await? {
            Some(lease) if lease.holder == self.shared.process => lease,
            _ => return Ok(true),
        };
        let vacant = Lease { holder: NOBODY, token: held.token, renewal: held.renewal + 1 };
        Ok(self.bounded(self.leases.put(LEASE, vacant, Some(held))).await? == Cas::Applied)
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, CallError> {
        match timeout(self.call_timeout, call).await {
            Ok(answer) => Ok(answer?),
            Err(_elapsed) => Err(CallError::TimedOut),
        }
    }

    fn failed(&mut self, error: &CallError) {
        if !self.failing {
            tracing::warn!(error = %Chain(error), "the store does not answer for the control lease");
        }
        self.failing = true;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use spillway_bus::LocalBus;
    use spillway_store::leases::FencingToken;
    use tokio::time::{Instant, advance, sleep};

    use super::*;
    use crate::testing::{MemoryLeases, Node, Weather, holder, node};

    const BOUND: Duration = Duration::from_secs(10);

    fn acting(node: &Node) -> bool {
        node.control.shared.guard.tenure(Instant::now()).is_some()
    }

    /// How long it takes until the process may act, in the runtime's paused time.
    async fn until_acting(node: &Node) -> Duration {
        let start = Instant::now();
        while !acting(node) {
            assert!(start.elapsed() < BOUND, "nobody holds the lease");
            sleep(Duration::from_millis(5)).await;
        }
        start.elapsed()
    }

    async fn pair() -> (Arc<MemoryLeases>, Node, Node) {
        let (leases, bus) = (Arc::new(MemoryLeases::default()), Arc::new(LocalBus::new()));
        let first = node(1, Config::default(), leases.clone(), &bus);
        until_acting(&first).await;
        let second = node(2, Config::default(), leases.clone(), &bus);
        (leases, first, second)
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_hands_the_lease_over_within_a_second() {
        let (leases, first, second) = pair().await;
        sleep(BOUND).await;
        assert!(acting(&first) && !acting(&second), "a holder that renews keeps it");
        first.tasks.close_and_wait(BOUND).await.unwrap();
        assert!(!acting(&first));
        assert!(until_acting(&second).await < Duration::from_secs(1));
        let lease = leases.stored().unwrap();
        assert_eq!((lease.holder, lease.token), (holder(2), FencingToken(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_did_not_hold_it_gives_nothing_back() {
        let (leases, first, second) = pair().await;
        second.tasks.close_and_wait(BOUND).await.unwrap();
        assert!(acting(&first));
        assert_eq!(leases.stored().unwrap().holder, holder(1));
    }

    #[tokio::test(start_paused = true)]
    async fn writes_whose_answers_are_lost_keep_the_lease() {
        let (leases, first, second) = pair().await;
        leases.weather(Weather::Mute);
        for _ in 0..100 {
            sleep(Duration::from_millis(100)).await;
            assert!(acting(&first) && !acting(&second));
        }
        first.tasks.close_and_wait(BOUND).await.unwrap();
        assert_eq!(leases.stored().unwrap().holder, NOBODY);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_store_nobody_acts_and_then_the_same_goes_on() {
        for weather in [Weather::Refusing, Weather::Hanging] {
            let (leases, first, second) = pair().await;
            leases.weather(weather);
            // The last renewal may have begun just now.
            sleep(Config::default().valid_for + Duration::from_millis(1)).await;
            assert!(!acting(&first) && !acting(&second), "{weather:?}");
            leases.weather(Weather::Fine);
            assert!(until_acting(&first).await < Duration::from_secs(1), "{weather:?}");
            assert_eq!(leases.stored().unwrap().token, FencingToken(1), "{weather:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_stood_still_cannot_act_when_it_wakes() {
        let (_leases, first, _second) = pair().await;
        let tenure = first.control.shared.guard.tenure(Instant::now()).unwrap();
        // No task runs meanwhile, as under SIGSTOP.
        advance(Duration::from_secs(30)).await;
        assert!(tenure.check(Instant::now()).is_err());
        assert!(first.control.shared.publish_state(tenure).await.is_err());
    }
}
