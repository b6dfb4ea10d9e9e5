//! Traces made of other people's files. What comes is counted in buckets of time, because such files are not in order.

mod access_log;
mod azure_2021;

use std::collections::BTreeMap;
use std::io::Write;

pub use access_log::nginx;
pub use azure_2021::azure;

use super::TraceError;
use crate::load::Op;

/// Arrivals by bucket. Memory grows with the time that the file covers, and not with its lines.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    bucket_s: f64,
    by_bucket: BTreeMap<(i64, Op), u64>,
    /// Lines that were counted, and lines that had nothing to count.
    pub counted: u64,
    pub passed_over: u64,
}

impl Counts {
    pub(super) fn new(bucket_s: f64) -> Self {
        Self { bucket_s, ..Self::default() }
    }

    pub(super) fn add(&mut self, at_s: f64, op: Op) {
        *self.by_bucket.entry(((at_s / self.bucket_s).floor() as i64, op)).or_default() += 1;
        self.counted += 1;
    }

    /// Writes a trace of counts; silence in between is written as well, so that every bucket has its length.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, out: &mut impl Write) -> Result<(), TraceError> {
        let failed = TraceError::Write;
        writeln!(out, "t_s,op,count").map_err(failed)?;
        let Some(((first, _), _)) = self.by_bucket.first_key_value() else { return Ok(()) };
        let mut next = *first;
        for ((bucket, op), count) in &self.by_bucket {
            while next < *bucket {
                // Nothing came in these.
                writeln!(out, "{},{op},0", (next - first) as f64 * self.bucket_s).map_err(failed)?;
                next += 1;
            }
            writeln!(out, "{},{op},{count}", (bucket - first) as f64 * self.bucket_s).map_err(failed)?;
            next = bucket + 1;
        }
        out.flush().map_err(failed)
    }
}
