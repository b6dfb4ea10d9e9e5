//! The invocation trace of Azure Functions of 2021: `app,func,end_timestamp,duration`, in seconds.

use std::path::Path;

use super::Counts;
use crate::load::Op;
use crate::trace::TraceError;
use crate::trace::open::open;

/// Each invocation is one arrival of `op` when it began.
///
/// # Errors
///
/// When the file has other columns, or a value that is no number.
pub fn azure(path: &Path, op: Op, bucket_s: f64) -> Result<Counts, TraceError> {
    let csv_error = |error: csv::Error| TraceError::Csv {
        path: path.to_owned(),
        line: error.position().map_or(0, csv::Position::line),
        why: error.to_string(),
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(open(path)?);
    let header = reader.headers().map_err(csv_error)?.clone();
    let find = |column: &str| {
        header.iter().position(|name| name == column).ok_or_else(|| TraceError::Column {
            path: path.to_owned(),
            column: column.to_owned(),
            columns: header.iter().collect::<Vec<_>>().join(", "),
        })
    };
    let (end_at, duration_at) = (find("end_timestamp")?, find("duration")?);
    let mut counts = Counts::new(bucket_s);
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(csv_error)? {
        let number = |at: usize, column: &str| {
            let value = record.get(at).unwrap_or_default();
            value.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(|| TraceError::Field {
                path: path.to_owned(),
                line: record.position().map_or(0, csv::Position::line),
                column: column.to_owned(),
                value: value.to_owned(),
                expected: "a number of seconds".to_owned(),
            })
        };
        counts.add(number(end_at, "end_timestamp")? - number(duration_at, "duration")?, op);
    }
    if counts.counted == 0 {
        return Err(TraceError::Empty { path: path.to_owned() });
    }
    Ok(counts)
}
