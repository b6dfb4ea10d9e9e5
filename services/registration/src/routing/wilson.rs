/// The normal quantile of 95 % on two sides.
const Z: f64 = 1.959_964;

/// The upper end of Wilson's 95 % interval for a share of which `successes` of `n` were seen (Wilson, "Probable
/// inference", JASA 22, 1927). 1 when nothing was seen.
pub(super) fn upper(successes: f64, n: f64) -> f64 {
    if n <= 0.0 {
        return 1.0;
    }
    let p = (successes / n).clamp(0.0, 1.0);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    (p + Z * Z / (2.0 * n) + spread) / (1.0 + Z * Z / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_in_the_tables() {
        assert!((upper(0.0, 30.0) - 0.1135).abs() < 1e-4);
        assert!((upper(15.0, 30.0) - 0.6685).abs() < 1e-4);
        assert!((upper(0.0, 0.0) - 1.0).abs() < 1e-9);
        assert!(upper(2.0, 30.0) < 0.25 && upper(3.0, 30.0) > 0.25);
    }
}
