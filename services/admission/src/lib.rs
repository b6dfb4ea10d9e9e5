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

mod admission;
mod brownout;
mod class;
mod config;
mod deaf;
mod gate;
mod hold_back;
mod lease;
mod limiter;
mod metrics;
mod pacing;
mod pushback;
mod queue;
mod quota;
mod retry_budget;
mod signals;

pub use admission::{Admission, Arrival, Call, Outcome, Seat, TICK, Ticket, View, Waiter, seats};
pub use brownout::{NoRung, RUNG_MAX, Steering};
pub use class::cohort::{Cohorts, User};
pub use class::{DEADLINE_MAX, Level, NoLevel, Queueing, TIERS, Tier, TierSpec};
pub use config::{
    AdmissionConfig, AdmissionConfigError, BrownoutConfig, GateConfig, HoldBackConfig, LimiterConfig, Mode,
    PressureConfig, PushbackConfig, QueueConfig,
};
pub use deaf::{Deaf, HOLD_MAX};
pub use gate::Threshold;
pub use hold_back::client::{Advice, HeldBack};
pub use hold_back::{HEADER as HOLD_BACK_HEADER, HoldBack, NoAdvice};
pub use lease::{Borrower, Lease, LeaseTerms, Lender};
pub use limiter::adaptive::Adaptive;
pub use limiter::{Kind, LimitLaw, LimitTick, Sample, StaticLimit};
pub use metrics::{AdmissionMetrics, QuotaMetrics};
pub use pacing::{ConnectionAge, Pacer, Reconnect, handshakes_per_second, reconnect_spread};
pub use pushback::{InCall, Pushback, Reason, Refusal};
pub use quota::clock::TokioClock;
pub use quota::config::{LimitOverride, QuotaConfig, QuotaConfigError};
pub use quota::key::{Key, KeyKind, Network};
pub use quota::table::{LIMITS, Limit, LimitSpec, OnFailure, UnknownLimit, render_table};
pub use quota::{Decision, Quotas, Retry};
pub use retry_budget::{Failure, RetryBudget, RetryPolicy};
pub use signals::{Signals, Source};
