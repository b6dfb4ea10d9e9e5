//! What the platform says of this device, for services that ask for it when a turn is claimed.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

/// Gets a statement about a challenge, such as a Play Integrity token or an App Attest assertion, of 16 KiB at most. Clones are handles on the
/// same.
#[derive(Clone)]
pub struct Attest(Arc<dyn Fn(Bytes) -> BoxFuture<'static, Bytes> + Send + Sync>);

impl Attest {
    /// `statement`: of a challenge. An empty one says that the platform has none to give.
    pub fn new(statement: impl Fn(Bytes) -> BoxFuture<'static, Bytes> + Send + Sync + 'static) -> Self {
        Self(Arc::new(statement))
    }

    pub(crate) async fn statement(&self, challenge: &Bytes) -> Bytes {
        (self.0)(challenge.clone()).await
    }
}

impl fmt::Debug for Attest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attest(..)")
    }
}
