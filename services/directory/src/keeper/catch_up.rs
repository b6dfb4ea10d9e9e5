use std::time::Duration;

use spillway_rpc::Chain;
use spillway_store::StoreError;
use spillway_store::directory::PutLog;
use tokio::time::Instant;

use super::{Keeper, LATE};

/// What is read of the log at a time.
const SPAN: Duration = Duration::from_secs(60);
/// Between two readings at the least: hints that are lost all the time must not make the store answer all the time.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// What a reading of the log found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Complete,
    /// The log does not go back so far.
    Forgotten,
}

impl Keeper {
    pub(super) async fn keep_up(&self) {
        let mut last = Instant::now();
        loop {
            let asked_at = Instant::now();
            match self.read_log(asked_at.saturating_duration_since(last) + LATE).await {
                Ok(Reading::Complete) => {
                    last = asked_at;
                    self.deps.filter.caught_up(asked_at);
                    self.deps.metrics.filter.caught_up(self.now());
                }
                Ok(Reading::Forgotten) => {
                    tracing::warn!(
                        "the log of new entries does not go back to where it was read; the directory is read again"
                    );
                    last = asked_at;
                    self.deps.filter.forget();
                    self.build_now.notify_one();
                }
                Err(error) => {
                    self.deps.metrics.filter.log_failures.inc();
                    tracing::warn!(error = %Chain(&error), "what is new in the directory could not be read");
                }
            }
            let size = self.deps.filter.size();
            self.deps.metrics.filter.size(size);
            if size.is_worth_rebuilding() {
                self.build_now.notify_one();
            }
            tokio::time::sleep(PAUSE_MIN.min(self.config.catch_up_every)).await;
            let rest = self.config.catch_up_every.saturating_sub(PAUSE_MIN);
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.catch_up_now.notified() => {}
            }
        }
    }

    /// Adds what was put since `back` ago. The span reaches into the future as far, for clocks that are ahead.
    pub(super) async fn read_log(&self, back: Duration) -> Result<Reading, StoreError> {
        let now = self.now();
        let (mut from, end) = (now.saturating_sub(back), now.saturating_add(LATE));
        while from < end {
            let until = from.saturating_add(SPAN).min(end);
            match self.deps.store.put_between(from, until).await? {
                PutLog::Numbers(numbers) => self.deps.filter.add(&numbers),
                PutLog::Forgotten => return Ok(Reading::Forgotten),
            }
            from = until;
        }
        Ok(Reading::Complete)
    }
}
