//! Which provider gets a code, and whether anybody does: decisions only. Time and randomness come in, nothing goes out,
//! and memory is bounded whatever arrives.
//!
//! For each code, in this order: which providers serve its transport and country ([`Terms`]) and have not failed in its
//! session; whose breaker admits a call (`breaker`), whose rate has room (`rate`) and whose cost the budget still covers
//! (`budget`); whether its number looks pumped (`guard`); and of what is left, which one is likely to reach the person at
//! what cost (`choice`, from what `record` knows). What became of each code comes back through `trials`.

mod breaker;
mod budget;
mod choice;
mod faded;
mod guard;
mod rate;
mod record;
mod router;
mod sampling;
mod terms;
mod trials;
mod wilson;

pub(crate) use breaker::BreakerState;
pub(crate) use budget::{Limits as BudgetLimits, Scope};
pub(crate) use guard::{Limits as GuardLimits, PlaceKey, Places};
pub(crate) use router::{Ask, End, Now, Router, RouterConfig, Standing, Ticket, Verdict, Why};
pub use terms::{Costs, Terms};
