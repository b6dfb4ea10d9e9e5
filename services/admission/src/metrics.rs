//! What the quotas and the overload control decided.

mod overload;
mod quota;

pub use overload::{AdmissionMetrics, TierTotals};
pub(crate) use quota::Outcome;
pub use quota::QuotaMetrics;
