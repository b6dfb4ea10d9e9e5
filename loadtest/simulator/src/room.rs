//! The waiting room in virtual time: a crowd, gateways of which one may be killed, and control, all with the code of `services/waiting_room` that
//! runs in production.
//!
//! A step is a tenth of a second. What control publishes reaches the gateways a tenth later; numbers are lent as over the bus. A person
//! polls when told to, comes when called, comes late, or has given up.

mod figures;
mod series;
mod world;

pub use figures::{Figures, kendall_tau};
pub use series::{Second, series};
pub use world::{Scenario, World};
