//! Commands about runs that are over: report, merge, resume.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use spillway_types::{Clock, SystemClock, Timestamp};

use crate::ledger::Counts;
use crate::manifest::Manifest;
use crate::recording::Recording;
use crate::retold::{self, Ended, Whole};
use crate::run::STEADY;
use crate::run_folder::{RunFolder, RunFolderError};
use crate::slo::ExitCode;
use crate::summary::WorkerSummary;
use crate::utc;
use crate::workers::{Crossings, lag_of, offered_of};

#[derive(Clone, Debug, Args)]
pub struct MergeOptions {
    /// Folders of runs that took place beside each other, from one second on
    #[arg(required = true, num_args = 2.., value_name = "FOLDER")]
    pub folders: Vec<PathBuf>,
    /// Where the folder of the merged run goes
    #[arg(long, value_name = "FOLDER", default_value = "target/surge")]
    pub out: PathBuf,
}

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

pub(super) fn merge(options: &MergeOptions) -> ExitCode {
    match merged(options) {
        Ok((folder, code)) => {
            println!("{}", folder.report().display());
            code
        }
        Err(error) => failed(error),
    }
}

fn merged(options: &MergeOptions) -> Result<(RunFolder, ExitCode), RunFolderError> {
    let folders: Vec<_> = options.folders.iter().map(RunFolder::open).collect();
    let mut whole: Option<(Manifest, Recording)> = None;
    let (mut counts, mut ended, mut worst) = (Counts::default(), true, ExitCode::Pass);
    let mut crossings = Crossings::default();
    for folder in &folders {
        let (mut manifest, recording) = (folder.manifest()?, folder.recording()?);
        folder.crossings()?.into_iter().for_each(|crossing| crossings.add(crossing));
        if let Some(worker) = manifest.worker.take() {
            let (offered, lag_p99_ms) = (offered_of(&recording), lag_of(&recording));
            let folder = folder.path().display().to_string();
            manifest.workers.push(WorkerSummary { offered, lag_p99_ms, folder, ..worker });
        }
        if folder.has_ended() {
            let (summary, _) = folder.read()?;
            counts.add(&summary.ledger);
            if summary.exit_code == ExitCode::Interrupted {
                worst = ExitCode::Partial;
            }
        } else {
            eprintln!("warning: the run in {} did not come to its end", folder.path().display());
            ended = false;
        }
        whole = Some(match whole {
            None => (manifest, recording),
            Some((mut first, mut all)) => {
                if !first.workers.is_empty() && first.started_ms != manifest.started_ms {
                    return Err(RunFolderError::OtherRun { path: folder.path().to_owned() });
                }
                first.workers.extend(manifest.workers);
                first.existing_users += manifest.existing_users;
                first.peak.planned_sign_ups_per_s += manifest.peak.planned_sign_ups_per_s;
                all.merge(&recording);
                (first, all)
            }
        });
    }
    let Some((mut manifest, recording)) = whole else {
        return Err(RunFolderError::NoRun { path: options.out.clone() });
    };
    manifest.merged_from = folders.iter().map(|folder| folder.path().display().to_string()).collect();
    manifest.configuration.insert("merged_from".to_owned(), manifest.merged_from.join(", "));
    // What two of them saw of one message; runs that did not know of each other have none.
    counts.add(&crossings.counts(|_| false));
    manifest.workers.sort_by_key(|worker| worker.number);
    // A part is judged by little. All of them are the run.
    manifest.default_gates |= !manifest.workers.is_empty();
    let folder = RunFolder::create(&options.out, SystemClock.now(), &format!("{}-merged", manifest.profile))?;
    folder.write_manifest(&manifest)?;
    folder.write_recording(&recording, Timestamp::from_millis(manifest.started_ms))?;
    let how = if ended { Ended::Whole(Whole { counts, ..Whole::default() }) } else { Ended::Killed };
    let summary = retold::summary(&manifest, &recording, &how)
        .map_err(|error| RunFolderError::Gate { path: folder.path().to_owned(), error: Box::new(error) })?;
    folder.write_outputs(&summary, &recording.into_rows())?;
    let code = if ended { worst } else { ExitCode::Partial };
    Ok((folder, code))
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
