//! Asks about devices: not too many at a time, and remembers for a while that nobody answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use spillway_rpc::Chain;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::RoomError;
use crate::attestation::{Attestation, Evidence, Verdict};
use crate::config::AttestationConfig;

pub(super) struct Judge {
    attestation: Arc<dyn Attestation>,
    admit_unjudged: bool,
    seats: Semaphore,
    silent_until: Mutex<Option<Instant>>,
}

/// How long nobody is called after a question without an answer. Those who have been called ask meanwhile, and so find out.
const SILENT_FOR: Duration = Duration::from_secs(10);

impl Judge {
    pub(super) fn new(attestation: Arc<dyn Attestation>, config: &AttestationConfig) -> Self {
        Self {
            attestation,
            admit_unjudged: config.admit_unjudged,
            seats: Semaphore::new(config.at_once),
            silent_until: Mutex::new(None),
        }
    }

    /// # Errors
    ///
    /// When there is no verdict, and so nobody may be let in.
    pub(super) async fn judge(&self, evidence: Evidence<'_>) -> Result<Verdict, RoomError> {
        let Ok(_seat) = self.seats.try_acquire() else { return self.without_verdict() };
        match self.attestation.judge(&evidence).await {
            Ok(verdict) => {
                *self.silence() = None;
                Ok(verdict)
            }
            Err(error) => {
                if self.silence().replace(Instant::now() + SILENT_FOR).is_none() {
                    tracing::warn!(error = %Chain(&error), "nobody says which devices are genuine");
                }
                self.without_verdict()
            }
        }
    }

    /// Nobody should be called, because nobody could be let in.
    pub(super) fn holds_all(&self) -> bool {
        !self.admit_unjudged && self.silence().is_some_and(|until| Instant::now() < until)
    }

    const fn without_verdict(&self) -> Result<Verdict, RoomError> {
        if self.admit_unjudged { Ok(Verdict::Genuine) } else { Err(RoomError::NotJudged) }
    }

    fn silence(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.silent_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
