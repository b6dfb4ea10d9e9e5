use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use spillway_store::verifications::VerificationId;
use tokio::sync::watch;

/// The hand-overs that are under way in this process. A claim goes before each, so there is one for a session.
#[derive(Debug, Default)]
pub(crate) struct UnderWay(Mutex<HashMap<VerificationId, watch::Receiver<()>>>);

/// Ends the waiting when the hand-over ends, in whatever way.
#[derive(Debug)]
pub(super) struct Settling {
    id: VerificationId,
    under_way: Arc<UnderWay>,
    _settled: watch::Sender<()>,
}

impl UnderWay {
    pub(super) fn begin(self: &Arc<Self>, id: VerificationId) -> Settling {
        let (settled, watch) = watch::channel(());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, watch);
        Settling { id, under_way: Arc::clone(self), _settled: settled }
    }

    pub(super) async fn settled(&self, id: VerificationId) {
        let watch = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(mut settled) = watch {
            // The sender never sends: the change is that it is gone.
            while settled.changed().await.is_ok() {}
        }
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.under_way.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
