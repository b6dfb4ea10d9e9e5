//! How one newcomer deals with codes.

use std::time::Duration;

use rand::Rng;

use super::World;
use crate::load::CodeDelay;

/// Drawn for a person from the seed: the same person is the same in each run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Manner {
    /// From the provider to the phone.
    pub(super) code_delay: Duration,
    /// Of the second code.
    pub(super) second_delay: Duration,
    /// Asks for a second code while the first is on its way.
    pub(super) asks_again: bool,
    /// From the phone to the service.
    pub(super) type_after: Duration,
    /// Times that the code is mistyped.
    pub(super) mistakes: u32,
}

/// After so many wrong codes a person looks closely.
const MISTAKES_MAX: u32 = 3;

impl Manner {
    pub(super) fn of(world: &World, index: u32) -> Self {
        // Existing users and the probe are not what is measured.
        if index < world.newcomers_from {
            return Self::default();
        }
        let behaviour = &world.behaviour;
        let mut random = world.population.manner(u64::from(index));
        let mut delay = || behaviour.code_delay.map_or(Duration::ZERO, |delay| drawn(delay, &mut random));
        let (code_delay, second_delay) = (delay(), delay());
        let asks_again = random.random::<f64>() < behaviour.resend_share;
        let (from, to) = behaviour.type_after.unwrap_or_default();
        let type_after = from + to.saturating_sub(from).mul_f64(random.random());
        let mut mistakes = 0;
        while mistakes < MISTAKES_MAX && random.random::<f64>() < behaviour.wrong_code_share {
            mistakes += 1;
        }
        Self { code_delay, second_delay, asks_again, type_after, mistakes }
    }
}

/// The Box-Muller transform of two uniform numbers is a normal one.
fn drawn(delay: CodeDelay, random: &mut impl Rng) -> Duration {
    let (radius, angle): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
    let normal = (-2.0 * radius.ln()).sqrt() * (2.0 * std::f64::consts::PI * angle).cos();
    delay.median.mul_f64((delay.sigma * normal).exp().min(100.0))
}

/// Another code of the same length.
pub(super) fn mistyped(code: &str) -> String {
    let last = code.chars().last().and_then(|digit| digit.to_digit(10)).unwrap_or(0);
    let rest = code.get(..code.len().saturating_sub(1)).unwrap_or_default();
    format!("{rest}{}", (last + 1) % 10)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn half_of_the_codes_take_longer_than_the_median() {
        let mut random = SmallRng::seed_from_u64(3);
        let delay = CodeDelay { median: Duration::from_secs(30), sigma: 0.6 };
        let later = (0..4_000).filter(|_| drawn(delay, &mut random) > delay.median).count();
        assert!((1_850..2_150).contains(&later), "{later} (seed 3)");
    }

    #[test]
    fn a_mistyped_code_is_another_code() {
        assert_eq!([mistyped("123459"), mistyped("000000")], ["123450", "000001"]);
    }
}
