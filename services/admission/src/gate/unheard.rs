//! What is offered by callers who are not heard for now, by level.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::class::Level;

/// Seats a second, in thousandths, as they would arrive: what is within a fair share, and what is beyond it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) ordinary: u32,
    pub(crate) excess: u32,
}

/// The sum of all rates by level.
#[derive(Debug)]
pub(crate) struct Unheard([AtomicU32; Level::COUNT]);

/// What of a seat is still to be counted, by level.
#[derive(Debug)]
pub(crate) struct Parts(Box<[f32; Level::COUNT]>);

impl Unheard {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; Level::COUNT])
    }

    pub(crate) fn replace(&self, level: Level, before: Rate, now: Rate) {
        let parts = [
            (level.before_excess(), before.ordinary, now.ordinary),
            (Level::excess(level.tier()), before.excess, now.excess),
        ];
        for (level, before, now) in parts {
            // Wraps around and back: the sum is what counts.
            self.0[level.index()].fetch_add(now.wrapping_sub(before), Relaxed);
        }
    }

    /// Adds what they ask for in a tick.
    pub(crate) fn add(&self, length: Duration, parts: &mut Parts, arrivals: &mut [u32; Level::COUNT]) {
        for ((rate, part), arrivals) in self.0.iter().zip(parts.0.iter_mut()).zip(arrivals) {
            let rate = rate.load(Relaxed);
            if rate != 0 {
                *part += rate as f32 / 1_000.0 * length.as_secs_f32();
                *arrivals = arrivals.saturating_add(*part as u32);
                *part = part.fract();
            }
        }
    }
}

impl Parts {
    pub(crate) fn new() -> Self {
        Self(Box::new([0.0; Level::COUNT]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Tier;

    #[test]
    fn as_much_is_counted_as_is_asked_for_and_nothing_when_all_are_heard() {
        let (unheard, mut parts) = (Unheard::new(), Parts::new());
        let level = Level::new(Tier::Send, 7);
        let rates = [3_300, 700, 12_345].map(|ordinary| Rate { ordinary, excess: 2_000 });
        for rate in rates {
            unheard.replace(level, Rate::default(), rate);
        }
        let mut arrivals = [0; Level::COUNT];
        for _ in 0..100 {
            unheard.add(Duration::from_millis(100), &mut parts, &mut arrivals);
        }
        let counted = |level: Level, arrivals: &[u32; Level::COUNT]| arrivals[level.index()];
        assert!((162..=164).contains(&counted(level, &arrivals)), "{}", counted(level, &arrivals));
        assert!((59..=61).contains(&counted(Level::excess(Tier::Send), &arrivals)));
        for rate in rates {
            unheard.replace(level, rate, Rate::default());
        }
        let mut arrivals = [0; Level::COUNT];
        unheard.add(Duration::from_millis(100), &mut parts, &mut arrivals);
        assert_eq!(arrivals, [0; Level::COUNT]);
    }
}
