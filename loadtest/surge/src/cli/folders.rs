//! Commands about a run that is over: report, resume.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use spillway_types::Timestamp;

use crate::manifest::{CohortsAsked, Manifest};
use crate::recording::Recording;
use crate::run::STEADY;
use crate::run_folder::{RunFolder, RunFolderError};
use crate::slo::ExitCode;
use crate::utc;

#[derive(Clone, Debug, Args)]
pub struct ResumeOptions {
    /// Folder of a run that was killed or ended early
    pub folder: PathBuf,
}

/// The part of a run that took place before it was continued.
#[derive(Clone, Debug)]
pub struct Continued {
    pub folder: PathBuf,
    /// When the run began the first time.
    pub started: Timestamp,
    /// The end of its last complete second.
    pub from: Duration,
    pub earlier: Arc<Recording>,
    /// Who did not behave in it.
    pub cohorts: Option<CohortsAsked>,
}

#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    #[error("the run in {} came to its end: `surge report` shows it", .0.display())]
    Ended(PathBuf),
    #[error("this was a trial of a search, which is not continued: search again")]
    Trial,
    #[error("a merged run cannot be continued: its load came from several load tools")]
    Merged,
    #[error(
        "a run of several workers cannot be continued: `surge merge` with the folders of its workers tells what they saw"
    )]
    Workers,
    #[error("nothing is left of the run in {}: its last complete second is the last with load, so `surge report` tells all of it", .0.display())]
    NothingLeft(PathBuf),
    #[error(
        "the service that the killed run started still runs, as process {0}: end it first (kill {0}), because its data is needed"
    )]
    OldServer(u32),
    #[error("the command line in {} is not understood by this version of surge", .0.display())]
    Arguments(PathBuf),
}

/// Writes all that follows from a run again. One that was killed is told of as far as it came.
pub(super) fn report(folder: PathBuf) -> ExitCode {
    let folder = RunFolder::open(folder);
    let written = folder.read().and_then(|(summary, rows)| match folder.has_ended() {
        true => folder.write_report(&summary, &rows).map(|()| summary),
        // No `summary.json`: the run may be continued, or may still go on.
        false => folder.write_killed(&summary, &rows).map(|()| summary),
    });
    match written {
        Ok(summary) => {
            if !folder.has_ended() {
                println!("{}", summary.headline);
            }
            println!("{}", folder.report().display());
            ExitCode::Pass
        }
        Err(error) => failed(error),
    }
}

/// What is left of a run, and how its command line goes on.
pub(super) fn continued(folder: &Path) -> Result<(Manifest, Continued), ResumeError> {
    let run = RunFolder::open(folder);
    let (manifest, earlier) = (run.manifest()?, run.recording()?);
    if run.has_ended() {
        return Err(ResumeError::Ended(folder.to_owned()));
    }
    if !manifest.merged_from.is_empty() {
        return Err(ResumeError::Merged);
    }
    if manifest.worker.is_some() || !manifest.workers.is_empty() {
        return Err(ResumeError::Workers);
    }
    if manifest.profile == STEADY {
        return Err(ResumeError::Trial);
    }
    let from = earlier.last_second().map_or(0, |second| second + 1);
    if from as f64 >= manifest.planned_s {
        return Err(ResumeError::NothingLeft(folder.to_owned()));
    }
    if let Some(pid) = manifest.own_server_pid.filter(|pid| is_of(*pid, folder)) {
        return Err(ResumeError::OldServer(pid));
    }
    // What was half written is cut off, or the next line would be written behind it; and so is a second that is repeated.
    run.write_recording(&earlier, Timestamp::from_millis(manifest.started_ms))?;
    let continued = Continued {
        folder: folder.to_owned(),
        started: Timestamp::from_millis(manifest.started_ms),
        from: Duration::from_secs(from),
        earlier: Arc::new(earlier),
        cohorts: manifest.cohorts.clone(),
    };
    println!(
        "continuing the run of {} at second {from} of {:.0}, with seed {}\n\
         continued:     the plan with its seed and rates, the arrivals from that second on, and all figures of the first part\n\
         not continued: people sign up again; messages that were on their way when the run ended are in no ledger, so losses are counted of \
         the second part only; faults before that second are not repeated",
        utc::rfc3339(continued.started),
        manifest.planned_s,
        manifest.seed,
    );
    Ok((manifest, continued))
}

/// Whether a process keeps its data in this folder: another one may have its number by now.
fn is_of(pid: u32, folder: &Path) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let environment = String::from_utf8_lossy(&environment);
    folder
        .canonicalize()
        .ok()
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .is_some_and(|name| environment.contains(&name))
}

pub(super) fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ExitCode {
    eprintln!("error: {:#}", anyhow::Error::new(error));
    ExitCode::Usage
}
