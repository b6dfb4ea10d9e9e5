//! Whether B is faster or slower than A, and how sure that is.
//!
//! The difference of a figure is compared with how much the figure varies by itself. That is found by the bootstrap: runs of a side, and blocks of
//! seconds within them, are drawn again and again with replacement, and the figure is computed of each drawing. Blocks, because a slow second is
//! seldom alone; runs, because two runs of one build differ by more than their seconds do. The interval is widened for few runs or blocks, as Student's t is,
//! and for several figures, so that all of them together are wrong in one comparison of twenty. A difference below the noise threshold is none,
//! however sure it is.

mod resample;

use serde::Serialize;

use crate::gates::{Count, Kind, Metric, Statistic};
use crate::recording::Recording;
use crate::run::SURGE;
use crate::stats::Sparse;
use resample::Resampler;

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Share below which a difference does not count.
    pub noise: f64,
    /// For all figures together.
    pub confidence: f64,
    pub draws: usize,
    pub seed: u64,
}

/// Below this difference of an error rate, in shares, nothing is said.
const RATIO_NOISE: f64 = 0.001;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    NoDifference,
    Better,
    Worse,
    /// One side has no value.
    NotMeasured,
}

/// One figure of both sides.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    pub figure: String,
    pub a: Option<f64>,
    pub b: Option<f64>,
    /// B over A; of shares B − A.
    pub change: Option<f64>,
    /// Between which `change` is, with the wanted confidence.
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub is_share: bool,
    pub finding: Finding,
}

/// What one second of a run says about a figure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    pub(crate) buckets: Sparse,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) refused: u64,
    pub(crate) offered: u64,
}

/// Every figure of A beside that of B.
pub fn compare(
    a: &[Recording],
    b: &[Recording],
    figures: &[(String, Metric)],
    settings: Settings,
) -> Vec<Difference> {
    figures
        .iter()
        .map(|(name, metric)| {
            let side = |runs: &[Recording]| runs.iter().map(|run| seconds(run, metric)).collect::<Vec<_>>();
            difference(name, metric, side(a), side(b), figures.len(), settings)
        })
        .collect()
}

/// The seconds of the surge, or all where there is none.
fn seconds(run: &Recording, metric: &Metric) -> Vec<Second> {
    let (operation, tag) = match metric {
        Metric::Latency { operation, kind, .. } => (operation, Some(format!("{operation}.{}", kind.name()))),
        Metric::Count { operation, .. } => (operation, None),
        Metric::Final { .. } => return Vec::new(),
    };
    let surge = run.rows().any(|row| row.phase == SURGE);
    let of = run.rows().filter(|row| !surge || row.phase == SURGE);
    of.map(|row| {
        let seen = row.operations.get(operation).cloned().unwrap_or_default();
        let buckets =
            tag.as_ref().and_then(|tag| run.histogram(row.second, tag)).cloned().unwrap_or_default();
        Second { buckets, ok: seen.ok, failed: seen.failed, refused: seen.refused, offered: seen.offered }
    })
    .collect()
}

pub(crate) fn difference(
    name: &str,
    metric: &Metric,
    a: Vec<Vec<Second>>,
    b: Vec<Vec<Second>>,
    figures: usize,
    settings: Settings,
) -> Difference {
    let is_share = matches!(
        metric,
        Metric::Count { count: Count::ErrorRate | Count::SuccessRate | Count::RefusedRate, .. }
    );
    let (mut a, mut b) = (Resampler::new(metric.clone(), a), Resampler::new(metric.clone(), b));
    let (whole_a, whole_b) = (a.whole(), b.whole());
    let change = |a: Option<f64>, b: Option<f64>| match (a?, b?) {
        (a, b) if is_share => Some(b - a),
        (a, b) if a > 0.0 && b > 0.0 => Some((b / a).ln()),
        _ => None,
    };
    let mut found = Difference {
        figure: name.to_owned(),
        a: whole_a,
        b: whole_b,
        change: None,
        low: None,
        high: None,
        is_share,
        finding: Finding::NotMeasured,
    };
    let Some(seen) = change(whole_a, whole_b) else { return found };
    // Two different seeds: A and B are drawn independently.
    let mut random = resample::random(settings.seed, name);
    let drawn: Vec<f64> =
        (0..settings.draws).filter_map(|_| change(a.draw(&mut random), b.draw(&mut random))).collect();
    let half = half_width(&drawn, (a.units(), b.units()), figures, settings);
    let noise = if is_share { RATIO_NOISE } else { settings.noise.ln_1p() };
    let (low, high) = (seen - half, seen + half);
    let real = (low > 0.0 || high < 0.0) && seen.abs() > noise;
    let scale = |value: f64| if is_share { value } else { value.exp() };
    found.change = Some(scale(seen));
    found.low = Some(scale(low));
    found.high = Some(scale(high));
    found.finding = match (real, (seen > 0.0) == more_is_worse(metric)) {
        (false, _) => Finding::NoDifference,
        (true, true) => Finding::Worse,
        (true, false) => Finding::Better,
    };
    found
}

fn more_is_worse(metric: &Metric) -> bool {
    !matches!(
        metric,
        Metric::Count { count: Count::SuccessRate | Count::Rate | Count::Ok | Count::Offered, .. }
    )
}

/// Half of the interval, from the spread of what was drawn.
fn half_width(drawn: &[f64], units: (usize, usize), figures: usize, settings: Settings) -> f64 {
    if drawn.len() < 2 {
        return f64::INFINITY;
    }
    let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
    let variance = drawn.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (drawn.len() - 1) as f64;
    // Both sides, and every figure, may be wrong.
    let tail = (1.0 - settings.confidence) / 2.0 / figures.max(1) as f64;
    let z = normal_quantile(1.0 - tail);
    // Of one run a side nothing is known about how runs differ; the noise threshold stands for it.
    let freedom = (units.0 + units.1).saturating_sub(2).max(1);
    // Drawing N of N shows (N − 1) / N of how they vary.
    let widen = |units: usize| if units > 1 { units as f64 / (units as f64 - 1.0) } else { 2.0 };
    let few = widen(units.0).max(widen(units.1)).sqrt();
    few * student_quantile(z, freedom as f64) * variance.sqrt()
}

/// Student's quantile from the normal one, by the Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5).
fn student_quantile(z: f64, freedom: f64) -> f64 {
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

/// The value that a standard normal variable does not exceed with this probability: Abramowitz and Stegun 26.2.23, good to 0.00045.
fn normal_quantile(probability: f64) -> f64 {
    let tail = probability.min(1.0 - probability).max(1e-12);
    let t = (-2.0 * tail.ln()).sqrt();
    let top = 2.515_517 + 0.802_853 * t + 0.010_328 * t * t;
    let bottom = 1.0 + 1.432_788 * t + 0.189_269 * t * t + 0.001_308 * t * t * t;
    (t - top / bottom).copysign(probability - 0.5)
}

/// What is compared when nobody says.
pub const DEFAULT_FIGURES: [&str; 6] = [
    "send.response.p50",
    "send.response.p99",
    "send.error_rate",
    "signup.response.p99",
    "signup.error_rate",
    "signup.rate",
];

/// A figure that can be compared.
///
/// # Errors
///
/// When it is not understood, or drawing again says nothing about it.
pub fn figure(text: &str) -> Result<(String, Metric), String> {
    let metric = Metric::parse(text).map_err(|error| error.to_string())?;
    match metric {
        Metric::Final { .. } => Err(format!(
            "`{text}` is one figure of a whole run: only what is recorded each second can be compared"
        )),
        Metric::Latency { statistic: Statistic::Max, .. } => Err(format!(
            "`{text}` cannot be compared: a highest value says nothing about the next run; take a percentile"
        )),
        Metric::Latency { kind: Kind::Lag, .. } => {
            Err(format!("`{text}` is the load tool's lag and not the service's time"))
        }
        metric => Ok((text.to_owned(), metric)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::stats::Latency;

    const SETTINGS: Settings = Settings { noise: 0.05, confidence: 0.95, draws: 120, seed: 1 };

    /// Log-normal times: a run of 40 s at 100 a second, `slower` times 10 ms in the middle. Slow seconds come in rows.
    fn run(random: &mut StdRng, slower: f64) -> Vec<Second> {
        let normal = |random: &mut StdRng| (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
        let mut mood = 0.0;
        (0..40)
            .map(|_| {
                mood = 0.5 * mood + 0.05 * normal(random);
                let mut latency = Latency::default();
                for _ in 0..100 {
                    let ms = 10.0 * slower * (mood + 0.5 * normal(random)).exp();
                    latency.record(Duration::from_secs_f64(ms / 1_000.0));
                }
                Second { buckets: latency.to_sparse(), ok: 100, offered: 100, ..Second::default() }
            })
            .collect()
    }

    fn findings(seed: u64, runs: usize, between: f64, slower: f64) -> Vec<Finding> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut side = |slower: f64| -> Vec<Vec<Second>> {
            let mut one = || {
                let luck = 1.0 + between * (random.random::<f64>() - 0.5) * 2.0;
                run(&mut random, slower * luck)
            };
            (0..runs).map(|_| one()).collect()
        };
        let (a, b) = (side(1.0), side(slower));
        ["send.response.p50", "send.response.p99", "send.rate"]
            .map(|text| {
                let (name, metric) = figure(text).unwrap();
                difference(&name, &metric, a.clone(), b.clone(), 3, Settings { seed, ..SETTINGS }).finding
            })
            .to_vec()
    }

    #[test]
    fn the_same_twice_is_no_difference_and_a_fifth_slower_is_one() {
        let cases = 200;
        let same = (0..cases)
            .filter(|seed| findings(*seed, 1, 0.0, 1.0).iter().all(|f| *f == Finding::NoDifference))
            .count();
        assert!(
            same * 100 >= cases as usize * 95,
            "{same} of {cases} seeds said that there is no difference"
        );
        let found = (0..50).filter(|seed| findings(*seed, 1, 0.0, 1.2).contains(&Finding::Worse)).count();
        assert!(found >= 48, "{found} of 50 seeds found 20 %");
        let better =
            (0..20).filter(|seed| findings(*seed, 1, 0.0, 1.0 / 1.2).contains(&Finding::Better)).count();
        assert!(better >= 19, "{better} of 20 seeds found that B is faster");
    }

    /// Runs that differ by up to 5 % each way: seconds alone would be sure of a difference that is luck.
    #[test]
    fn several_runs_show_how_runs_differ() {
        let same = (0..40)
            .filter(|seed| findings(*seed, 4, 0.05, 1.0).iter().all(|f| *f == Finding::NoDifference))
            .count();
        assert!(same >= 38, "{same} of 40");
        let found = (0..10).filter(|seed| findings(*seed, 4, 0.05, 1.2).contains(&Finding::Worse)).count();
        assert!(found >= 9, "{found} of 10");
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (probability, z) in [(0.5, 0.0), (0.975, 1.96), (0.025, -1.96), (0.995, 2.576)] {
            assert!((normal_quantile(probability) - z).abs() < 0.001, "{probability}");
        }
        assert!((student_quantile(1.96, 4.0) - 2.776).abs() < 0.03);
        assert!((student_quantile(1.96, 10.0) - 2.228).abs() < 0.005);
    }

    #[test]
    fn what_cannot_be_compared_says_why() {
        assert!(figure("e2e.lost").unwrap_err().contains("whole run"));
        assert!(figure("send.response.max").unwrap_err().contains("take a percentile"));
        assert!(figure("send.lag.p99").unwrap_err().contains("load tool's lag"));
        for text in DEFAULT_FIGURES {
            figure(text).unwrap();
        }
        let (name, metric) = figure("send.response.p99").unwrap();
        let nothing = difference(&name, &metric, vec![vec![]], vec![vec![]], 1, SETTINGS);
        assert_eq!(nothing.finding, Finding::NotMeasured);
    }

    #[test]
    fn errors_are_compared_in_points() {
        let (name, metric) = figure("send.error_rate").unwrap();
        let side = |failed: u64| vec![vec![Second { ok: 100 - failed, failed, ..Second::default() }; 30]];
        let found = difference(&name, &metric, side(0), side(2), 1, SETTINGS);
        assert_eq!((found.finding, found.change), (Finding::Worse, Some(0.02)));
        assert_eq!(difference(&name, &metric, side(0), side(0), 1, SETTINGS).finding, Finding::NoDifference);
    }
}
