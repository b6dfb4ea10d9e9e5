//! What of a run belongs to which worker.
//!
//! A run is planned once, by its seed, whatever plays it. A worker plans all of it and does its own part, so the parts together are the whole by
//! construction: existing people by ranges of their numbers, newcomers by turns. Shares are rational numbers of equal slots and are never rounded.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Slots `from..to` of `of` equal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub from: u32,
    pub to: u32,
    pub of: u32,
}

impl Part {
    pub const WHOLE: Self = Self { from: 0, to: 1, of: 1 };

    /// A part for each weight, as large as the weight is among all of them. Weights below 1 count as 1.
    pub fn split(weights: &[u32]) -> Vec<Self> {
        let weights: Vec<u32> = weights.iter().map(|weight| (*weight).max(1)).collect();
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
        let of = weights.iter().map(|weight| weight / divisor).sum();
        let mut from = 0;
        let part = |weight: &u32| {
            let to = from + weight / divisor;
            let part = Self { from, to, of };
            from = to;
            part
        };
        weights.iter().map(part).collect()
    }

    /// Its people among `existing`: neighbours by number.
    pub fn users(&self, existing: u32) -> Range<u32> {
        let bound = |slot: u32| (u64::from(existing) * u64::from(slot) / u64::from(self.of)) as u32;
        bound(self.from)..bound(self.to)
    }

    pub fn has_user(&self, user: u32, existing: u32) -> bool {
        self.users(existing).contains(&user)
    }

    /// Whether the `number`th newcomer is one of its own.
    pub fn has_newcomer(&self, number: u64) -> bool {
        (u64::from(self.from)..u64::from(self.to)).contains(&(number % u64::from(self.of)))
    }

    pub fn share(&self) -> f64 {
        f64::from(self.to - self.from) / f64::from(self.of)
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.to - self.from, self.of)
    }
}

const fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn everybody_has_one_place(
            weights in prop::collection::vec(0..50u32, 1..9), existing in 1..5_000u32, newcomer: u64
        ) {
            let parts = Part::split(&weights);
            let users: Vec<u32> = parts.iter().flat_map(|part| part.users(existing)).collect();
            prop_assert_eq!(users, (0..existing).collect::<Vec<_>>(), "no gap and no overlap");
            prop_assert_eq!(parts.iter().filter(|part| part.has_newcomer(newcomer)).count(), 1);
            let slots: u32 = parts.iter().map(|part| part.to - part.from).sum();
            prop_assert_eq!(slots, parts[0].of);
        }

        /// Not on average: in each round of as many newcomers as there are slots.
        #[test]
        fn newcomers_are_shared_exactly(weights in prop::collection::vec(1..20u32, 1..6), round in 0..1_000_000u64) {
            for part in Part::split(&weights) {
                let of = u64::from(part.of);
                let own = (round * of..(round + 1) * of).filter(|number| part.has_newcomer(*number)).count();
                prop_assert_eq!(own as u32, part.to - part.from);
            }
        }
    }

    #[test]
    fn shares_are_as_small_as_they_can_be() {
        let shares = |weights: &[u32]| Part::split(weights).iter().map(Part::to_string).collect::<Vec<_>>();
        assert_eq!(shares(&[2, 8, 2]), ["1/6", "4/6", "1/6"]);
        assert_eq!(shares(&[16, 16]), ["1/2", "1/2"]);
        assert_eq!(Part::split(&[3]), [Part::WHOLE]);
    }
}
