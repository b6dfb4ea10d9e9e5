//! A run as its folder has it: rows and histograms of every second, read back for reports, comparisons and mergers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::events::Event;
use crate::journal::KINDS;
use crate::run_folder::{EVENTS, HISTOGRAMS, RunFolderError, TIMESERIES};
use crate::stats::{Latency, Sparse, Totals};
use crate::summary::OperationSummary;
use crate::timeline::{OperationRow, Row};

/// What was recorded second by second.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    rows: BTreeMap<u64, Row>,
    /// By second and tag, such as `existing_send.response`.
    histograms: BTreeMap<(u64, String), Sparse>,
    events: Vec<Event>,
}

/// An operation's figures over some seconds, with their histograms.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub offered: u64,
    pub ok: u64,
    pub refused: u64,
    pub failed: u64,
    pub waiting: u64,
    pub reasons: BTreeMap<String, u64>,
    pub response: Latency,
    pub service: Latency,
    pub lag: Latency,
}

impl Figures {
    pub fn add_row(&mut self, row: &OperationRow) {
        self.offered += row.offered;
        self.ok += row.ok;
        self.refused += row.refused;
        self.failed += row.failed;
        self.waiting += row.waiting;
        for (reason, count) in &row.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
    }

    pub fn add_totals(&mut self, totals: &Totals) {
        self.offered += totals.offered;
        self.ok += totals.ok;
        self.refused += totals.refused;
        self.failed += totals.failed;
        self.waiting += totals.waiting;
        for (reason, count) in &totals.reasons {
            *self.reasons.entry((*reason).to_owned()).or_default() += count;
        }
        self.response.add(&totals.response);
        self.service.add(&totals.service);
        self.lag.add(&totals.lag);
    }

    /// Successes of those that ended, were not refused and do not still wait; `None` when there were none.
    pub fn success_ratio(&self) -> Option<f64> {
        let judged = self.ok + self.failed;
        (judged > 0).then(|| self.ok as f64 / judged as f64)
    }

    /// Successes of those that ended and do not still wait, refusals among them; `None` when there were none.
    pub fn served_ratio(&self) -> Option<f64> {
        let judged = self.ok + self.failed + self.refused;
        (judged > 0).then(|| self.ok as f64 / judged as f64)
    }
}

impl From<&Figures> for OperationSummary {
    fn from(figures: &Figures) -> Self {
        Self {
            offered: figures.offered,
            ok: figures.ok,
            refused: figures.refused,
            failed: figures.failed,
            waiting: figures.waiting,
            reasons: figures.reasons.clone(),
            response_ms: (&figures.response).into(),
            service_ms: (&figures.service).into(),
            lag_ms: (&figures.lag).into(),
        }
    }
}

impl Recording {
    /// Reads what a run has left in its folder. The last line of a file may be half of one, because the run was killed in the middle of it; it is
    /// left out, and so are histograms of a second that has no row yet.
    ///
    /// # Errors
    ///
    /// When a file is missing, or a line before the last is not what surge writes.
    pub fn read(folder: &Path) -> Result<Self, RunFolderError> {
        let mut recording = Self::default();
        for row in json_lines::<Row>(&folder.join(TIMESERIES), true)? {
            recording.add_row(row);
        }
        // A folder of a version that wrote none has rows and no histograms.
        let last = recording.rows.keys().next_back().copied();
        let path = folder.join(HISTOGRAMS);
        for (number, line) in lines(&path, false)?.into_iter().enumerate() {
            if line.starts_with(['#', '"']) || line.is_empty() {
                continue;
            }
            let (second, tag, latency) = interval(&line)
                .ok_or_else(|| RunFolderError::Interval { path: path.clone(), line: number + 1 })?;
            if last.is_some_and(|last| second <= last) {
                recording.add_histogram(second, &tag, &latency);
            }
        }
        recording.events = json_lines(&folder.join(EVENTS), false)?;
        Ok(recording)
    }

    pub fn add_row(&mut self, row: Row) {
        self.rows.entry(row.second).or_insert_with(|| Row { second: row.second, ..Row::default() }).add(row);
    }

    pub fn add_histogram(&mut self, second: u64, tag: &str, latency: &Latency) {
        let kept = self.histograms.entry((second, tag.to_owned())).or_default();
        if kept.buckets().is_empty() {
            *kept = latency.to_sparse();
        } else {
            let mut both = latency.clone();
            both.add_sparse(kept);
            *kept = both.to_sparse();
        }
    }

    /// Adds a run that took place beside this one, second by second: nothing is averaged, so percentiles of the whole are
    /// those of all its samples. Samples of the server and of the host are kept of the first run that has them.
    pub fn merge(&mut self, other: &Recording) {
        for (second, row) in &other.rows {
            let kept = self.rows.entry(*second).or_insert_with(|| Row { second: *second, ..Row::default() });
            let before = kept.clone();
            kept.add(row.clone());
            kept.planned_sign_ups = before.planned_sign_ups + row.planned_sign_ups;
            kept.codes = before.codes + row.codes;
            kept.acked = before.acked + row.acked;
            kept.delivered = before.delivered + row.delivered;
            kept.server = before.server.or(row.server);
            kept.observed = before.observed.or(row.observed);
            kept.host = before.host.or(row.host);
            kept.room = match (before.room, row.room) {
                (Some(one), Some(other)) => Some(one.beside(other)),
                (one, other) => one.or(other),
            };
            kept.generator = before.generator.or(row.generator);
        }
        for ((second, tag), sparse) in &other.histograms {
            let mut latency = Latency::default();
            latency.add_sparse(sparse);
            self.add_histogram(*second, tag, &latency);
        }
        self.events.extend(other.events.iter().cloned());
        self.events.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        self.refresh_percentiles();
    }

    /// Percentiles in rows, from the histograms.
    fn refresh_percentiles(&mut self) {
        for (second, row) in &mut self.rows {
            for (operation, figures) in &mut row.operations {
                let of = |kind: &str| {
                    let sparse = self.histograms.get(&(*second, format!("{operation}.{kind}")))?;
                    let mut latency = Latency::default();
                    latency.add_sparse(sparse);
                    Some(latency)
                };
                if let Some(response) = of("response") {
                    figures.response_p50_ms = response.quantile_ms(0.5);
                    figures.response_p99_ms = response.quantile_ms(0.99);
                    figures.response_p999_ms = response.quantile_ms(0.999);
                }
                figures.service_p99_ms =
                    of("service").and_then(|l| l.quantile_ms(0.99)).or(figures.service_p99_ms);
                figures.lag_p99_ms = of("lag").and_then(|l| l.quantile_ms(0.99)).or(figures.lag_p99_ms);
            }
        }
    }

    pub fn rows(&self) -> impl ExactSizeIterator<Item = &Row> {
        self.rows.values()
    }

    pub fn into_rows(self) -> Vec<Row> {
        self.rows.into_values().collect()
    }

    pub fn events(&self) -> &[Event] {
        &self.events
    }

    pub fn row(&self, second: u64) -> Option<&Row> {
        self.rows.get(&second)
    }

    pub fn add_events(&mut self, events: Vec<Event>) {
        self.events.extend(events);
        self.events.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    }

    /// The last second that is complete.
    pub fn last_second(&self) -> Option<u64> {
        self.rows.keys().next_back().copied()
    }

    pub fn operations(&self) -> BTreeSet<String> {
        self.rows.values().flat_map(|row| row.operations.keys().cloned()).collect()
    }

    /// What one operation took in one second.
    pub fn histogram(&self, second: u64, tag: &str) -> Option<&Sparse> {
        self.histograms.get(&(second, tag.to_owned()))
    }

    pub fn histograms(&self) -> impl Iterator<Item = (u64, &str, &Sparse)> {
        self.histograms.iter().map(|((second, tag), sparse)| (*second, tag.as_str(), sparse))
    }

    /// An operation's figures over the rows for which `of` holds. Answers count in the second in which they came.
    pub fn figures(&self, operation: &str, of: impl Fn(&Row) -> bool) -> Figures {
        let mut figures = Figures::default();
        let tags = KINDS.map(|kind| format!("{operation}.{kind}"));
        for row in self.rows.values().filter(|row| of(row)) {
            if let Some(seen) = row.operations.get(operation) {
                figures.add_row(seen);
            }
            let kinds = [&mut figures.response, &mut figures.service, &mut figures.lag];
            for (tag, latency) in tags.iter().zip(kinds) {
                if let Some(sparse) = self.histogram(row.second, tag) {
                    latency.add_sparse(sparse);
                }
            }
        }
        figures
    }
}

/// The complete lines of a file. Whatever follows the last line break was being written when the run was killed.
fn lines(path: &Path, needed: bool) -> Result<Vec<String>, RunFolderError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !needed => return Ok(Vec::new()),
        Err(source) => return Err(RunFolderError::Read { path: path.to_owned(), source }),
    };
    let complete = text.rfind('\n').map_or(0, |at| at + 1);
    Ok(text.get(..complete).unwrap_or_default().lines().map(str::to_owned).collect())
}

fn json_lines<T: DeserializeOwned>(path: &Path, needed: bool) -> Result<Vec<T>, RunFolderError> {
    let parse = |(index, line): (usize, String)| {
        serde_json::from_str(&line).map_err(|source| RunFolderError::Malformed {
            path: path.to_owned(),
            line: index + 1,
            source,
        })
    };
    lines(path, needed)?.into_iter().enumerate().map(parse).collect()
}

/// A second, a tag, and what it took.
pub(crate) type Interval = (u64, String, Latency);

/// Rows and histograms as their files have them. `None`: something is not what surge writes.
pub(crate) fn parse_lines(rows: &str, histograms: &str) -> Option<(Vec<Row>, Vec<Interval>)> {
    let rows = rows.lines().map(|line| serde_json::from_str(line).ok()).collect::<Option<Vec<_>>>()?;
    let histograms = histograms.lines().map(interval).collect::<Option<Vec<_>>>()?;
    Some((rows, histograms))
}

/// `Tag=send.response,3.000,1.000,80.000,HISTFAAA…`
fn interval(line: &str) -> Option<Interval> {
    let mut fields = line.strip_prefix("Tag=")?.splitn(5, ',');
    let tag = fields.next()?.to_owned();
    let second = fields.next()?.parse::<f64>().ok().filter(|second| *second >= 0.0)?;
    let latency = Latency::decode(fields.nth(2)?)?;
    Some((second as u64, tag, latency))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use spillway_types::Timestamp;

    use super::*;
    use crate::journal::Journal;
    use crate::stats::{Operation, Second};

    const SEND: Operation = Operation("send");

    fn second(micros: &[u64]) -> Second {
        let mut second =
            Second { offered: micros.len() as u64, ok: micros.len() as u64, ..Second::default() };
        for micros in micros {
            second.response.record(Duration::from_micros(*micros));
            second.service.record(Duration::from_micros(micros / 2));
            second.lag.record(Duration::from_micros(1));
        }
        second
    }

    fn write(folder: &Path, seconds: &[Vec<u64>]) {
        let journal = Journal::open(folder, Timestamp::from_millis(0)).unwrap();
        for (at, micros) in seconds.iter().enumerate() {
            let figures = second(micros);
            let mut row = Row { second: at as u64, phase: "surge".to_owned(), ..Row::default() };
            row.operations.insert(SEND.0.to_owned(), (&figures).into());
            journal.seconds(vec![row], [((at as u64, SEND), figures)].into());
        }
        journal.finish().unwrap();
    }

    #[test]
    fn a_run_that_was_killed_is_read_as_far_as_it_came() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[vec![1_000, 2_000], vec![3_000], vec![4_000]]);
        let (rows, log) = (folder.path().join(TIMESERIES), folder.path().join(HISTOGRAMS));
        // Killed while it wrote the last row: its histograms are there already.
        let text = fs::read_to_string(&rows).unwrap();
        let cut = text.trim_end().rfind('\n').unwrap() + 20;
        fs::write(&rows, text.get(..cut).unwrap()).unwrap();
        let recording = Recording::read(folder.path()).unwrap();
        assert_eq!((recording.last_second(), recording.rows().len()), (Some(1), 2));
        let figures = recording.figures("send", |_| true);
        assert_eq!((figures.offered, figures.response.count()), (3, 3));
        assert!((figures.response.max_ms().unwrap() - 3.0).abs() < 0.01);

        // Killed while it wrote histograms.
        write(folder.path(), &[]);
        let text = fs::read_to_string(&log).unwrap();
        fs::write(&log, text.get(..text.len() - 10).unwrap()).unwrap();
        assert_eq!(Recording::read(folder.path()).unwrap().last_second(), Some(1));
        // Damage in the middle is not the end of a run.
        let damaged = text.replacen("Tag=send.response,0.000", "Tag=send.response,x", 1);
        fs::write(&log, damaged).unwrap();
        let error = Recording::read(folder.path()).unwrap_err();
        assert!(error.to_string().contains("latency.hlog, line 6"), "{error}");
    }

    proptest! {
        #[test]
        fn merging_loses_nothing(
            a in prop::collection::vec(prop::collection::vec(1u64..9_000_000, 0..20), 1..5),
            b in prop::collection::vec(prop::collection::vec(1u64..9_000_000, 0..20), 1..5),
        ) {
            let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
            write(folders[0].path(), &a);
            write(folders[1].path(), &b);
            let together: Vec<Vec<u64>> = (0..a.len().max(b.len()))
                .map(|at| [a.get(at), b.get(at)].into_iter().flatten().flatten().copied().collect())
                .collect();
            write(folders[2].path(), &together);
            let [mut merged, other, whole] = folders.each_ref().map(|folder| Recording::read(folder.path()).unwrap());
            merged.merge(&other);
            prop_assert!(merged.histograms().eq(whole.histograms()));
            prop_assert!(merged.rows().eq(whole.rows()));
        }
    }
}
