//! How large messages are. What is in them is noise, so that no compression flatters anybody.

use std::str::FromStr;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// More is no message that a service takes (`surge cohorts show oversize` is about those).
pub const BYTES_MAX: u32 = 256 * 1024;

/// Sizes of the content of messages, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    Fixed(u32),
    /// Half are smaller than the median; of the logarithms, one of a hundred is as far above that of the median as that of `p99`.
    LogNormal {
        median: f64,
        sigma: f64,
    },
    /// As often as they were seen.
    Seen(Vec<u32>),
}

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874_040_841;
/// Of a file: so many rows say all that can be said of sizes.
const ROWS_MAX: usize = 1_000_000;
const COLUMN: &str = "bytes";

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(inside) = text.strip_prefix("lognormal(").and_then(|rest| rest.strip_suffix(')')) {
            return log_normal(inside);
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            return bytes(text).map(Self::Fixed);
        }
        match text.rsplit_once('.') {
            Some((_, "csv")) => seen(text),
            _ => Err(format!(
                "`{text}` is no size of messages: write 512, lognormal(median=300, p99=4000), or the name of a file that ends in .csv and has a \
                 column `{COLUMN}`"
            )),
        }
    }
}

impl Sizes {
    /// The size of the `n`th message of a stream; the same seed gives the same, whoever sends it.
    pub fn draw(&self, seed: u64, n: u64) -> u32 {
        let random = || SmallRng::seed_from_u64(seed.rotate_left(29) ^ n ^ 0xB17E5);
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::LogNormal { median, sigma } => {
                let mut random = random();
                // Box and Muller; never the logarithm of nothing.
                let (u, v) = (1.0 - random.random::<f64>(), random.random::<f64>());
                let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
                (median * (sigma * normal).exp()).round().clamp(1.0, f64::from(BYTES_MAX)) as u32
            }
            Self::Seen(all) => all[random().random_range(0..all.len())],
        }
    }

    /// On average, for what a plan says of the wire.
    pub fn mean(&self) -> f64 {
        match self {
            Self::Fixed(bytes) => f64::from(*bytes),
            Self::LogNormal { median, sigma } => {
                (median * (sigma * sigma / 2.0).exp()).min(f64::from(BYTES_MAX))
            }
            Self::Seen(all) => all.iter().copied().map(f64::from).sum::<f64>() / all.len().max(1) as f64,
        }
    }
}

fn bytes(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(bytes) if (1..=BYTES_MAX).contains(&bytes) => Ok(bytes),
        _ => Err(format!("`{text}` is no size: 1 to {BYTES_MAX} bytes")),
    }
}

fn log_normal(inside: &str) -> Result<Sizes, String> {
    let (mut median, mut p99) = (None, None);
    for part in inside.split(',') {
        let (name, value) = part.split_once('=').ok_or("is written as lognormal(median=300, p99=4000)")?;
        let value = f64::from(bytes(value.trim())?);
        match name.trim() {
            "median" => median = Some(value),
            "p99" => p99 = Some(value),
            other => return Err(format!("lognormal has a median and a p99, and no `{other}`")),
        }
    }
    let (Some(median), Some(p99)) = (median, p99) else {
        return Err("lognormal needs a median and a p99".to_owned());
    };
    if p99 < median {
        return Err(format!("the p99 ({p99}) is below the median ({median})"));
    }
    Ok(Sizes::LogNormal { median, sigma: (p99 / median).ln() / Z99 })
}

fn seen(path: &str) -> Result<Sizes, String> {
    let unreadable = |error: csv::Error| format!("{path} cannot be read: {error}");
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_path(path).map_err(unreadable)?;
    let headers = reader.headers().map_err(unreadable)?.clone();
    let column = headers
        .iter()
        .position(|name| name.trim() == COLUMN)
        .ok_or_else(|| format!("{path} has no column `{COLUMN}`"))?;
    let mut all = Vec::new();
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        let line = record.position().map_or(0, csv::Position::line);
        let text = record.get(column).unwrap_or_default().trim();
        all.push(bytes(text).map_err(|error| format!("{path}:{line}: {error}"))?);
        if all.len() > ROWS_MAX {
            return Err(format!("{path} has more than {ROWS_MAX} rows: a part of them says as much"));
        }
    }
    if all.is_empty() { Err(format!("{path} has no sizes in it")) } else { Ok(Sizes::Seen(all)) }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(f, "{bytes} bytes"),
            Self::LogNormal { median, sigma } => {
                write!(f, "lognormal, median {median:.0} bytes, p99 {:.0}", median * (sigma * Z99).exp())
            }
            Self::Seen(all) => {
                write!(f, "{} sizes of a file, {:.0} bytes on average", all.len(), self.mean())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(text: &str) -> Sizes {
        text.parse().unwrap()
    }

    /// Feature 23.
    #[test]
    fn drawn_sizes_have_the_distribution_that_was_asked_for() {
        const SEED: u64 = 7;
        println!("seed {SEED}");
        assert!((0..50).all(|n| sizes("512").draw(SEED, n) == 512));
        let log_normal = sizes("lognormal(median=300, p99=4000)");
        let mut drawn: Vec<_> = (0..40_000).map(|n| log_normal.draw(SEED, n)).collect();
        let again: Vec<_> = (0..40_000).map(|n| log_normal.draw(SEED, n)).collect();
        assert_eq!(drawn, again, "whoever sends it");
        let mean = drawn.iter().copied().map(f64::from).sum::<f64>() / drawn.len() as f64;
        drawn.sort_unstable();
        let (median, p99) = (f64::from(drawn[20_000]), f64::from(drawn[39_600]));
        assert!((median - 300.0).abs() < 12.0, "median {median}");
        assert!((p99 - 4_000.0).abs() < 400.0, "p99 {p99}");
        assert!((mean / log_normal.mean() - 1.0).abs() < 0.05, "{mean} and {}", log_normal.mean());
        assert_eq!(log_normal.to_string(), "lognormal, median 300 bytes, p99 4000");

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sizes.csv");
        std::fs::write(&file, "# seen on a Monday\nat,bytes\n1,100\n2,100\n3,100\n4,5000\n").unwrap();
        let seen = sizes(file.to_str().unwrap());
        let large = (0..10_000).filter(|n| seen.draw(SEED, *n) == 5_000).count();
        assert!((2_200..2_800).contains(&large), "a quarter of them: {large}");
        assert!((seen.mean() - 1_325.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_size_is_said() {
        let error = |text: &str| text.parse::<Sizes>().unwrap_err();
        for (text, said) in [
            ("", "is no size of messages"),
            ("small", "is no size of messages"),
            ("0", "1 to 262144 bytes"),
            ("-1", "is no size of messages"),
            ("300000", "1 to 262144 bytes"),
            ("lognormal(median=300)", "needs a median and a p99"),
            ("lognormal(median=300, p99=200)", "below the median"),
            ("lognormal(mean=300, p99=200)", "no `mean`"),
            ("/nowhere/sizes.csv", "cannot be read"),
        ] {
            assert!(error(text).contains(said), "{text}: {}", error(text));
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sizes.csv");
        for (text, said) in
            [("at\n1\n", "no column `bytes`"), ("bytes\n", "no sizes"), ("bytes\n5\nx\n", "sizes.csv:3: `x`")]
        {
            std::fs::write(&file, text).unwrap();
            let said_of_it = error(file.to_str().unwrap());
            assert!(said_of_it.contains(said), "{said_of_it}");
        }
    }
}
