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
    /// End with status 3 when B is worse, or a figure of --figure was not measured on both sides
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
            let has = |finding| found.differences.iter().any(|difference| difference.finding == finding);
            // Who named a figure wants to know of it: what was not measured proves nothing.
            let is_blind = !options.figures.is_empty() && has(Finding::NotMeasured);
            let is_regression = has(Finding::Worse) || is_blind;
            if is_regression && options.fail_on_regression {
                ExitCode::ObjectiveMissed
            } else {
                ExitCode::Pass
            }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use spillway_types::Timestamp;

    use super::*;
    use crate::journal::Journal;
    use crate::report::example;
    use crate::stats::Second;
    use crate::summary::EXISTING_SEND;
    use crate::timeline::Row;

    const SEED: u64 = 7;

    /// Three runs of sixteen seconds, of which each answer takes `percent` of what it takes elsewhere.
    fn runs(root: &Path, name: &str, percent: u64) -> String {
        for run in 0..3_u64 {
            let started = Timestamp::from_millis(1_610_722_800_000 + run * 100_000);
            let folder = RunFolder::create(&root.join(name), started, "steady").unwrap();
            folder.write_manifest(&example::manifest()).unwrap();
            let journal = Journal::open(folder.path(), started).unwrap();
            for at in 0..16_u64 {
                let mut second = Second { offered: 60, ok: 60, ..Second::default() };
                for n in 0..60_u64 {
                    let noise = (at * 7_919 + n * 104_729 + run * 31 + SEED) % 40;
                    second.response.record(Duration::from_micros((1_000 + noise * 10) * percent / 100));
                }
                let mut row = Row { second: at, phase: "surge".to_owned(), ..Row::default() };
                row.operations.insert(EXISTING_SEND.0.to_owned(), (&second).into());
                journal.seconds(vec![row], BTreeMap::from([((at, EXISTING_SEND), second)]));
            }
            journal.finish().unwrap();
        }
        root.join(name).display().to_string()
    }

    #[test]
    fn a_regression_fails_where_it_is_asked_to_and_so_does_what_nobody_measured() {
        println!("seed {SEED}");
        let root = tempfile::tempdir().unwrap();
        let (a, same, slower) =
            (runs(root.path(), "a", 100), runs(root.path(), "same", 100), runs(root.path(), "slower", 160));
        let code = |a: &str, b: &str, figures: &[&str], fail_on_regression| {
            compare(&CompareOptions {
                a: a.to_owned(),
                b: b.to_owned(),
                figures: figures.iter().map(|figure| (*figure).to_owned()).collect(),
                noise: 5.0,
                confidence: 95.0,
                fail_on_regression,
                json: false,
                seed: SEED,
            })
        };
        assert_eq!(code(&a, &slower, &[], true), ExitCode::ObjectiveMissed);
        assert_eq!(code(&a, &slower, &[], false), ExitCode::Pass, "it was only asked to say so");
        assert_eq!(code(&slower, &a, &[], true), ExitCode::Pass, "better is no regression");
        assert_eq!(code(&a, &same, &[], true), ExitCode::Pass);
        assert_eq!(code(&a, &same, &["signup.response.p99"], true), ExitCode::ObjectiveMissed);
        assert_eq!(code(&a, &same, &["signup.response.p99"], false), ExitCode::Pass);
        let each = format!("{a}/20210115T150000Z-steady,{a}/20210115T150140Z-steady");
        assert_eq!(code(&each, &slower, &["send.response.p99"], true), ExitCode::ObjectiveMissed);
        assert_eq!(code(&a, "/nowhere", &[], true), ExitCode::Usage);
        assert_eq!(code(&a, &same, &["send.respons.p99"], true), ExitCode::Usage);
    }
}
