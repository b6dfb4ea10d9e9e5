//! Which provider gets a code, and whether anybody does: decisions only. Time and randomness come in, nothing goes out,
//! and memory is bounded whatever arrives.
//!
//! For each code, in this order: which providers serve its transport and country ([`Terms`]) and have not failed in its
//! session; whose breaker admits a call (`breaker`), whose rate has room (`rate`) and whose cost the budget still covers
//! (`budget`, which is borrowed from the `ledger` of the fleet); whether its number looks pumped (`guard`); and of what is left, which one is likely to reach the person at
//! what cost (`choice`, from what `record` knows). What became of each code comes back through `trials`. How many sign-ups could be let in with all
//! that is told by `capacity`.

mod breaker;
mod budget;
mod capacity;
mod choice;
mod faded;
mod flow;
mod guard;
mod ledger;
mod rate;
mod receipts;
mod record;
mod router;
mod sampling;
mod terms;
mod trials;
mod wilson;

pub(crate) use breaker::BreakerState;
pub(crate) use budget::{Limits as BudgetLimits, Need, Scope};
pub use capacity::{Capacity, CountryCapacity};
pub(crate) use guard::{Limits as GuardLimits, Places};
pub use guard::{PlaceCount, PlaceKey};
pub(crate) use ledger::{Entry, Step, register};
pub use receipts::Delivery;
pub(crate) use router::{Ask, End, Now, Receipted, Router, RouterConfig, Standing, Ticket, Verdict, Why};
pub use terms::{Costs, Terms};
