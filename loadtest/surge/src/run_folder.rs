//! The folder that keeps a run: `<root>/<utc time>-<profile>/`, and `<root>/latest` pointing at the newest one.
//!
//! `run.json` is written before the load, `timeseries.ndjson`, `latency.hlog` and `events.ndjson` grow while it goes on (see [`journal`]).
//! What follows from them is written when the run is over, and again by `surge report`: `summary.json`, `report.html`, `summary.md`, `junit.xml`,
//! `operations.csv` and `timeseries.csv`. Each of these appears whole or not at all: it is written under another name first.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use spillway_simulator::SuiteOutcome;
use spillway_simulator::autoscale::Comparison;
use spillway_types::Timestamp;

use crate::journal;
use crate::manifest::Manifest;
use crate::outputs::{csv, junit, markdown};
use crate::recording::Recording;
use crate::report;
use crate::retold;
use crate::room_million::RoomMillion;
use crate::stats::Latency;
use crate::summary::Summary;
use crate::timeline::Row;
use crate::utc;
use crate::workers::Crossing;

pub const SUMMARY: &str = "summary.json";
pub const TIMESERIES: &str = "timeseries.ndjson";
pub const REPORT: &str = "report.html";
pub const MANIFEST: &str = "run.json";
pub const HISTOGRAMS: &str = "latency.hlog";
pub const EVENTS: &str = "events.ndjson";
/// Of a worker: what it saw of messages between its people and others'.
pub const CROSSINGS: &str = "crossings.log";
pub const MARKDOWN: &str = "summary.md";
pub const JUNIT: &str = "junit.xml";
pub const OPERATIONS_CSV: &str = "operations.csv";
pub const TIMESERIES_CSV: &str = "timeseries.csv";
pub const LATEST: &str = "latest";

/// A name is tried with this many suffixes before two runs in one second are taken for something else.
const SAME_SECOND_MAX: u32 = 100;

#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    #[error("the run folder {} cannot be created", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("{} cannot be written: is the disk full, or the folder read-only?", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}, line {line}, is not what surge writes", path.display())]
    Malformed { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("{}, line {line}, is not an interval of an HdrHistogram log", path.display())]
    Interval { path: PathBuf, line: usize },
    #[error("{}, line {line}, is not a word of a worker about a message", path.display())]
    Crossing { path: PathBuf, line: usize },
    #[error(
        "the run in {} was played by several workers, and its coordinator was ended before it had written what it heard: `surge merge` with the \
         workers' folders tells all of it", path.display()
    )]
    OfWorkers { path: PathBuf },
    #[error("{} has no run: there is no {MANIFEST} in it", path.display())]
    NoRun { path: PathBuf },
    #[error("the run in {} was ended before anything was measured", path.display())]
    Empty { path: PathBuf },
    #[error("{} was written by version {found} of the format, and this surge reads up to {known}", path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("{} has a gate that is not understood: {error}", path.display())]
    Gate { path: PathBuf, error: Box<crate::gates::ParseError> },
    #[error("{} cannot be pointed at this run", path.display())]
    Latest { path: PathBuf, source: io::Error },
}

#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder of a run that starts now. Call it before the run, so that an unwritable place costs nothing.
    pub fn create(root: &Path, started: Timestamp, profile: &str) -> Result<Self, RunFolderError> {
        let name = format!("{}-{profile}", utc::compact(started));
        let create = |path: PathBuf, source| RunFolderError::Create { path, source };
        fs::create_dir_all(root).map_err(|error| create(root.to_owned(), error))?;
        for attempt in 1..=SAME_SECOND_MAX {
            let path = root.join(if attempt == 1 { name.clone() } else { format!("{name}-{attempt}") });
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < SAME_SECOND_MAX => {}
                Err(error) => return Err(create(path, error)),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// A folder that an earlier run left.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn report(&self) -> PathBuf {
        self.path.join(REPORT)
    }

    /// Keeps what a run was told, before it begins: with it a run that is killed can be told of.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<(), RunFolderError> {
        self.write_file(MANIFEST, |out| {
            serde_json::to_writer_pretty(&mut *out, manifest)?;
            out.write_all(b"\n")
        })
    }

    /// Writes all that follows from a run, and points `latest` at it.
    pub fn write(&self, summary: &Summary, rows: &[Row]) -> Result<(), RunFolderError> {
        self.write_outputs(summary, rows)?;
        self.point_latest()
    }

    /// The same of a run that is not the latest.
    pub fn write_outputs(&self, summary: &Summary, rows: &[Row]) -> Result<(), RunFolderError> {
        self.write_file(SUMMARY, |out| {
            serde_json::to_writer_pretty(&mut *out, summary)?;
            out.write_all(b"\n")
        })?;
        self.write_killed(summary, rows)
    }

    /// What follows from a run that was killed. Without `summary.json`, because only the end of a run writes that.
    pub fn write_killed(&self, summary: &Summary, rows: &[Row]) -> Result<(), RunFolderError> {
        self.write_file(MARKDOWN, |out| out.write_all(markdown::render(summary).as_bytes()))?;
        self.write_file(JUNIT, |out| out.write_all(junit::render(summary).as_bytes()))?;
        self.write_file(OPERATIONS_CSV, |out| csv::operations(summary, out))?;
        self.write_file(TIMESERIES_CSV, |out| csv::timeseries(rows, out))?;
        self.write_report(summary, rows)
    }

    /// Keeps rows, histograms and events that were not recorded here.
    pub fn write_recording(&self, recording: &Recording, started: Timestamp) -> Result<(), RunFolderError> {
        self.write_file(HISTOGRAMS, |out| {
            out.write_all(journal::legend(started).as_bytes())?;
            for (second, tag, sparse) in recording.histograms() {
                let mut latency = Latency::default();
                latency.add_sparse(sparse);
                out.write_all(journal::interval_line(second, tag, &latency).as_bytes())?;
            }
            Ok(())
        })?;
        self.write_file(EVENTS, |out| lines(out, recording.events()))?;
        self.write_file(TIMESERIES, |out| lines(out, recording.rows()))
    }

    pub fn write_report(&self, summary: &Summary, rows: &[Row]) -> Result<(), RunFolderError> {
        self.write_file(REPORT, |out| out.write_all(report::render(summary, rows).as_bytes()))
    }

    /// Keeps a simulation: its outcome and its page. `latest` stays at the last run against a service.
    pub fn write_simulation(&self, outcome: &SuiteOutcome) -> Result<(), RunFolderError> {
        self.write_file(SUMMARY, |out| {
            serde_json::to_writer(&mut *out, outcome)?;
            out.write_all(b"\n")
        })?;
        self.write_file(REPORT, |out| out.write_all(report::render_simulation(outcome).as_bytes()))
    }

    /// Keeps a comparison of autoscalers. It has no page: what it printed is all of it.
    pub(crate) fn write_autoscale(&self, comparison: &Comparison) -> Result<(), RunFolderError> {
        self.write_file(SUMMARY, |out| {
            serde_json::to_writer_pretty(&mut *out, comparison)?;
            out.write_all(b"\n")
        })
    }

    /// Keeps a waiting room in virtual time: what came of it and its page. `latest` stays where it is here, too.
    pub fn write_room(&self, outcome: &RoomMillion) -> Result<(), RunFolderError> {
        self.write_file(SUMMARY, |out| {
            serde_json::to_writer_pretty(&mut *out, outcome)?;
            out.write_all(b"\n")
        })?;
        self.write_file(REPORT, |out| out.write_all(report::render_room(outcome).as_bytes()))
    }

    /// What the run was told.
    ///
    /// # Errors
    ///
    /// When there is none, or it is not what this version writes.
    pub fn manifest(&self) -> Result<Manifest, RunFolderError> {
        let path = self.path.join(MANIFEST);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RunFolderError::NoRun { path: self.path.clone() });
            }
            Err(source) => return Err(RunFolderError::Read { path, source }),
        };
        let manifest: Manifest = self.parse(MANIFEST, 1, &text)?;
        self.check_version(manifest.schema_version)?;
        Ok(manifest)
    }

    pub fn recording(&self) -> Result<Recording, RunFolderError> {
        Recording::read(&self.path)
    }

    /// What a worker saw of messages between its people and others'. Nothing, where the run had no others.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or a complete line of it is not what surge writes.
    pub fn crossings(&self) -> Result<Vec<Crossing>, RunFolderError> {
        let path = self.path.join(CROSSINGS);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(RunFolderError::Read { path, source }),
        };
        // Behind the last line break is what was being written when the worker was killed.
        let complete = text.rfind('\n').and_then(|at| text.get(..at)).unwrap_or_default();
        let wrong = |line: usize| RunFolderError::Crossing { path: path.clone(), line };
        complete
            .lines()
            .enumerate()
            .map(|(at, line)| Crossing::parse(line).ok_or_else(|| wrong(at + 1)))
            .collect()
    }

    /// Whether the run came to its end.
    pub fn has_ended(&self) -> bool {
        self.path.join(SUMMARY).exists()
    }

    /// Reads a run back. One that was killed is told of as far as it came: up to its last complete second.
    ///
    /// # Errors
    ///
    /// When there is no run, or something in it is not what surge writes.
    pub fn read(&self) -> Result<(Summary, Vec<Row>), RunFolderError> {
        if !self.has_ended() {
            let manifest = self.manifest()?;
            if !manifest.workers.is_empty() && !self.path.join(TIMESERIES).exists() {
                return Err(RunFolderError::OfWorkers { path: self.path.clone() });
            }
            let recording = self.recording()?;
            if recording.last_second().is_none() {
                return Err(RunFolderError::Empty { path: self.path.clone() });
            }
            let summary =
                retold::summary(&manifest, &recording, &retold::Ended::Killed).map_err(|error| {
                    RunFolderError::Gate { path: self.path.join(MANIFEST), error: Box::new(error) }
                })?;
            return Ok((summary, recording.into_rows()));
        }
        let path = self.path.join(SUMMARY);
        let text = fs::read_to_string(&path).map_err(|source| RunFolderError::Read { path, source })?;
        let summary: Summary = self.parse(SUMMARY, 1, &text)?;
        self.check_version(summary.schema_version)?;
        Ok((summary, self.recording()?.into_rows()))
    }

    fn check_version(&self, found: u32) -> Result<(), RunFolderError> {
        let known = crate::summary::SCHEMA_VERSION;
        if found > known {
            return Err(RunFolderError::Newer { path: self.path.clone(), found, known });
        }
        Ok(())
    }

    fn parse<T: DeserializeOwned>(
        &self,
        name: &str,
        first_line: usize,
        text: &str,
    ) -> Result<T, RunFolderError> {
        serde_json::from_str(text).map_err(|source| RunFolderError::Malformed {
            path: self.path.join(name),
            line: first_line + source.line().saturating_sub(1),
            source,
        })
    }

    fn write_file(
        &self,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), RunFolderError> {
        let path = self.path.join(name);
        let partial = self.path.join(format!("{name}.partial"));
        let written = File::create(&partial).map(BufWriter::new).and_then(|mut out| {
            write(&mut out)?;
            out.flush()?;
            fs::rename(&partial, &path)
        });
        written.map_err(|source| RunFolderError::Write { path, source })
    }

    /// Replaces the link in one step, so that a reader finds the old run or this one.
    fn point_latest(&self) -> Result<(), RunFolderError> {
        let root = self.path.parent().unwrap_or(Path::new("."));
        let name = self.path.file_name().unwrap_or_default();
        let (latest, partial) = (root.join(LATEST), root.join(format!("{LATEST}.{}", std::process::id())));
        let pointed = match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => std::os::unix::fs::symlink(name, &partial).and_then(|()| fs::rename(&partial, &latest)),
        };
        pointed.map_err(|source| RunFolderError::Latest { path: latest, source })
    }
}

fn lines<T: serde::Serialize>(out: &mut impl Write, values: impl IntoIterator<Item = T>) -> io::Result<()> {
    for value in values {
        serde_json::to_writer(&mut *out, &value)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use crate::report::example;

    const STARTED: Timestamp = Timestamp::from_millis(1_610_722_800_000);

    fn keep_rows(folder: &RunFolder, rows: &[Row]) {
        let journal = Journal::open(folder.path(), STARTED).unwrap();
        journal.seconds(rows.to_vec(), Default::default());
        journal.finish().unwrap();
    }

    #[test]
    fn a_run_is_kept_and_read_back_and_latest_follows() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("surge");
        let (summary, rows) = example::run();
        let mut names = Vec::new();
        for _ in 0..2 {
            let folder = RunFolder::create(&root, STARTED, "signal-2021").unwrap();
            keep_rows(&folder, &rows);
            folder.write(&summary, &rows).unwrap();
            assert_eq!(
                fs::canonicalize(root.join(LATEST)).unwrap(),
                fs::canonicalize(folder.path()).unwrap()
            );
            names.push(folder.path().file_name().unwrap().to_owned());
        }
        assert_eq!(names, ["20210115T150000Z-signal-2021", "20210115T150000Z-signal-2021-2"]);
        let (summary_read, rows_read) = RunFolder::open(root.join(LATEST)).read().unwrap();
        assert!(summary_read == summary, "{summary_read:?}");
        for (row_read, row) in rows_read.iter().zip(&rows) {
            assert_eq!(row_read, row);
        }
        assert_eq!(rows_read.len(), rows.len());
        let left: Vec<_> =
            fs::read_dir(root.join(LATEST)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let partial = left.iter().filter(|name| name.to_string_lossy().ends_with(".partial"));
        assert_eq!((left.len(), partial.count()), (9, 0), "{left:?}");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("surge");
        fs::write(&file, "in the way").unwrap();
        let error = RunFolder::create(&file, STARTED, "steady").unwrap_err();
        assert_eq!(error.to_string(), format!("the run folder {} cannot be created", file.display()));

        let (summary, rows) = example::run();
        let error = RunFolder::open(root.path().join("gone")).write(&summary, &rows).unwrap_err();
        assert!(error.to_string().contains("gone/summary.json cannot be written"), "{error}");
    }

    #[test]
    fn a_damaged_row_is_named_by_line() {
        let root = tempfile::tempdir().unwrap();
        let (summary, rows) = example::run();
        let folder = RunFolder::create(root.path(), STARTED, "steady").unwrap();
        keep_rows(&folder, &rows);
        folder.write(&summary, &rows).unwrap();
        let path = folder.path().join(TIMESERIES);
        let text = fs::read_to_string(&path).unwrap().replacen("{\"second\":2", "{\"second\":x", 1);
        fs::write(&path, text).unwrap();
        assert!(folder.read().unwrap_err().to_string().ends_with("line 3, is not what surge writes"));
    }

    #[test]
    fn a_folder_without_a_run_and_one_from_the_future_say_so() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::open(root.path());
        assert!(folder.read().unwrap_err().to_string().contains("there is no run.json in it"));
        let (mut summary, rows) = example::run();
        summary.schema_version += 1;
        folder.write_outputs(&summary, &rows).unwrap();
        assert!(folder.read().unwrap_err().to_string().contains("this surge reads up to"));
    }

    #[test]
    fn a_coordinator_that_was_killed_leaves_word_of_where_the_run_is() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(root.path(), STARTED, "signal-2021").unwrap();
        let workers = vec![crate::summary::WorkerSummary::default(); 2];
        folder.write_manifest(&Manifest { workers, ..example::manifest() }).unwrap();
        assert!(folder.read().unwrap_err().to_string().contains("surge merge"));
    }

    #[test]
    fn a_run_that_was_killed_has_its_report() {
        let root = tempfile::tempdir().unwrap();
        let (_, rows) = example::run();
        let folder = RunFolder::create(root.path(), STARTED, "signal-2021").unwrap();
        folder.write_manifest(&example::manifest()).unwrap();
        assert!(matches!(folder.read(), Err(RunFolderError::Read { .. })), "nothing was recorded");
        keep_rows(&folder, &rows[..30]);
        let (summary, read) = folder.read().unwrap();
        assert_eq!((read.len(), summary.verdict), (30, crate::slo::Verdict::Interrupted));
        assert!(summary.headline.contains("30 s"), "{}", summary.headline);
        assert_eq!(summary.operations["existing_send"].offered, 30 * 400);
        folder.write_outputs(&summary, &read).unwrap();
        assert!(fs::read_to_string(folder.report()).unwrap().contains("INTERRUPTED"));
    }
}
