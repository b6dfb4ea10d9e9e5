//! The way for a component to say that the process must not go on.
//!
//! Meant for what retrying cannot mend and continuing would make worse: a failed fsync, a lost lease, a critical
//! task that panicked. The first reason wins and is never taken back. Reporting does not exit: [`crate::Drain::run`]
//! sees the report and returns [`crate::Exit::Fatal`], so that `main` alone ends the process.

use std::sync::Arc;

use tokio::sync::watch;

/// A cheap, cloneable handle; clones share the reason.
#[derive(Clone, Debug)]
pub struct Fatal(Arc<watch::Sender<Option<String>>>);

impl Fatal {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Asks for the process to stop with a non-zero exit code. Every report is logged here, at ERROR, so the caller
    /// must not log it again.
    pub fn report(&self, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::error!(reason, "fatal condition, the process must stop");
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(reason);
            is_first
        });
    }

    pub fn is_reported(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits for the first report and returns its reason.
    pub async fn reported(&self) -> String {
        let mut reports = self.0.subscribe();
        let reason = reports.wait_for(Option::is_some).await;
        let reason = reason.expect("self holds the sender").clone();
        reason.expect("just waited for a reason")
    }
}
