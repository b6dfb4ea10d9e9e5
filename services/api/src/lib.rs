//! The wire: code generated from `proto/`, and the conversions between it and the domain types.
//!
//! Boundary: the only crate whose change another team can see. A message is converted by whoever receives it, once,
//! and a field that fails is named in the refusal.

mod codec;
mod field;
mod reason;
mod refusal;

pub use codec::SmallBuffers;
pub use field::{
    FieldError, account_id, device_address, device_id, guid, mailbox_id, message_id, verification_secret,
};
pub use reason::{Fault, Reason};
pub use refusal::{DOMAIN, REFUSED_HEADER, Refusal};

/// The public API.
#[allow(missing_debug_implementations, unreachable_pub, clippy::large_futures, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("spillway.v1");
}

/// What roles say to each other.
pub mod internal {
    #[allow(missing_debug_implementations, unreachable_pub, clippy::large_futures, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("spillway.internal.v1");
    }
}

/// KEDA's protocol for external scalers, which control speaks.
#[allow(missing_debug_implementations, unreachable_pub, clippy::large_futures, reason = "generated code")]
pub mod externalscaler {
    tonic::include_proto!("externalscaler");
}

/// Descriptors of every service here, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
