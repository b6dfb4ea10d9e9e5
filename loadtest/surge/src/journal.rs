//! What is written while a run goes on, so that a run that is killed has left what it saw.
//!
//! Three files only ever grow: `timeseries.ndjson` has a line for each second, and another one for what was late;
//! `latency.hlog` is an HdrHistogram interval log with the histograms of each operation in each second, which stock tools
//! read; `events.ndjson` has what was done to the service and when. Of a second, the histograms are written before its row, so a second
//! that has a row is complete.
//!
//! A worker of a run with several has a fourth, `crossings.log`: what it saw of messages between its people and others'. What it has written it also
//! tells, in the same words.
//!
//! A thread of its own writes, because encoding a second takes milliseconds by which arrivals would be late.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use spillway_types::Timestamp;

use crate::events::Event;
use crate::run_folder::{CROSSINGS, EVENTS, HISTOGRAMS, RunFolderError, TIMESERIES};
use crate::stats::{Latency, Operation, Second};
use crate::timeline::Row;
use crate::utc;
use crate::workers::{Crossing, Progressed, Spool};

/// Seconds that may wait for the disk. A disk that is slower than this makes the run wait, which shows as lag.
const QUEUE_MAX: usize = 64;

/// The kinds of histograms, as the second half of a tag.
pub const KINDS: [&str; 3] = ["response", "service", "lag"];

#[derive(Debug)]
enum Entry {
    Seconds { rows: Vec<Row>, figures: BTreeMap<(u64, Operation), Second>, told: Option<Told> },
    Event(Box<Event>),
}

/// What a worker has to say beside its figures.
#[derive(Debug)]
pub struct Told {
    pub crossings: Vec<Crossing>,
    pub progressed: Progressed,
}

/// The files of a run that is going on.
#[derive(Debug)]
pub struct Journal {
    queue: Option<SyncSender<Entry>>,
    writer: Option<JoinHandle<Result<(), RunFolderError>>>,
}

impl Journal {
    /// Opens the files of a run in `folder`, behind what is in them.
    ///
    /// # Errors
    ///
    /// When they cannot be written, or there is no thread.
    pub fn open(folder: &Path, started: Timestamp) -> Result<Self, RunFolderError> {
        Self::telling(folder, started, None)
    }

    /// The same, of a worker: what is written is put into the spool, too.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn telling(
        folder: &Path,
        started: Timestamp,
        spool: Option<Arc<Spool>>,
    ) -> Result<Self, RunFolderError> {
        let mut files = Files::open(folder, started, spool)?;
        let (queue, entries) = sync_channel(QUEUE_MAX);
        let written = std::thread::Builder::new().name("surge-journal".to_owned()).spawn(move || {
            for entry in entries {
                files.write(entry)?;
            }
            Ok(())
        });
        let writer =
            written.map_err(|source| RunFolderError::Write { path: folder.join(TIMESERIES), source })?;
        Ok(Self { queue: Some(queue), writer: Some(writer) })
    }

    /// Keeps seconds that are over. What cannot be written is told of by [`finish`](Self::finish).
    pub fn seconds(&self, rows: Vec<Row>, figures: BTreeMap<(u64, Operation), Second>) {
        self.send(Entry::Seconds { rows, figures, told: None });
    }

    /// The same, of a worker.
    pub fn seconds_told(&self, rows: Vec<Row>, figures: BTreeMap<(u64, Operation), Second>, told: Told) {
        self.send(Entry::Seconds { rows, figures, told: Some(told) });
    }

    pub fn event(&self, event: Event) {
        self.send(Entry::Event(Box::new(event)));
    }

    fn send(&self, entry: Entry) {
        if let Some(queue) = &self.queue {
            // The writer ended at an error, which `finish` returns.
            queue.send(entry).ok();
        }
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    ///
    /// When something could not be written.
    pub fn finish(mut self) -> Result<(), RunFolderError> {
        self.queue = None;
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Files {
    rows: Appended,
    histograms: Appended,
    events: Appended,
    /// Of a worker.
    telling: Option<(Appended, Arc<Spool>)>,
}

#[derive(Debug)]
struct Appended {
    path: PathBuf,
    file: File,
}

impl Appended {
    fn open(folder: &Path, name: &str) -> Result<Self, RunFolderError> {
        let path = folder.join(name);
        match OpenOptions::new().create(true).append(true).open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(RunFolderError::Write { path, source }),
        }
    }

    fn append(&mut self, text: &str) -> Result<(), RunFolderError> {
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|source| RunFolderError::Write { path: self.path.clone(), source })
    }

    fn is_new(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() == 0)
    }
}

impl Files {
    fn open(folder: &Path, started: Timestamp, spool: Option<Arc<Spool>>) -> Result<Self, RunFolderError> {
        let telling = match spool {
            Some(spool) => Some((Appended::open(folder, CROSSINGS)?, spool)),
            None => None,
        };
        let mut histograms = Appended::open(folder, HISTOGRAMS)?;
        if histograms.is_new().unwrap_or(false) {
            histograms.append(&legend(started))?;
        }
        Ok(Self {
            rows: Appended::open(folder, TIMESERIES)?,
            histograms,
            events: Appended::open(folder, EVENTS)?,
            telling,
        })
    }

    fn write(&mut self, entry: Entry) -> Result<(), RunFolderError> {
        match entry {
            Entry::Event(event) => self.events.append(&(json(&event) + "\n")),
            Entry::Seconds { rows, figures, told } => {
                let histograms: String = figures
                    .iter()
                    .flat_map(|((second, operation), figures)| interval_lines(*second, operation.0, figures))
                    .collect();
                let rows: String = rows.iter().map(|row| json(row) + "\n").collect();
                let crossings: String =
                    told.iter().flat_map(|told| told.crossings.iter().map(Crossing::line)).collect();
                self.histograms.append(&histograms)?;
                if let Some((file, _)) = &mut self.telling {
                    file.append(&crossings)?;
                }
                self.rows.append(&rows)?;
                if let (Some((_, spool)), Some(told)) = (&self.telling, told) {
                    spool.push(rows, histograms, &crossings, told.progressed);
                }
                Ok(())
            }
        }
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("what surge records has only names and numbers")
}

/// The head of an interval log, as the HdrHistogram project writes it.
pub(crate) fn legend(started: Timestamp) -> String {
    let seconds = started.as_millis() as f64 / 1_000.0;
    format!(
        "#[surge: response, service and lag of each operation, in microseconds]\n\
         #[Histogram log format version 1.3]\n\
         #[StartTime: {seconds:.3} (seconds since epoch), {}]\n\
         #[BaseTime: {seconds:.3} (seconds since epoch)]\n\
         \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
        utc::rfc3339(started)
    )
}

/// The lines of one operation in one second; none for what was not recorded.
fn interval_lines(second: u64, operation: &str, figures: &Second) -> Vec<String> {
    let histograms = [&figures.response, &figures.service, &figures.lag];
    KINDS
        .iter()
        .zip(histograms)
        .filter(|(_, latency)| !latency.is_empty())
        .map(|(kind, latency)| interval_line(second, &format!("{operation}.{kind}"), latency))
        .collect()
}

/// `Interval_Max` is in milliseconds, as the project's own writer has it by default.
pub(crate) fn interval_line(second: u64, tag: &str, latency: &Latency) -> String {
    let max_ms = latency.max_ms().unwrap_or(0.0);
    format!("Tag={tag},{second}.000,1.000,{max_ms:.3},{}\n", latency.encode())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    /// With the reader of the HdrHistogram project.
    #[test]
    fn a_stock_reader_reads_the_interval_log() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), Timestamp::from_millis(1_610_722_800_000)).unwrap();
        let mut second = Second { offered: 2, ok: 2, ..Second::default() };
        second.response.record(Duration::from_millis(8));
        second.response.record(Duration::from_millis(80));
        second.lag.record(Duration::from_micros(70));
        journal.seconds(Vec::new(), [((3, Operation("send")), second)].into());
        journal.finish().unwrap();
        let log = std::fs::read(folder.path().join(HISTOGRAMS)).unwrap();
        let entries: Vec<_> = IntervalLogIterator::new(&log).map(Result::unwrap).collect();
        let intervals: Vec<_> = entries
            .iter()
            .filter_map(|entry| if let LogEntry::Interval(interval) = entry { Some(interval) } else { None })
            .collect();
        let tags: Vec<_> = intervals.iter().map(|interval| interval.tag().unwrap().as_str()).collect();
        assert_eq!(tags, ["send.response", "send.lag"]);
        assert_eq!(intervals[0].start_timestamp(), Duration::from_secs(3));
        assert_eq!(
            intervals[0].max(),
            Latency::decode(intervals[0].encoded_histogram()).unwrap().max_ms().unwrap()
        );
        assert!(
            entries
                .iter()
                .any(|entry| matches!(entry, LogEntry::StartTime(at) if at.as_secs() == 1_610_722_800))
        );
        assert!(entries.iter().any(|entry| matches!(entry, LogEntry::BaseTime(_))));
    }

    /// So what a coordinator adds up is what a merger of the folders adds up.
    #[test]
    fn a_worker_tells_what_it_writes() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::of(3));
        let started = Timestamp::from_millis(0);
        let journal = Journal::telling(folder.path(), started, Some(spool.clone())).unwrap();
        for at in 0..5_u64 {
            let mut second = Second { offered: at, ok: at, ..Second::default() };
            second.response.record(Duration::from_millis(8 + at));
            let conversation = crate::ledger::Conversation { sender: 1, receiver: 2, device: 1 };
            let seen = crate::workers::Seen::Acked;
            let told = Told {
                crossings: vec![Crossing { conversation, sequence: at, seen }],
                progressed: Progressed { seconds: at + 1, ..Progressed::default() },
            };
            let rows = vec![Row { second: at, ..Row::default() }];
            journal.seconds_told(rows, [((at, Operation("send")), second)].into(), told);
        }
        journal.finish().unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let ticks = spool.from(1);
        let told = |of: fn(&crate::workers::wire::Tick) -> &str| ticks.iter().map(of).collect::<String>();
        assert_eq!(told(|tick| &tick.rows), read(TIMESERIES));
        assert_eq!(told(|tick| &tick.crossings), read(CROSSINGS));
        assert_eq!(legend(started) + &told(|tick| &tick.histograms), read(HISTOGRAMS));
        let parsed = crate::recording::parse_lines(&ticks[4].rows, &ticks[4].histograms).unwrap();
        assert_eq!((parsed.0[0].second, parsed.1[0].1.as_str()), (4, "send.response"));
        assert_eq!(ticks[4].progressed.unwrap().seconds, 5);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let error = Journal::open(&gone, Timestamp::from_millis(0)).unwrap_err();
        assert!(error.to_string().contains("gone/latency.hlog cannot be written"), "{error}");
    }
}
