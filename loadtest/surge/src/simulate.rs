//! `surge simulate`: plays scenarios of overload in virtual time, prints the table and keeps the curves.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use spillway_simulator::{Progress, Scenario, ScenarioError, SuiteOutcome, play, shipped, suite_with, table};
use spillway_types::{Clock, SystemClock};

use crate::autoscale;
use crate::cli::SimulateOptions;
use crate::run_folder::{RunFolder, RunFolderError};
use crate::slo::ExitCode;

/// Why nothing was simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    #[error("{} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    Folder(#[from] RunFolderError),
}

/// Plays what was asked for; rows that do not hold are [`ExitCode::ObjectiveMissed`].
pub fn simulate(options: &SimulateOptions) -> Result<ExitCode, SimulateError> {
    if options.file.as_deref().is_some_and(autoscale::is_asked_for) {
        return Ok(autoscale::play(options)?);
    }
    let name = match (&options.suite, &options.file) {
        (Some(suite), _) => suite.clone(),
        (None, Some(file)) => {
            file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
        }
        (None, None) => String::new(),
    };
    // What is wrong with the file is said before a folder is made for it.
    let scenario = match (&options.suite, &options.file) {
        (None, Some(file)) => Some(scenario(file)?),
        _ => None,
    };
    let mut shown = Shown::default();
    let mut progress = |progress: Progress<'_>| shown.show(&progress);
    let outcome = match scenario {
        Some(scenario) => play(&name, &scenario, options.seed, &mut progress),
        None => suite_with(&name, options.seed, &mut progress)?,
    };
    shown.clear();
    print!("{}", table::print(&outcome));
    let folder = RunFolder::create(&options.out, SystemClock.now(), &name)?;
    folder.write_simulation(&outcome)?;
    println!("{}", folder.report().display());
    Ok(verdict(&outcome))
}

fn verdict(outcome: &SuiteOutcome) -> ExitCode {
    if outcome.missed() == 0 { ExitCode::Pass } else { ExitCode::ObjectiveMissed }
}

/// A file, or one that ships with the simulator when there is no such file.
fn scenario(file: &Path) -> Result<Vec<Scenario>, SimulateError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(vec![Scenario::parse(&text, &file.display().to_string())?]),
        Err(error) if error.kind() == io::ErrorKind::NotFound && file.extension().is_none() => {
            Ok(shipped(Some(&file.to_string_lossy()))?)
        }
        Err(source) => Err(SimulateError::Read { path: file.to_owned(), source }),
    }
}

/// One line that is written again and again, where somebody watches.
#[derive(Default)]
struct Shown {
    width: usize,
}

impl Shown {
    fn show(&mut self, progress: &Progress<'_>) {
        if !io::stderr().is_terminal() {
            return;
        }
        let line = format!("{} {}/{}", progress.scenario, progress.done, progress.of);
        let mut stderr = io::stderr();
        // Nothing can be done about a closed terminal.
        write!(stderr, "\r{line:<width$}", width = self.width).and_then(|()| stderr.flush()).ok();
        self.width = line.len();
    }

    fn clear(&self) {
        if self.width > 0 {
            eprint!("\r{:width$}\r", "", width = self.width);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn a_wrong_key_is_named_with_the_right_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.toml");
        let text = "name = \"mine\"\nexperiment = \"E1\"\nabout = \"\"\ncompare = \"goodput-over-peak\"\nfactrs = [1]\n";
        fs::write(&file, text).unwrap();
        let error = scenario(&file).unwrap_err().to_string();
        assert!(error.ends_with("line 5: there is no key `factrs` here; did you mean `factors`?"), "{error}");
    }

    #[test]
    fn a_file_or_a_suite_goes_with_a_seed_and_a_folder() {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: SimulateOptions,
        }
        let parse = |line: &str| Line::try_parse_from(line.split(' ')).map(|line| line.options);
        let one = parse("simulate e4-step --seed 7 --out there").unwrap();
        assert_eq!((one.file, one.seed, one.out), (Some("e4-step".into()), 7, "there".into()));
        let all = parse("simulate --suite reduced --seed 7").unwrap();
        assert_eq!((all.suite.as_deref(), all.seed), (Some("reduced"), 7));
        for wrong in ["simulate", "simulate --seed 7", "simulate e4-step --suite reduced"] {
            parse(wrong).unwrap_err();
        }
    }

    #[test]
    fn a_shipped_scenario_goes_by_its_name() {
        assert_eq!(scenario(Path::new("e1-goodput")).unwrap()[0].name, "e1-goodput");
        let error = scenario(Path::new("e1-godput")).unwrap_err().to_string();
        assert_eq!(error, "no scenario is called `e1-godput`; did you mean `e1-goodput`?");
        assert!(matches!(scenario(Path::new("gone.toml")), Err(SimulateError::Read { .. })));
    }
}
