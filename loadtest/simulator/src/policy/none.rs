//! No control at all: what most servers do, and what the others are there to beat.

use super::{Arrival, Decision, Departure, Effects, Policy};
use crate::time::Nanos;

#[derive(Debug)]
pub(super) struct None;

impl Policy for None {
    fn arrive(&mut self, _arrival: &Arrival, _now: Nanos, _effects: &mut Effects) -> Decision {
        Decision::Run
    }

    fn depart(&mut self, _departure: &Departure, _now: Nanos, _effects: &mut Effects) {}
}
