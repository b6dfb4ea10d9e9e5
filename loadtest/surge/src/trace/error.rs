//! What can be wrong with a trace.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("the trace {} cannot be opened", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} cannot be read: is it cut short, or not what its first bytes say?", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}, line {line}: this is not CSV: {why}", path.display())]
    Csv { path: PathBuf, line: u64, why: String },
    #[error(
        "{} has the columns {columns}, which are no trace: a trace has `t_s,op,count`, or `t_ms,op,user,peer,bytes`, or \
         `utc_hour,mult`", path.display()
    )]
    Header { path: PathBuf, columns: String },
    #[error("{} has no column `{column}`; its columns are {columns}", path.display())]
    Column { path: PathBuf, column: String, columns: String },
    #[error("{} has several columns of multiples: name one of {columns} with --column", path.display())]
    Ambiguous { path: PathBuf, columns: String },
    #[error("{}, line {line}, column `{column}`: `{value}` is not {expected}", path.display())]
    Field { path: PathBuf, line: u64, column: String, value: String, expected: String },
    #[error(
        "{}, line {line}: {at_s} s comes after {before_s} s. A trace is in order of time; --sort puts events in order", path.display()
    )]
    Unsorted { path: PathBuf, line: u64, at_s: f64, before_s: f64 },
    #[error("only events can be sorted; {} has counts or multiples", path.display())]
    NotEvents { path: PathBuf },
    #[error("{} is empty: there is no row in it", path.display())]
    Empty { path: PathBuf },
    #[error("{} has multiples: say of what with --base-rate {op}=50/s", path.display())]
    NoBaseRate { path: PathBuf, op: &'static str },
    #[error("no event of {} can be put in order on disk", path.display())]
    Sort { path: PathBuf, source: io::Error },
    #[error("{}, line {line}: {why}", path.display())]
    Line { path: PathBuf, line: u64, why: String },
    #[error("a trace that is repeated never ends: say for how long with --for")]
    Endless,
    #[error("nothing can be written")]
    Write(#[source] io::Error),
}
