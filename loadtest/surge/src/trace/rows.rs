//! A trace row by row.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::format::{Columns, Format};
use super::moment::seconds;
use super::open::open;
use super::{TraceError, sort};
use crate::load::{Op, Work};

/// One row, at a time since the first one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub line: u64,
    pub at_s: f64,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    Count(Op, f64),
    Multiple(Op, f64),
    Event(Work),
}

/// Reads rows in order of time. Holds one of them.
pub struct Rows {
    path: PathBuf,
    reader: csv::Reader<Box<dyn Read + Send>>,
    record: csv::StringRecord,
    columns: Columns,
    /// What a row without an operation is.
    default_op: Op,
    first_s: Option<f64>,
    last_s: f64,
    /// Put in order on disk, instead of the file itself.
    sorted: Option<sort::Sorted>,
}

/// The longest content that is sent; the service takes no more than 256 KiB with everything around it.
const BYTES_MAX: u32 = 200_000;

impl Rows {
    /// # Errors
    ///
    /// When it cannot be opened, or its header is that of no trace.
    pub fn open(
        path: &Path,
        column: Option<&str>,
        default_op: Option<Op>,
        sorted: bool,
    ) -> Result<Self, TraceError> {
        let mut rows = Self::unsorted(path, column, default_op)?;
        if sorted {
            if rows.columns.format != Format::Events {
                return Err(TraceError::NotEvents { path: path.to_owned() });
            }
            rows.sorted = Some(sort::sort(&mut rows)?);
        }
        Ok(rows)
    }

    fn unsorted(path: &Path, column: Option<&str>, default_op: Option<Op>) -> Result<Self, TraceError> {
        let mut reader = csv::ReaderBuilder::new()
            .comment(Some(b'#'))
            .trim(csv::Trim::All)
            .has_headers(true)
            .from_reader(open(path)?);
        let header = reader.headers().map_err(|error| of_csv(path, error))?.clone();
        if header.is_empty() || header.iter().all(str::is_empty) {
            return Err(TraceError::Empty { path: path.to_owned() });
        }
        let columns = Columns::find(path, &header, column)?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            record: csv::StringRecord::new(),
            default_op: default_op.unwrap_or(Op::SignUp),
            columns,
            first_s: None,
            last_s: 0.0,
            sorted: None,
        })
    }

    pub fn format(&self) -> Format {
        self.columns.format
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next row, without looking at its order; its time is as written.
    pub(super) fn read(&mut self) -> Result<Option<Row>, TraceError> {
        if !self.reader.read_record(&mut self.record).map_err(|error| of_csv(&self.path, error))? {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let time = self.field(self.columns.time);
        // A date is in seconds whatever the column is called.
        let unit_s = if time.contains(':') { 1.0 } else { self.columns.unit_s };
        let at_s = seconds(time).map(|at| at * unit_s);
        let at_s = at_s.ok_or_else(|| {
            self.wrong(line, self.columns.time, "a time: a number, or a date such as 2021-01-15T15:00Z")
        })?;
        let op = match self.columns.op.map(|at| (at, self.field(at))) {
            None | Some((_, "")) => self.default_op,
            Some((at, name)) => {
                let known = || format!("an operation: {}", Op::names());
                Op::parse(name).ok_or_else(|| self.wrong(line, at, known()))?
            }
        };
        let what = match self.columns.format {
            Format::Counts => What::Count(op, self.at_least_0(line)?),
            Format::Multiples => What::Multiple(op, self.at_least_0(line)?),
            Format::Events => {
                let bytes = self.whole(line, self.columns.bytes)?;
                if bytes.is_some_and(|bytes| bytes > u64::from(BYTES_MAX)) {
                    let expected = format!("at most {BYTES_MAX} bytes");
                    return Err(self.wrong(line, self.columns.bytes.unwrap_or(0), expected));
                }
                What::Event(Work {
                    op,
                    user: self.whole(line, self.columns.user)?,
                    peer: self.whole(line, self.columns.peer)?,
                    bytes: bytes.and_then(|bytes| u32::try_from(bytes).ok()),
                })
            }
        };
        Ok(Some(Row { line, at_s, what }))
    }

    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        let row = match &mut self.sorted {
            Some(sorted) => sorted.next_row(),
            None => self.read(),
        };
        let Some(mut row) = row? else { return Ok(None) };
        let first_s = *self.first_s.get_or_insert(row.at_s);
        row.at_s -= first_s;
        if row.at_s < self.last_s {
            let (line, at_s, before_s) = (row.line, row.at_s, self.last_s);
            return Err(TraceError::Unsorted { path: self.path.clone(), line, at_s, before_s });
        }
        self.last_s = row.at_s;
        Ok(Some(row))
    }

    fn field(&self, at: usize) -> &str {
        self.record.get(at).unwrap_or_default()
    }

    fn at_least_0(&self, line: u64) -> Result<f64, TraceError> {
        let at = self.columns.value;
        let number = self.field(at).parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
        number.ok_or_else(|| self.wrong(line, at, "a number of at least 0"))
    }

    fn whole(&self, line: u64, at: Option<usize>) -> Result<Option<u64>, TraceError> {
        let Some((at, text)) = at.map(|at| (at, self.field(at))).filter(|(_, text)| !text.is_empty()) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| self.wrong(line, at, "a whole number"))
    }

    fn wrong(&self, line: u64, column: usize, expected: impl Into<String>) -> TraceError {
        TraceError::Field {
            path: self.path.clone(),
            line,
            column: self.columns.names.get(column).cloned().unwrap_or_default(),
            value: self.field(column).to_owned(),
            expected: expected.into(),
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows")
            .field("path", &self.path)
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}

fn of_csv(path: &Path, error: csv::Error) -> TraceError {
    let path = path.to_owned();
    let line = error.position().map_or(0, csv::Position::line);
    let why = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("it has {len} fields, and the header {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8".to_owned(),
        _ => error.to_string(),
    };
    match error.into_kind() {
        csv::ErrorKind::Io(source) => TraceError::Read { path, source },
        _ => TraceError::Csv { path, line, why },
    }
}
