//! Who may do how much: the decisions that keep one caller, or a flood of them, from taking what others need.
//!
//! [`Quotas`] holds the named limits per user, phone number and network. Every limit with its numbers, and the
//! reason for them, is a row of [`LIMITS`].
//!
//! Invariants: nothing here does I/O or waits; time comes from a clock that is passed in; memory is bounded
//! whatever the callers do; no phone number, account id or address is kept, only a keyed hash of it.
//!
//! Deliberately absent: quotas are counted by each process for itself, and are forgotten at a restart. What must
//! hold across the fleet or across restarts (attempts at one verification code, say) is counted in the store by
//! its owner.

mod metrics;
mod quota;

pub use metrics::QuotaMetrics;
pub use quota::clock::TokioClock;
pub use quota::config::{LimitOverride, QuotaConfig, QuotaConfigError};
pub use quota::key::{Key, KeyKind, Network};
pub use quota::table::{LIMITS, Limit, LimitSpec, OnFailure, UnknownLimit, render_table};
pub use quota::{Decision, Quotas, Retry};
