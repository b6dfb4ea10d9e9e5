//! What a run would do and need, worked out without running it.

mod cohorts;
mod draw;
mod machine;
mod needs;
mod svg;

pub use cohorts::{Rude, cohorts};
pub use draw::draw;
pub use machine::Machine;
pub use needs::{Needs, NotEnough, Surroundings};
pub use svg::svg;
