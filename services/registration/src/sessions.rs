//! Verification sessions in the store: read, decide, write if nobody was faster, else again.

use std::sync::Arc;

use spillway_store::verifications::{Verification, VerificationId};
use spillway_store::{Cas, StoreError, Verifications};
use spillway_types::{Clock, Timestamp};

/// A session is written by its person and by the dispatcher. Each conflict means that one of them got further, and a
/// person has ten or so things to do in a session, so more conflicts than this are a fault.
const CAS_ATTEMPTS: usize = 32;

/// A conditional write that lost every time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the record is being changed by too many at once")]
pub(crate) struct Contended;

impl From<Contended> for StoreError {
    fn from(contended: Contended) -> Self {
        Self::Unavailable(Arc::new(contended))
    }
}

/// What was decided about a session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<T> {
    Keep(T),
    Write(T),
}

#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    store: Arc<dyn Verifications>,
    clock: Arc<dyn Clock>,
}

impl Sessions {
    pub(crate) fn new(store: Arc<dyn Verifications>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The session, unless it has expired.
    pub(crate) async fn get(&self, id: VerificationId) -> Result<Option<Verification>, StoreError> {
        let session = self.store.get(id).await?;
        Ok(session.filter(|session| session.expires_at > self.now()))
    }

    pub(crate) async fn create(&self, session: &Verification) -> Result<Cas, StoreError> {
        self.store.put(session, None).await
    }

    /// Changes a session by `decide`, which is called again on what it has become when another change came between.
    /// `None`: there is no such session, or it has expired.
    pub(crate) async fn change<T, E>(
        &self,
        id: VerificationId,
        decide: impl FnMut(&mut Verification, Timestamp) -> Result<Step<T>, E> + Send,
    ) -> Result<Option<(Verification, T)>, E>
    where
        T: Send,
        E: From<StoreError> + Send,
    {
        match self.get(id).await? {
            Some(session) => self.change_from(session, decide).await,
            None => Ok(None),
        }
    }

    /// As [`Sessions::change`], beginning with a session that was read before.
    pub(crate) async fn change_from<T, E>(
        &self,
        mut session: Verification,
        mut decide: impl FnMut(&mut Verification, Timestamp) -> Result<Step<T>, E> + Send,
    ) -> Result<Option<(Verification, T)>, E>
    where
        T: Send,
        E: From<StoreError> + Send,
    {
        for _ in 0..CAS_ATTEMPTS {
            let outcome = match decide(&mut session, self.now())? {
                Step::Keep(outcome) => return Ok(Some((session, outcome))),
                Step::Write(outcome) => outcome,
            };
            let expected = session.version;
            session.version += 1;
            if self.store.put(&session, Some(expected)).await? == Cas::Applied {
                return Ok(Some((session, outcome)));
            }
            match self.get(session.id).await? {
                Some(current) => session = current,
                None => return Ok(None),
            }
        }
        Err(StoreError::from(Contended).into())
    }

    pub(crate) async fn queued(&self, limit: usize) -> Result<Vec<VerificationId>, StoreError> {
        self.store.queued(limit).await
    }

    pub(crate) async fn expire(&self) -> Result<usize, StoreError> {
        self.store.expire(self.now()).await
    }

    /// The session even if it has expired: its queue entry still has to go.
    pub(crate) async fn get_any(&self, id: VerificationId) -> Result<Option<Verification>, StoreError> {
        self.store.get(id).await
    }

    /// Takes an expired session out of the queue. Losing against another change is fine: whoever won decides.
    pub(crate) async fn unqueue(&self, mut session: Verification) -> Result<(), StoreError> {
        let expected = session.version;
        session.queued = None;
        session.version += 1;
        match self.store.put(&session, Some(expected)).await? {
            Cas::Applied | Cas::Conflict => Ok(()),
        }
    }
}
