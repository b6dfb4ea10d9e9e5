//! Thompson sampling (Thompson, Biometrika 25, 1933; Chapelle and Li, NIPS 2011).
//!
//! Of each provider a conversion is drawn from what is believed of it, and the one with the greatest
//!
//! ```text
//! acceptance * conversion - cost / worth
//! ```
//!
//! gets the code. `worth` is what a proved number may cost, so both terms are shares of it: a provider that is dearer by
//! a tenth of it must convert ten points better. (Conversion *per* cost would prefer a provider that hardly delivers as
//! soon as it is cheap enough, and the people whom it does not reach pay for that.) One code in [`EXPLORE_ONE_IN`] goes to
//! any of them, because otherwise nobody would see within the hour that one has become better.

use rand::Rng;

use super::record::Shapes;
use super::sampling::beta;

const EXPLORE_ONE_IN: u32 = 50;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) provider: usize,
    pub(super) conversion: Shapes,
    /// Share of calls that it takes, 0 to 1.
    pub(super) acceptance: f64,
    /// Millionths of the currency's unit.
    pub(super) cost: u64,
}

/// The place of the chosen one in `candidates`; `None` when there are none. `worth` in millionths of the currency's unit,
/// above zero.
pub(super) fn choose(rng: &mut impl Rng, candidates: &[Candidate], worth: f64) -> Option<usize> {
    if candidates.len() > 1 && rng.random_range(0..EXPLORE_ONE_IN) == 0 {
        return Some(rng.random_range(0..candidates.len()));
    }
    let mut value = |candidate: &Candidate| {
        let conversion = beta(rng, candidate.conversion.verified, candidate.conversion.unverified);
        candidate.acceptance * conversion - candidate.cost as f64 / worth
    };
    let values: Vec<f64> = candidates.iter().map(&mut value).collect();
    (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b]))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn candidate(conversion: f64, codes: f64, cost: u64) -> Candidate {
        let conversion = Shapes { verified: conversion * codes, unverified: (1.0 - conversion) * codes };
        Candidate { provider: 0, conversion, acceptance: 1.0, cost }
    }

    /// Share of 10,000 codes that goes to the first.
    fn share(first: Candidate, second: Candidate) -> f64 {
        let mut rng = SmallRng::seed_from_u64(7);
        let chosen = (0..10_000).filter(|_| choose(&mut rng, &[first, second], 1e6) == Some(0)).count();
        chosen as f64 / 10_000.0
    }

    #[test]
    fn the_better_one_gets_nearly_all_and_the_other_is_still_seen() {
        let better = share(candidate(0.9, 500.0, 0), candidate(0.7, 500.0, 0));
        assert!((0.985..0.995).contains(&better), "{better}");
    }

    #[test]
    fn the_unknown_is_tried() {
        let known = share(candidate(0.8, 500.0, 0), candidate(0.5, 2.0, 0));
        assert!((0.7..0.9).contains(&known), "the unknown is better with probability 1/5: {known}");
    }

    #[test]
    fn cost_counts_against_conversion_at_the_configured_worth() {
        let cheap = |cost| share(candidate(0.80, 5_000.0, 0), candidate(0.90, 5_000.0, cost));
        assert!(cheap(50_000) < 0.02, "ten points for a twentieth");
        assert!(cheap(150_000) > 0.98, "ten points for three twentieths");
    }

    #[test]
    fn who_fails_here_is_worth_less() {
        let failing = Candidate { acceptance: 0.1, ..candidate(0.9, 500.0, 0) };
        assert!(share(failing, candidate(0.5, 500.0, 0)) < 0.02);
    }

    #[test]
    fn nobody_is_nobody() {
        assert_eq!(choose(&mut SmallRng::seed_from_u64(1), &[], 1.0), None);
    }
}
