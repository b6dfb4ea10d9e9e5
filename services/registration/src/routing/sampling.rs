//! A draw from a beta distribution, which the `rand` crate does not have.

use std::f64::consts::TAU;

use rand::Rng;

/// A probability, as likely as `successes` and `failures` make it under a beta distribution with these two shapes. Both
/// are above zero. If X and Y are gamma distributed with the two shapes, X / (X + Y) is beta distributed.
pub(super) fn beta(rng: &mut impl Rng, successes: f64, failures: f64) -> f64 {
    let (x, y) = (gamma(rng, successes), gamma(rng, failures));
    // Two tiny shapes may both give zero.
    if x + y > 0.0 { x / (x + y) } else { 0.5 }
}

/// Marsaglia and Tsang, "A simple method for generating gamma variables" (ACM TOMS 26, 2000), scale 1. A shape below 1
/// is drawn from the one above it, as they say in section 6.
fn gamma(rng: &mut impl Rng, shape: f64) -> f64 {
    if shape < 1.0 {
        return gamma(rng, shape + 1.0) * unit(rng).powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && unit(rng).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// Box and Muller.
fn normal(rng: &mut impl Rng) -> f64 {
    (-2.0 * unit(rng).ln()).sqrt() * (TAU * unit(rng)).cos()
}

/// In (0, 1], so that its logarithm is finite.
fn unit(rng: &mut impl Rng) -> f64 {
    1.0 - rng.random::<f64>()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn mean_and_variance_are_those_of_the_beta_distribution() {
        let mut rng = SmallRng::seed_from_u64(1);
        for (a, b) in [(0.3, 0.9), (1.0, 1.0), (2.0, 5.0), (80.0, 20.0)] {
            let draws: Vec<f64> = (0..20_000).map(|_| beta(&mut rng, a, b)).collect();
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
            let (expected, spread) = (a / (a + b), a * b / ((a + b).powi(2) * (a + b + 1.0)));
            assert!((mean - expected).abs() < 0.01, "{a} {b}: mean {mean}, not {expected}");
            assert!((variance / spread - 1.0).abs() < 0.06, "{a} {b}: variance {variance}, not {spread}");
        }
    }
}
