//! A refusal as it travels: `google.rpc.Status` details in the gRPC status.

use std::time::Duration;

use bytes::Bytes;
use prost::{Message, Name};
use tonic::Status;
use tonic::metadata::MetadataValue;
use tonic_types::{ErrorDetails, StatusExt, pb};

use crate::field::FieldError;
use crate::reason::{Fault, Reason};

/// The `domain` of every `ErrorInfo` that Spillway makes.
pub const DOMAIN: &str = "spillway";

/// Metadata of a refusal for overload, which shares its code with quotas: which controller sent the call away, or
/// `overload` when another hop did.
pub const REFUSED_HEADER: &str = "x-spillway-refused";

/// Why a call was refused, and when to come back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub reason: Reason,
    /// For a developer who reads a log; never shown to people, never a secret.
    pub message: String,
    pub retry_after: Option<Duration>,
    /// One more detail message with its type URL, such as [`crate::v1::StaleDevices`].
    detail: Option<(String, Bytes)>,
}

impl Refusal {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry_after: None, detail: None }
    }

    pub fn retry_after(mut self, pause: Option<Duration>) -> Self {
        self.retry_after = pause;
        self
    }

    pub fn with_detail<M: Message + Name>(mut self, detail: &M) -> Self {
        self.detail = Some((M::type_url(), detail.encode_to_vec().into()));
        self
    }

    pub fn detail<M: Message + Name + Default>(&self) -> Option<M> {
        let (url, value) = self.detail.as_ref()?;
        (*url == M::type_url()).then(|| M::decode(value.clone()).ok()).flatten()
    }

    pub const fn fault(&self) -> Fault {
        self.reason.fault()
    }

    /// The refusal in a status, when Spillway made it.
    pub fn from_status(status: &Status) -> Option<Self> {
        let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN)?;
        let reason = Reason::from_name(&info.reason)?;
        let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let wire = pb::Status::decode(status.details()).ok()?;
        let detail = wire.details.into_iter().find(|any| !any.type_url.contains("google.rpc."));
        Some(Self {
            reason,
            message: status.message().to_owned(),
            retry_after,
            detail: detail.map(|any| (any.type_url, any.value.into())),
        })
    }

    /// The status that says this. Also sets `grpc-retry-pushback-ms` when there is a time to come back, for clients
    /// that follow gRFC A6.
    pub fn into_status(self) -> Status {
        let mut details = ErrorDetails::with_error_info(
            self.reason.as_str(),
            DOMAIN,
            [("fault".to_owned(), self.fault().as_str().to_owned())],
        );
        if let Some(pause) = self.retry_after {
            details.set_retry_info(Some(pause));
        }
        let code = self.reason.code();
        let mut status = Status::with_error_details(code, self.message.clone(), details);
        if let Some((type_url, value)) = self.detail {
            let mut wire = pb::Status::decode(status.details()).unwrap_or_default();
            wire.details.push(prost_types::Any { type_url, value: value.to_vec() });
            status = Status::with_details(code, self.message, wire.encode_to_vec().into());
        }
        if let Some(pause) = self.retry_after {
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            status.metadata_mut().insert("grpc-retry-pushback-ms", pause_ms.into());
        }
        if self.reason == Reason::Overload {
            status.metadata_mut().insert(REFUSED_HEADER, MetadataValue::from_static("overload"));
        }
        status
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.into_status()
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::new(Reason::InvalidArgument, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    #[test]
    fn every_reason_survives_the_wire() {
        for &reason in Reason::ALL {
            let refusal = Refusal::new(reason, "text").retry_after(Some(Duration::from_millis(1_500)));
            let status = refusal.clone().into_status();
            assert_eq!(status.code(), reason.code());
            assert_eq!(Refusal::from_status(&status), Some(refusal));
        }
    }

    #[test]
    fn a_detail_survives_beside_the_reason() {
        let stale = v1::StaleDevices { missing: vec![2], extra: vec![3], stale: vec![] };
        let status = Refusal::new(Reason::StaleDevices, "stale").with_detail(&stale).into_status();
        let back = Refusal::from_status(&status).unwrap();
        assert_eq!(back.reason, Reason::StaleDevices);
        assert_eq!(back.detail::<v1::StaleDevices>(), Some(stale));
    }

    #[test]
    fn a_foreign_status_is_not_ours() {
        assert_eq!(Refusal::from_status(&Status::not_found("x")), None);
    }
}
