use std::num::NonZeroUsize;
use std::time::Duration;

use spillway_rpc::Chain;
use spillway_store::StoreError;
use spillway_store::directory::{WalkPage, WalkPosition};
use tokio::time::{Instant, sleep};

use super::catch_up::Reading;
use super::{BEFORE_WALK, Keeper};
use crate::metrics::BuildOutcome;

/// What a part of the walk has at the most; 330 kB.
const PART_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is not zero");
/// Between tries of a part that failed, and then of the whole, doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Tries of a part in a row.
const TRIES: u32 = 5;
/// How much earlier or later than the others a process builds.
const SPREAD: f64 = 0.1;

impl Keeper {
    pub(super) async fn keep_building(&self) {
        let mut pause = RETRY_FIRST;
        let every = self.config.rebuild_every.mul_f64(1.0 + SPREAD * self.deps.jitter.clamp(-1.0, 1.0));
        loop {
            let began = Instant::now();
            let outcome = self.build().await;
            self.deps.metrics.filter.built(outcome, began.elapsed(), self.now());
            self.deps.metrics.filter.size(self.deps.filter.size());
            if outcome != BuildOutcome::Finished {
                self.deps.filter.abandon();
                sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
                continue;
            }
            self.is_built.send_replace(true);
            pause = RETRY_FIRST;
            tokio::select! {
                () = sleep(every) => {}
                // Not at once: whatever asks for it may ask again.
                () = async { self.build_now.notified().await; sleep(RETRY_FIRST).await } => {}
            }
        }
    }

    async fn build(&self) -> BuildOutcome {
        self.deps.filter.begin();
        // After the beginning, so that it reads what was put before and is not in the walk.
        match self.read_log(BEFORE_WALK).await {
            Ok(Reading::Complete) => {}
            Ok(Reading::Forgotten) => return BuildOutcome::Overtaken,
            Err(error) => return failed(&error),
        }
        let mut from = WalkPosition::START;
        loop {
            let began = Instant::now();
            let page = match self.part(&from).await {
                Ok(page) => page,
                Err(error) => return failed(&error),
            };
            if !self.deps.filter.add_walked(&page.numbers) {
                return BuildOutcome::Overtaken;
            }
            let Some(next) = page.next else { break };
            from = next;
            // At most half of the time: the store and this process have other work.
            sleep(began.elapsed()).await;
        }
        match self.deps.filter.finish() {
            Some(size) => {
                tracing::info!(
                    entries = size.entries,
                    bytes = size.bytes,
                    "read which numbers are in the directory"
                );
                BuildOutcome::Finished
            }
            None => BuildOutcome::Overtaken,
        }
    }

    async fn part(&self, from: &WalkPosition) -> Result<WalkPage, StoreError> {
        let mut pause = RETRY_FIRST;
        for _ in 1..TRIES {
            match self.deps.store.walk(from, PART_MAX).await {
                Err(StoreError::Unavailable(_)) => {}
                outcome => return outcome,
            }
            sleep(pause).await;
            pause *= 2;
        }
        self.deps.store.walk(from, PART_MAX).await
    }
}

fn failed(error: &StoreError) -> BuildOutcome {
    tracing::warn!(error = %Chain(error), "the numbers of the directory could not be read");
    BuildOutcome::Failed
}
