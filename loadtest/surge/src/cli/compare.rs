//! `surge compare A B`

use std::path::{Path, PathBuf};

use clap::Args;

use super::folders::failed;
use crate::compare::{self, DEFAULT_FIGURES, Difference, Finding, Settings};
use crate::recording::Recording;
use crate::run_folder::{MANIFEST, RunFolder, RunFolderError};
use crate::slo::ExitCode;

#[derive(Clone, Debug, Args)]
pub struct CompareOptions {
    /// Folder of a run, or of several runs; several with commas between them
    #[arg(value_name = "A")]
    pub a: String,
    /// What is compared with it
    #[arg(value_name = "B")]
    pub b: String,
    /// Figure to compare, such as send.response.p99; may be repeated. Default: response times, error rates and sign-ups a second
    #[arg(long = "figure", value_name = "FIGURE")]
    pub figures: Vec<String>,
    /// Per cent below which a difference is noise
    #[arg(long, value_name = "PER_CENT", default_value_t = 5.0)]
    pub noise: f64,
    /// Per cent of comparisons in which nothing is found that is not there
    #[arg(long, value_name = "PER_CENT", default_value_t = 95.0)]
    pub confidence: f64,
    /// End with status 3 when B is worse
    #[arg(long)]
    pub fail_on_regression: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The same seed draws the same
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Enough that the spread is known to a few per cent.
const DRAWS: usize = 1_000;

#[derive(Debug, thiserror::Error)]
enum CompareError {
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    #[error("there is no run in {}: neither it nor a folder in it has a {MANIFEST}", .0.display())]
    NoRuns(PathBuf),
    #[error("--figure: {0}")]
    Figure(String),
    #[error("--{0} is a number of per cent between 0 and 100")]
    PerCent(&'static str),
}

pub(super) fn compare(options: &CompareOptions) -> ExitCode {
    match differences(options) {
        Ok(found) => {
            print(options, &found);
            let worse = found.differences.iter().any(|difference| difference.finding == Finding::Worse);
            if worse && options.fail_on_regression { ExitCode::ObjectiveMissed } else { ExitCode::Pass }
        }
        Err(error) => failed(error),
    }
}

struct Found {
    runs: (usize, usize),
    differences: Vec<Difference>,
}

fn differences(options: &CompareOptions) -> Result<Found, CompareError> {
    for (name, value) in [("noise", options.noise), ("confidence", options.confidence)] {
        if !(0.0..100.0).contains(&value) {
            return Err(CompareError::PerCent(name));
        }
    }
    let texts: Vec<&str> = match options.figures.is_empty() {
        true => DEFAULT_FIGURES.to_vec(),
        false => options.figures.iter().map(String::as_str).collect(),
    };
    let figures = texts
        .into_iter()
        .map(compare::figure)
        .collect::<Result<Vec<_>, _>>()
        .map_err(CompareError::Figure)?;
    let (a, b) = (side(&options.a)?, side(&options.b)?);
    let settings = Settings {
        noise: options.noise / 100.0,
        confidence: options.confidence / 100.0,
        draws: DRAWS,
        seed: options.seed,
    };
    let differences = compare::compare(&a, &b, &figures, settings);
    Ok(Found { runs: (a.len(), b.len()), differences })
}

/// The runs in these folders, or in the folders in them.
fn side(folders: &str) -> Result<Vec<Recording>, CompareError> {
    let mut runs = Vec::new();
    for folder in folders.split(',').map(Path::new) {
        let paths = runs_in(folder);
        if paths.is_empty() {
            return Err(CompareError::NoRuns(folder.to_owned()));
        }
        for path in paths {
            runs.push(RunFolder::open(path).recording()?);
        }
    }
    Ok(runs)
}

fn runs_in(folder: &Path) -> Vec<PathBuf> {
    if folder.join(MANIFEST).exists() {
        return vec![folder.to_owned()];
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    // `latest` is one of the others.
    let runs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut runs: Vec<_> =
        runs.map(|entry| entry.path()).filter(|path| path.join(MANIFEST).exists()).collect();
    runs.sort();
    runs
}

fn print(options: &CompareOptions, found: &Found) {
    if options.json {
        let json = serde_json::json!({
            "schema_version": 1,
            "runs": { "a": found.runs.0, "b": found.runs.1 },
            "noise": options.noise / 100.0,
            "confidence": options.confidence / 100.0,
            "figures": found.differences,
        });
        println!("{json:#}");
        return;
    }
    println!("A: {} run(s), B: {} run(s)\n", found.runs.0, found.runs.1);
    println!("{:<24} {:>12} {:>12} {:>9}  {:<22} finding", "figure", "A", "B", "B to A", "between");
    for difference in &found.differences {
        println!("{}", line(difference));
    }
    let of = |finding| {
        found
            .differences
            .iter()
            .filter(|d| d.finding == finding)
            .map(|d| d.figure.as_str())
            .collect::<Vec<_>>()
    };
    let (worse, better) = (of(Finding::Worse), of(Finding::Better));
    println!();
    match (worse.is_empty(), better.is_empty()) {
        (true, true) => println!("No difference that is above {} % and not chance.", options.noise),
        (true, false) => println!("B is better: {}.", better.join(", ")),
        (false, true) => println!("B is worse: {}.", worse.join(", ")),
        (false, false) => println!("B is worse: {}; and better: {}.", worse.join(", "), better.join(", ")),
    }
    if found.runs.0.min(found.runs.1) < 3 {
        println!(
            "Runs of one build differ by more than their seconds do: with three runs a side and more, that is counted in."
        );
    }
}

pub(super) fn line(difference: &Difference) -> String {
    let value = |value: Option<f64>| match value {
        None => "–".to_owned(),
        Some(value) if difference.is_share => format!("{:.3} %", value * 100.0),
        Some(value) => format!("{value:.2}"),
    };
    let change = |value: Option<f64>| match value {
        None => "–".to_owned(),
        Some(value) if difference.is_share => format!("{:+.2} pt", value * 100.0),
        Some(value) => format!("{:+.1} %", (value - 1.0) * 100.0),
    };
    let finding = match difference.finding {
        Finding::NoDifference => "no difference",
        Finding::Better => "better",
        Finding::Worse => "WORSE",
        Finding::NotMeasured => "not measured on both sides",
    };
    format!(
        "{:<24} {:>12} {:>12} {:>9}  {:<22} {finding}",
        difference.figure,
        value(difference.a),
        value(difference.b),
        change(difference.change),
        format!("{} … {}", change(difference.low), change(difference.high)),
    )
}
