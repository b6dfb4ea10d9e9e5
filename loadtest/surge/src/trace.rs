//! Recorded load: read from CSV, replayed with its gaps, in memory that does not grow with the file.
//!
//! Three formats, told apart by their header:
//!
//! | header | a row is |
//! |---|---|
//! | `t_s,op,count` | so many arrivals from here to the next time |
//! | `t_ms,op,user,peer,bytes` | one arrival |
//! | `utc_hour,mult` | from here to the next time, so many times the base rate |
//!
//! Times are seconds (`t_s`, `t`, `time`, `timestamp`, `utc_hour`), milliseconds (`t_ms`) or ISO 8601; the first row is
//! zero. What is missing is drawn from the seed, or named by an option. Other columns are passed over.
//!
//! A replay keeps gaps. What is late is caught up by the [`crate::pacer`], never skipped, and shows as lag.

mod bins;
mod error;
mod format;
mod import;
mod moment;
mod open;
mod replay;
mod rows;
mod scale;
mod scan;
mod sort;

pub use error::TraceError;
pub use format::Format;
pub use import::{Counts, azure, nginx};
pub use replay::{How, Replay};
pub use rows::{Row, Rows, What};
pub use scale::scale;
pub use scan::{OpScanned, Scanned, scan};

#[cfg(test)]
mod tests;
