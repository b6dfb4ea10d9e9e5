//! Who may do how much: the decisions that keep one caller, or a flood of them, from taking what others need.
//!
//! [`Quotas`] holds the named limits per user, phone number and network. Every limit with its numbers, and the
//! reason for them, is a row of [`LIMITS`]. [`Admission`] holds overload control: what is done when all callers together, each
//! within its quota, want more than there is.
//!
//! Invariants: nothing here does I/O or waits; time comes from a clock that is passed in, randomness from a generator
//! that is passed in; memory is bounded whatever the callers do; no phone number, account id or address is kept, only a
//! keyed hash of it. A refused call has not been begun, so repeating it is safe. A call runs for as long as its [`Seat`] lives and
//! no seat outlives its call; a [`Ticket`] that is dropped leaves no place behind.
//!
//! Deliberately absent: quotas are counted by each process for itself, and are forgotten at a restart. What must
//! hold across the fleet or across restarts (attempts at one verification code, say) is counted in the store by
//! its owner; limits that only have to hold across the fleet are lent ([`Lender`]). Nothing here knows gRPC, tokio's runtime
//! or a header but the text of [`Level`] and [`HoldBack`].
//!
//! # From arrival to refusal
//!
//! Each hop has one [`Admission`]: the gateway for what devices ask, each worker for what the bus brings. A call passes
//! these, in this order, and whatever stops it costs less the earlier it does:
//!
//! 1. **Class** ([`Tier`], [`Level`], [`Cohorts`]). The method decides the tier, a keyed hash of the user the cohort: a number
//!    from 0 to 1023, lower is more important. Decided at the edge, never taken from outside, copied to every inner call.
//!    Stable for an hour, so a retry gains nothing. For sign-ups the place in the waiting room takes the hash's place.
//! 2. **Quota** ([`Quotas`]). Before all else, so that what is over a quota is not counted as load.
//! 3. **Deadline** ([`Tier::deadline`]). Less time left than half of such calls take: [`Reason::Deadline`].
//! 4. **Gate**. One addition to a counter of the own processor, one load, one comparison: is the level below the tier's
//!    [`Threshold`]? Else [`Reason::Overload`]. No lock, no allocation; measured by `examples/decide.rs`. In overload, what
//!    one user asks for beyond a fair share counts as the last of its tier.
//! 5. **Limiter** ([`LimitLaw`], [`Adaptive`]). Seats free and nobody waiting: it runs.
//! 6. **Queue**. Else it waits, if its tier may. Bounded; the more important push out the less important, as far as those have more than
//!    their floor of the places
//!    ([`Reason::PushedOut`], [`Reason::QueueFull`]); strict priority with floors, fair between users, ordered within a flow.
//!    Too long: [`Reason::QueueAge`]. Too late to be answered when its turn comes: [`Reason::Deadline`].
//! 7. **End** ([`Seat::finish`]). The seat goes to the next, the time it took to the limiter.
//!
//! Ten times a second [`Admission::tick`] decides what the next hundred milliseconds do:
//!
//! - What finished while the limit was reached is the *capacity*, in seats a second. What arrived in the newest ticks is what
//!   is *offered*, by level. If more is offered than fits, and it is more than chance explains, the gate is to admit
//!   the capacity, corrected by free seats and queue; that budget is laid over the arrivals, floors first and then by
//!   importance, and how far it reaches in each tier is the tier's threshold. One tick of a surge is enough to know.
//!   Pressure from elsewhere ([`Signals`]: run queue, memory, descriptors, the hop below) refuses its excess the same way.
//!   Callers whom a port does not read for now are offered load as well ([`Unheard`]), and are to be heard again as far as the
//!   gate has been open for a while.
//! - The limit moves by trials that throughput judges ([`Adaptive`]), over seconds; by a fast cut when calls queue inside.
//! - In overload the queue is short and its patience small. In calm both are wide: on a server of 300 calls/s, chance alone
//!   makes queues of 100 calls at nine tenths of the load, and refusing for them would refuse what fits.
//! - The brownout ladder ([`Steering`], [`Admission::rung`]) goes up while the gate has to cut, and down slowly.
//!
//! A [`Refusal`] knows how long to send the caller away: the distinct users who were refused, over a tenth of what their tier is
//! granted, drawn between once and twice that ([`Refusal::pushback`]). With answers that are not refusals goes, while there is
//! overload, how much the caller may hope for ([`Admission::hold_back`], [`HOLD_BACK_HEADER`]). The clients' halves are here too,
//! because both must agree: [`HeldBack`], [`RetryBudget`], [`CallWindow`], [`Reconnect`].
//!
//! ```text
//!            ticks: Signals -> balance -> thresholds     law -> limit      ladder -> rung
//!                                  |                       |
//! Call -> deadline -> gate --------+---> seats free? ------+--> Run(Seat) -> finish
//!            |          |                    | no                ^
//!            |          |                    v                   | Waiter::admitted
//!            |          |                  queue -- Queued(Ticket)
//!            v          v                    v
//!         Refused    Refused              Refused, or Waiter::refused  -> Pushback, HoldBack
//! ```

mod admission;
mod brownout;
mod call_window;
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

pub use admission::{Admission, Arrival, Call, Outcome, Seat, TICK, Ticket, Unheard, View, Waiter, seats};
pub use brownout::{NoRung, RUNG_MAX, Steering};
pub use call_window::CallWindow;
pub use class::cohort::{Cohorts, User};
pub use class::{DEADLINE_MAX, Level, NoLevel, Queueing, TIERS, Tier, TierSpec};
pub use config::{
    AdmissionConfig, AdmissionConfigError, BrownoutConfig, GateConfig, HoldBackConfig, LimiterConfig, Mode,
    PressureConfig, PushbackConfig, QueueConfig,
};
pub use deaf::{Deaf, HOLD_MAX, Pauses, held_for};
pub use gate::Threshold;
pub use hold_back::client::{Advice, HeldBack};
pub use hold_back::{HEADER as HOLD_BACK_HEADER, HoldBack, NoAdvice};
pub use lease::{Borrower, Lease, LeaseTerms, Lender};
pub use limiter::adaptive::Adaptive;
pub use limiter::{Kind, LimitLaw, LimitTick, Sample, StaticLimit};
pub use metrics::{AdmissionMetrics, QuotaMetrics, TierTotals};
pub use pacing::{ConnectionAge, Pacer, Reconnect, handshakes_per_second, reconnect_spread};
pub use pushback::{InCall, Pushback, Reason, Refusal};
pub use quota::clock::TokioClock;
pub use quota::config::{LimitOverride, QuotaConfig, QuotaConfigError};
pub use quota::key::{Key, KeyKind, Network};
pub use quota::table::{LIMITS, Limit, LimitSpec, OnFailure, UnknownLimit, render_table};
pub use quota::{Decision, Quotas, Retry};
pub use retry_budget::{Failure, RetryBudget, RetryPolicy};
pub use signals::{Signals, Source};
