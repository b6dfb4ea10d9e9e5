//! `surge merge`: several runs that took place beside each other, or the parts of one, as one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use spillway_types::{Clock, SystemClock, Timestamp};

use super::folders::failed;
use crate::cohorts::{Cohort, Shares};
use crate::ledger::Counts;
use crate::manifest::{CohortsAsked, Manifest};
use crate::recording::Recording;
use crate::retold::{self, Ended, Whole};
use crate::run::ALL_POLITE;
use crate::run_folder::{RunFolder, RunFolderError};
use crate::slo::ExitCode;
use crate::summary::WorkerSummary;
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

/// Why folders are not one run.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    #[error("{} is a worker's part of another run than the first folder", .0.display())]
    OtherRun(PathBuf),
    #[error(
        "{} is the run of the coordinator, which has heard what the workers kept: merge the folders of the workers alone", .0.display()
    )]
    Coordinator(PathBuf),
    #[error("{} and the folder of the same worker before it are the same part of the run", .0.display())]
    SameWorker(PathBuf),
    #[error(
        "the existing users of {} were {other}, and those of the first folder {first}: what a cohort did would be said of different people. Merge \
         runs with the same --cohorts",
        path.display()
    )]
    OtherCohorts { path: PathBuf, first: String, other: String },
}

/// What the folders so far are together.
#[derive(Debug)]
struct Sum {
    manifest: Manifest,
    recording: Recording,
    counts: Counts,
    /// Each of them came to its end.
    ended: bool,
    interrupted: bool,
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

fn merged(options: &MergeOptions) -> Result<(RunFolder, ExitCode), MergeError> {
    let (mut sum, mut crossings) = (None::<Sum>, Crossings::default());
    let mut seen = BTreeSet::new();
    for path in &options.folders {
        if !seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
            eprintln!("warning: {} is named twice, so everything in it counts twice", path.display());
        }
        let folder = RunFolder::open(path);
        let one = Sum::read(&folder)?;
        folder.crossings()?.into_iter().for_each(|crossing| crossings.add(crossing));
        sum = Some(match sum {
            None => one,
            Some(sum) => sum.with(one, path)?,
        });
    }
    let Some(mut sum) = sum else { return Err(RunFolderError::NoRun { path: options.out.clone() }.into()) };
    let manifest = &mut sum.manifest;
    manifest.merged_from = options.folders.iter().map(|path| path.display().to_string()).collect();
    manifest.configuration.insert("merged_from".to_owned(), manifest.merged_from.join(", "));
    manifest.workers.sort_by_key(|worker| worker.number);
    // A part is judged by little. All of them are the run.
    manifest.default_gates |= !manifest.workers.is_empty();
    if let Some(missing) = missing(&manifest.workers) {
        eprintln!("warning: {missing}");
        sum.ended = false;
    }
    sum.write(&crossings, options)
}

impl Sum {
    fn read(folder: &RunFolder) -> Result<Self, MergeError> {
        let (mut manifest, recording) = (folder.manifest()?, folder.recording()?);
        let is_heard = !manifest.workers.is_empty() && manifest.worker.is_none();
        if is_heard && manifest.merged_from.is_empty() {
            return Err(MergeError::Coordinator(folder.path().to_owned()));
        }
        if let Some(worker) = manifest.worker.take() {
            let (offered, lag_p99_ms) = (offered_of(&recording), lag_of(&recording));
            let folder = folder.path().display().to_string();
            manifest.workers.push(WorkerSummary { offered, lag_p99_ms, folder, ..worker });
        }
        let ended = folder.has_ended();
        let (mut counts, mut interrupted) = (Counts::default(), false);
        if ended {
            let (summary, _) = folder.read()?;
            counts = summary.ledger;
            interrupted = summary.exit_code == ExitCode::Interrupted;
        } else {
            eprintln!("warning: the run in {} did not come to its end", folder.path().display());
        }
        Ok(Self { manifest, recording, counts, ended, interrupted })
    }

    /// Both together.
    ///
    /// # Errors
    ///
    /// When they are not parts of one thing.
    fn with(mut self, other: Self, path: &Path) -> Result<Self, MergeError> {
        let (first, manifest) = (&mut self.manifest, other.manifest);
        let are_parts = !first.workers.is_empty() || !manifest.workers.is_empty();
        if are_parts && first.started_ms != manifest.started_ms {
            return Err(MergeError::OtherRun(path.to_owned()));
        }
        let is_there = |number: u32| first.workers.iter().any(|worker| worker.number == number);
        if manifest.workers.iter().any(|worker| is_there(worker.number)) {
            return Err(MergeError::SameWorker(path.to_owned()));
        }
        same_cohorts(first, &manifest, path)?;
        if let (Some(cohorts), Some(others)) = (&mut first.cohorts, &manifest.cohorts) {
            cohorts.add(others);
        }
        first.workers.extend(manifest.workers);
        first.existing_users += manifest.existing_users;
        first.peak.planned_sign_ups_per_s += manifest.peak.planned_sign_ups_per_s;
        first.planned_s = first.planned_s.max(manifest.planned_s);
        self.recording.merge(&other.recording);
        self.counts.add(&other.counts);
        self.ended &= other.ended;
        self.interrupted |= other.interrupted;
        Ok(self)
    }

    fn write(
        self,
        crossings: &Crossings,
        options: &MergeOptions,
    ) -> Result<(RunFolder, ExitCode), MergeError> {
        let Self { manifest, recording, mut counts, ended, interrupted } = self;
        // What two of them saw of one message; runs that did not know of each other have none.
        counts.add(&crossings.counts(|_| false));
        let withheld = withheld(&manifest, crossings);
        let name = format!("{}-merged", manifest.profile);
        let folder = RunFolder::create(&options.out, SystemClock.now(), &name)?;
        folder.write_manifest(&manifest)?;
        folder.write_recording(&recording, Timestamp::from_millis(manifest.started_ms))?;
        let how = match ended {
            true => Ended::Whole(Box::new(Whole { counts, withheld, ..Whole::default() })),
            false => Ended::Killed,
        };
        let gate = |error| RunFolderError::Gate { path: folder.path().to_owned(), error: Box::new(error) };
        let summary = retold::summary(&manifest, &recording, &how).map_err(gate)?;
        folder.write_outputs(&summary, &recording.into_rows())?;
        let code = if ended && !interrupted { ExitCode::Pass } else { ExitCode::Partial };
        Ok((folder, code))
    }
}

/// What cohorts did not take of messages that went from one worker's people to another's.
fn withheld(manifest: &Manifest, crossings: &Crossings) -> BTreeMap<Cohort, u64> {
    let members = manifest.cohorts.as_ref().and_then(|cohorts| cohorts.members(manifest.seed));
    let Some(members) = members else { return BTreeMap::new() };
    let mut withheld = BTreeMap::new();
    for (receiver, messages) in crossings.withheld() {
        *withheld.entry(members.of(receiver)).or_default() += messages;
    }
    withheld
}

/// Whether both had the same cohorts, and did the same with them.
fn same_cohorts(first: &Manifest, other: &Manifest, path: &Path) -> Result<(), MergeError> {
    let shares = |asked: &CohortsAsked| asked.shares.parse::<Shares>().ok();
    let same = match (&first.cohorts, &other.cohorts) {
        (None, None) => told(first) == told(other),
        (Some(one), Some(two)) => {
            let same = |(one, two): (Shares, Shares)| one.are_those_of(&two);
            // What this version does not understand is the same when it is written the same.
            shares(one).zip(shares(two)).map_or(one.shares == two.shares, same)
                && first.silent == other.silent
        }
        _ => false,
    };
    let words = |manifest: &Manifest| told(manifest).unwrap_or_else(|| "of an unknown kind".to_owned());
    match same {
        true => Ok(()),
        false => {
            let (first, other) = (words(first), words(other));
            Err(MergeError::OtherCohorts { path: path.to_owned(), first, other })
        }
    }
}

fn told(manifest: &Manifest) -> Option<String> {
    let text = manifest.configuration.get("cohorts")?;
    Some(match &manifest.cohorts {
        None if text != ALL_POLITE => format!("{text} (kept by a version that kept no figures of them)"),
        _ => text.clone(),
    })
}

/// What there is to say when these are not all workers of a run.
fn missing(workers: &[WorkerSummary]) -> Option<String> {
    let parts: Vec<(u64, u64)> = workers.iter().filter_map(|worker| share(&worker.share)).collect();
    let (of, there) = (parts.first()?.1, parts.iter().map(|part| part.0).sum::<u64>());
    (there < of).then(|| {
        format!(
            "these workers played {there} of {of} parts of the run; without the others nothing can be said about messages to and from their people"
        )
    })
}

/// As a [`Part`](crate::workers::Part) is shown.
fn share(text: &str) -> Option<(u64, u64)> {
    let (slots, of) = text.split_once('/')?;
    Some((slots.parse().ok()?, of.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use crate::ledger::Conversation;
    use crate::report::example;
    use crate::summary::Summary;
    use crate::timeline::{CohortRow, Row};
    use crate::workers::{Crossing, Seen};

    const STARTED: Timestamp = Timestamp::from_millis(1_610_722_800_000);
    const EXISTING: u32 = 20;
    const SHARES: &str = "never-acks=25%,hot-loop=25%";

    struct Made {
        root: tempfile::TempDir,
    }

    impl Made {
        fn new() -> Self {
            Self { root: tempfile::tempdir().unwrap() }
        }

        /// A run that came to its end, with what its cohorts asked for in one second.
        fn run(&self, name: &str, manifest: &Manifest, asked: &[(&str, CohortRow)]) -> PathBuf {
            let folder = RunFolder::create(self.root.path(), STARTED, name).unwrap();
            let (mut summary, mut rows) = example::run();
            let cohorts = asked.iter().map(|(cohort, asked)| ((*cohort).to_owned(), *asked)).collect();
            rows.push(Row { second: 80, phase: "settling".to_owned(), cohorts, ..Row::default() });
            let journal = Journal::open(folder.path(), STARTED).unwrap();
            journal.seconds(rows.clone(), BTreeMap::new());
            journal.finish().unwrap();
            summary.ledger = Counts { sent: 10, acked: 10, delivered: 10, ..Counts::default() };
            folder.write_manifest(manifest).unwrap();
            folder.write_outputs(&summary, &rows).unwrap();
            folder.path().to_owned()
        }

        fn merged(&self, folders: &[&PathBuf]) -> Result<(Summary, Manifest, ExitCode), MergeError> {
            let folders = folders.iter().map(|path| (*path).clone()).collect();
            let (folder, code) = merged(&MergeOptions { folders, out: self.root.path().join("merged") })?;
            Ok((folder.read()?.0, folder.manifest()?, code))
        }
    }

    fn manifest(shares: Option<&str>, worker: Option<(u32, &str)>) -> Manifest {
        let cohorts = shares.map(|text| {
            let people = BTreeMap::from([("polite".to_owned(), 5), ("hot-loop".to_owned(), 3)]);
            CohortsAsked { shares: text.to_owned(), existing: EXISTING, people }
        });
        let mut manifest = Manifest { cohorts, ..example::manifest() };
        manifest.configuration.insert("cohorts".to_owned(), shares.unwrap_or(ALL_POLITE).to_owned());
        manifest.worker = worker.map(|(number, share)| WorkerSummary {
            number,
            share: share.to_owned(),
            ..WorkerSummary::default()
        });
        manifest
    }

    fn asked(wanted: u64, attempts: u64, withheld: u64) -> CohortRow {
        CohortRow { wanted, attempts, withheld }
    }

    #[test]
    fn cohorts_of_runs_beside_each_other_are_added_up() {
        let made = Made::new();
        let a = made.run(
            "a",
            &manifest(Some(SHARES), None),
            &[("hot-loop", asked(10, 40, 0)), ("polite", asked(50, 50, 0))],
        );
        // The same shares, written in another way.
        let other = manifest(Some("hot-loop=0.25, never_acks=25%"), None);
        let b = made.run("b", &other, &[("hot-loop", asked(5, 100, 2))]);
        let (summary, manifest, code) = made.merged(&[&a, &b]).unwrap();
        assert_eq!(code, ExitCode::Pass);
        let of = |name: &str| summary.cohorts.iter().find(|cohort| cohort.name == name).unwrap();
        let hot = of("hot-loop");
        assert_eq!((hot.people, hot.first_attempts, hot.attempts, hot.withheld), (6, 15, 140, 2));
        assert_eq!(of("polite").people, 10);
        // Twice what one has of the same curve.
        let sends = &summary.operations["existing_send"];
        assert!(of("polite").ok > 0 && of("polite").ok < sends.ok, "without the calm: {summary:?}");
        assert_eq!(manifest.cohorts.unwrap().people["hot-loop"], 6, "so that it may be merged again");
    }

    #[test]
    fn what_crossed_between_workers_and_was_not_taken_is_the_receivers_cohorts() {
        let made = Made::new();
        let [one, two] = [(1, "1/2"), (2, "1/2")].map(|worker| manifest(Some(SHARES), Some(worker)));
        let never = one.cohorts.as_ref().unwrap().members(one.seed).unwrap();
        let receiver = (0..EXISTING).find(|index| never.of(*index) == Cohort::NeverAcks).unwrap();
        let people = |manifest: &Manifest| {
            let mut manifest = manifest.clone();
            manifest.cohorts.as_mut().unwrap().people.insert("never-acks".to_owned(), 3);
            manifest
        };
        let a = made.run("a", &people(&one), &[("never-acks", asked(1, 1, 4))]);
        let b = made.run("b", &people(&two), &[("never-acks", asked(1, 1, 0))]);
        let conversation = Conversation { sender: 0, receiver, device: 1 };
        let line = Crossing { conversation, sequence: 0, seen: Seen::AckedWithheld }.line();
        std::fs::write(a.join(crate::run_folder::CROSSINGS), line).unwrap();
        let (summary, _, code) = made.merged(&[&a, &b]).unwrap();
        let never = summary.cohorts.iter().find(|cohort| cohort.name == "never-acks").unwrap();
        assert_eq!((never.people, never.withheld, code), (6, 5, ExitCode::Pass));
        assert_eq!(summary.ledger.withheld, 1, "its own ledgers have none");

        // One of them alone is not the run: what its people wrote to others would be lost.
        let three = made.run("c", &manifest(Some(SHARES), Some((3, "1/3"))), &[]);
        let four = made.run("d", &manifest(Some(SHARES), Some((4, "1/3"))), &[]);
        let (summary, _, code) = made.merged(&[&three, &four]).unwrap();
        assert_eq!((code, summary.exit_code), (ExitCode::Partial, ExitCode::Partial));
    }

    #[test]
    fn parts_that_do_not_agree_are_refused() {
        let made = Made::new();
        let a = made.run("a", &manifest(Some(SHARES), None), &[]);
        let error = |b: &PathBuf| made.merged(&[&a, b]).unwrap_err().to_string();
        let others = made.run("b", &manifest(Some("hot-loop=10%"), None), &[]);
        let text = error(&others);
        assert!(
            text.contains("hot-loop=10%") && text.contains(SHARES) && text.contains("same --cohorts"),
            "{text}"
        );
        let polite = made.run("c", &manifest(None, None), &[]);
        assert!(error(&polite).contains(ALL_POLITE), "{}", error(&polite));
        let silent = made.run("d", &Manifest { silent: true, ..manifest(Some(SHARES), None) }, &[]);
        assert!(matches!(made.merged(&[&a, &silent]), Err(MergeError::OtherCohorts { .. })));
        let mut old = manifest(Some(SHARES), None);
        old.cohorts = None;
        let old = made.run("e", &old, &[]);
        assert!(error(&old).contains("kept no figures of them"), "{}", error(&old));

        let part = |number, name: &str| made.run(name, &manifest(None, Some((number, "1/2"))), &[]);
        let (one, again) = (part(1, "f"), part(1, "g"));
        assert!(matches!(made.merged(&[&one, &again]), Err(MergeError::SameWorker(_))));
        let late = Manifest { started_ms: 1, ..manifest(None, Some((2, "1/2"))) };
        let late = made.run("h", &late, &[]);
        assert!(matches!(made.merged(&[&one, &late]), Err(MergeError::OtherRun(_))));
        let workers = vec![WorkerSummary::default(); 2];
        let heard = made.run("i", &Manifest { workers, ..manifest(None, None) }, &[]);
        assert!(matches!(made.merged(&[&one, &heard]), Err(MergeError::Coordinator(_))));
    }
}
