//! A trace made of another one.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use super::{Format, How, Replay, Rows, TraceError, What};
use crate::load::Op;

/// Writes the same trace at another speed and scale, cut where `how` says. Counts and multiples stay such, with their rows;
/// events are thinned out or repeated.
///
/// # Errors
///
/// When the trace cannot be read or nothing can be written.
pub fn scale(path: &Path, how: &How, out: &mut impl Write) -> Result<u64, TraceError> {
    let format = Rows::open(path, how.column.as_deref(), how.default_op, false)?.format();
    let written = match format {
        Format::Events => events(path, how, out)?,
        Format::Counts | Format::Multiples => buckets(path, how, format, out)?,
    };
    out.flush().map_err(TraceError::Write)?;
    if written == 0 {
        return Err(TraceError::Empty { path: path.to_owned() });
    }
    Ok(written)
}

fn events(path: &Path, how: &How, out: &mut impl Write) -> Result<u64, TraceError> {
    writeln!(out, "t_ms,op,user,peer,bytes").map_err(TraceError::Write)?;
    let mut written = 0;
    for arrival in Replay::open(path, How { repeat: false, ..how.clone() })? {
        let arrival = arrival?;
        let work = arrival.stream;
        let number = |number: Option<u64>| number.map_or(String::new(), |number| number.to_string());
        writeln!(
            out,
            "{},{},{},{},{}",
            arrival.at.as_micros() as f64 / 1_000.0,
            work.op,
            number(work.user),
            number(work.peer),
            number(work.bytes.map(u64::from)),
        )
        .map_err(TraceError::Write)?;
        written += 1;
    }
    Ok(written)
}

fn buckets(path: &Path, how: &How, format: Format, out: &mut impl Write) -> Result<u64, TraceError> {
    let value = if format == Format::Counts { "count" } else { "mult" };
    writeln!(out, "t_s,op,{value}").map_err(TraceError::Write)?;
    let mut written = 0;
    // The beginning of what is cut out is not always a row's.
    let mut before: Option<(f64, BTreeMap<Op, f64>)> = None;
    let mut begun = how.from_s <= 0.0;
    let mut put = |at_s: f64, op: Op, value: f64| {
        let at_s = (at_s - how.from_s) / (how.speed * how.compress);
        let of_time = if format == Format::Counts { how.compress } else { 1.0 };
        written += 1;
        writeln!(out, "{at_s},{op},{}", value * how.scale / of_time).map_err(TraceError::Write)
    };
    for row in Rows::open(path, how.column.as_deref(), how.default_op, false)? {
        let row = row?;
        if how.to_s.is_some_and(|to_s| row.at_s >= to_s) {
            break;
        }
        let (What::Count(op, value) | What::Multiple(op, value)) = row.what else { continue };
        if row.at_s < how.from_s {
            match &mut before {
                Some((at_s, values)) if *at_s == row.at_s => *values.entry(op).or_default() += value,
                _ => before = Some((row.at_s, BTreeMap::from([(op, value)]))),
            }
            continue;
        }
        if !begun && let Some((from_s, values)) = before.take() {
            let share = (row.at_s - how.from_s) / (row.at_s - from_s);
            for (op, value) in values.into_iter().filter(|_| share > 0.0) {
                put(how.from_s, op, if format == Format::Counts { value * share } else { value })?;
            }
        }
        begun = true;
        put(row.at_s, op, value)?;
    }
    Ok(written)
}
