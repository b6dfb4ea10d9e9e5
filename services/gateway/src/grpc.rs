//! The public API: decode, operate, encode.

mod account;
mod contacts;
mod devices;
mod keys;
mod messages;
mod sign_up;
mod status;

use std::sync::Arc;

use spillway_rpc::into_status;
use tonic::{Request, Response, Status};

use crate::Parts;
use crate::arrival::Arrival;
use crate::auth::{Caller, Identity};
use crate::metrics::ProofOutcome;
use crate::token::Issued;

pub use status::StatusApi;

/// The gateway as tonic sees it.
#[derive(Clone, Debug)]
pub struct Api(pub(crate) Arc<Parts>);

/// A call by a device that has proved who it is.
struct Call {
    caller: Caller,
    arrival: Arrival,
    /// For the answer's metadata, when the proof cost a look-up that the next call can save.
    token: Option<Issued>,
}

impl Api {
    async fn authenticated<T>(&self, request: &Request<T>) -> Result<Call, Status> {
        let arrival = Arrival::of(request);
        let identity = Identity::from_metadata(request.metadata()).map_err(into_status)?;
        let kind = identity.kind();
        let outcome = self.0.auth.prove(identity, &arrival).await;
        self.0.metrics.calls(kind).count(ProofOutcome::of(&outcome));
        let proof = outcome.map_err(into_status)?;
        let token = proof.renewed.then(|| self.0.auth.tokens.issue(&proof, self.0.clock.now()));
        Ok(Call { caller: proof.caller, arrival, token })
    }
}

impl Call {
    fn answer<T>(self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        if let Some(Issued { text, expires_in }) = self.token {
            let expires_in_ms = u64::try_from(expires_in.as_millis()).unwrap_or(u64::MAX);
            let metadata = response.metadata_mut();
            metadata.insert("x-spillway-token", text.parse().expect("base64 is ASCII"));
            metadata.insert("x-spillway-token-expires-in-ms", expires_in_ms.into());
        }
        response
    }
}
