//! The folder that keeps a run: `<root>/<utc time>-<profile>/` with `summary.json`, `timeseries.ndjson` and
//! `report.html`, and `<root>/latest` pointing at the newest one.
//!
//! Each file appears whole or not at all: it is written under another name first.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use spillway_simulator::SuiteOutcome;
use spillway_simulator::autoscale::Comparison;
use spillway_types::Timestamp;

use crate::report;
use crate::room_million::RoomMillion;
use crate::summary::Summary;
use crate::timeline::Row;
use crate::utc;

pub const SUMMARY: &str = "summary.json";
pub const TIMESERIES: &str = "timeseries.ndjson";
pub const REPORT: &str = "report.html";
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

    /// Writes all three files and points `latest` at them.
    pub fn write(&self, summary: &Summary, rows: &[Row]) -> Result<(), RunFolderError> {
        self.write_file(TIMESERIES, |out| {
            for row in rows {
                serde_json::to_writer(&mut *out, row)?;
                out.write_all(b"\n")?;
            }
            Ok(())
        })?;
        self.write_file(SUMMARY, |out| {
            serde_json::to_writer_pretty(&mut *out, summary)?;
            out.write_all(b"\n")
        })?;
        self.write_report(summary, rows)?;
        self.point_latest()
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

    /// Reads a run back, to render its report again.
    pub fn read(&self) -> Result<(Summary, Vec<Row>), RunFolderError> {
        let text = |name| {
            let path = self.path.join(name);
            fs::read_to_string(&path).map_err(|source| RunFolderError::Read { path, source })
        };
        let summary = self.parse(SUMMARY, 1, &text(SUMMARY)?)?;
        let rows = text(TIMESERIES)?;
        let rows = rows.lines().enumerate().map(|(index, line)| self.parse(TIMESERIES, index + 1, line));
        Ok((summary, rows.collect::<Result<_, _>>()?))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    const STARTED: Timestamp = Timestamp::from_millis(1_610_722_800_000);

    #[test]
    fn a_run_is_kept_and_read_back_and_latest_follows() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("surge");
        let (summary, rows) = example::run();
        let mut names = Vec::new();
        for _ in 0..2 {
            let folder = RunFolder::create(&root, STARTED, "signal-2021").unwrap();
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
        assert_eq!(left.len(), 3, "{left:?}");
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
        assert!(error.to_string().contains("gone/timeseries.ndjson cannot be written"), "{error}");
    }

    #[test]
    fn a_damaged_row_is_named_by_line() {
        let root = tempfile::tempdir().unwrap();
        let (summary, rows) = example::run();
        let folder = RunFolder::create(root.path(), STARTED, "steady").unwrap();
        folder.write(&summary, &rows).unwrap();
        let path = folder.path().join(TIMESERIES);
        let text = fs::read_to_string(&path).unwrap().replacen("{\"second\":2", "{\"second\":x", 1);
        fs::write(&path, text).unwrap();
        assert!(folder.read().unwrap_err().to_string().ends_with("line 3, is not what surge writes"));
    }
}
