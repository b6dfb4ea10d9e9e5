//! What the quotas and the overload control decided.

mod overload;
mod quota;

pub use overload::AdmissionMetrics;
pub use quota::QuotaMetrics;
pub(crate) use quota::Outcome;
