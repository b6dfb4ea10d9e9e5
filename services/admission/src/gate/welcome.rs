//! How far each tier is open to callers who are not heard for now.
//!
//! The gate moves with every tick, and what it lets in for a moment is worth having. Not so with somebody who has not been heard for a
//! while: what he has said meanwhile has to be read and refused before he is served, dozens of calls for one, and if the gate shuts
//! before him the next moment it was all for nothing. So this follows the gate down at once and up slowly.

use std::time::Duration;

use crate::class::Tier;
use crate::gate::Threshold;

#[derive(Debug)]
pub(crate) struct Welcome {
    /// The share of a tier's levels.
    open: [f64; Tier::COUNT],
}

/// Of what is missing to the gate, in a second, times what could be served besides: most of it within a second if nothing is, hardly
/// anything if as much is served as can be.
const RISES: f64 = 2.0;
/// And so much at least: a cohort in a second.
const RISES_LEAST: f64 = 1.0 / 128.0;
/// When it is over. All are heard after some seconds, but not at once: what they have said is a load of its own.
const RISES_CALM: f64 = 0.25;

impl Welcome {
    pub(crate) const fn new() -> Self {
        Self { open: [1.0; Tier::COUNT] }
    }

    /// `spare`: of what can be served, the share that is not. `None` when all is well.
    pub(crate) fn tick(
        &mut self,
        length: Duration,
        thresholds: &[Threshold; Tier::COUNT],
        spare: Option<f64>,
    ) -> [Threshold; Tier::COUNT] {
        let seconds = length.as_secs_f64();
        Tier::ALL.map(|tier| {
            let (open, gate) = (&mut self.open[tier as usize], thresholds[tier as usize].openness(tier));
            let rises = spare.map_or(RISES_CALM, |spare| RISES_LEAST.max(RISES * spare * (gate - *open)));
            *open = (*open + rises * seconds).min(gate);
            Threshold::up_to(tier, *open)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    fn at(open: f64) -> [Threshold; Tier::COUNT] {
        Tier::ALL.map(|tier| Threshold::up_to(tier, open))
    }

    #[test]
    fn a_gate_that_opens_for_a_moment_lets_hardly_anybody_more_be_heard() {
        let mut welcome = Welcome::new();
        for tick in 0..600 {
            // One second in five it is three times as far open.
            let open = if tick % 50 > 40 { 0.3 } else { 0.1 };
            let send = welcome.tick(TICK, &at(open), Some(0.05))[Tier::Send as usize].openness(Tier::Send);
            assert!(send <= 0.13, "{send} in tick {tick}");
        }
    }

    #[test]
    fn who_could_be_served_is_soon_heard() {
        let mut welcome = Welcome::new();
        welcome.tick(TICK, &at(0.01), Some(0.0));
        let send =
            (0..20).map(|_| welcome.tick(TICK, &at(0.5), Some(0.9))).last().unwrap()[Tier::Send as usize];
        assert!(send.openness(Tier::Send) > 0.45, "{}", send.openness(Tier::Send));
    }

    #[test]
    fn when_it_is_over_all_are_heard_within_seconds() {
        let mut welcome = Welcome::new();
        welcome.tick(TICK, &at(0.0), Some(0.0));
        let ticks = (0..)
            .take_while(|_| {
                let send = welcome.tick(TICK, &at(1.0), None)[Tier::Send as usize];
                !send.is_open(Tier::Send)
            })
            .count();
        assert!((30..=40).contains(&ticks), "{ticks}");
    }

    proptest! {
        #[test]
        fn nobody_is_welcome_whom_the_gate_would_refuse(gates in prop::collection::vec((0.0..=1.0, prop::option::of(0.0..=1.0)), 1..100)) {
            let mut welcome = Welcome::new();
            for (open, spare) in gates {
                let gate = at(open);
                for (welcome, gate) in welcome.tick(TICK, &gate, spare).into_iter().zip(gate) {
                    prop_assert!(welcome <= gate);
                }
            }
        }
    }
}
