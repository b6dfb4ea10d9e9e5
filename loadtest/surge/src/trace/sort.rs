//! Events in order of time, by parts that fit into memory and are merged from disk.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

use super::TraceError;
use super::rows::{Row, Rows, What};
use crate::load::{Op, Work};

/// Rows that are sorted at once: some 20 MB.
const PART: usize = 250_000;
/// Of a row on disk: line, time, operation, and what may be absent as a number and whether it is there.
const ROW_BYTES: usize = 8 + 8 + 1 + 9 + 9 + 5;

/// Merges the parts. Holds one row of each.
pub(super) struct Sorted {
    path: std::path::PathBuf,
    parts: Vec<BufReader<File>>,
    next: BinaryHeap<Reverse<(Key, usize)>>,
    waiting: Vec<Option<Row>>,
}

/// Times are finite. Of the same time, in order of lines.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Key(f64, u64);

impl Eq for Key {}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

pub(super) fn sort(rows: &mut Rows) -> Result<Sorted, TraceError> {
    let path = rows.path().to_owned();
    let failed = |source| TraceError::Sort { path: path.clone(), source };
    let (mut parts, mut part) = (Vec::new(), Vec::new());
    loop {
        let row = rows.read()?;
        part.extend(row);
        if part.len() == PART || row.is_none() && !part.is_empty() {
            part.sort_by_key(|row: &Row| Key(row.at_s, row.line));
            parts.push(write(&part).map_err(failed)?);
            part.clear();
        }
        if row.is_none() {
            break;
        }
    }
    let mut sorted = Sorted {
        path: path.clone(),
        waiting: vec![None; parts.len()],
        next: BinaryHeap::new(),
        parts: parts.into_iter().map(BufReader::new).collect(),
    };
    for part in 0..sorted.parts.len() {
        sorted.refill(part).map_err(failed)?;
    }
    Ok(sorted)
}

impl Sorted {
    pub(super) fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        let Some(Reverse((_, part))) = self.next.pop() else { return Ok(None) };
        let row = self.waiting[part].take();
        self.refill(part).map_err(|source| TraceError::Sort { path: self.path.clone(), source })?;
        Ok(row)
    }

    fn refill(&mut self, part: usize) -> io::Result<()> {
        let mut bytes = [0; ROW_BYTES];
        match self.parts[part].read_exact(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let row = decode(&bytes);
        self.next.push(Reverse((Key(row.at_s, row.line), part)));
        self.waiting[part] = Some(row);
        Ok(())
    }
}

/// Into a file without a name, which is gone with the process.
fn write(rows: &[Row]) -> io::Result<File> {
    let mut out = BufWriter::new(tempfile::tempfile()?);
    for row in rows {
        out.write_all(&encode(row))?;
    }
    let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file)
}

fn encode(row: &Row) -> Vec<u8> {
    let What::Event(work) = row.what else { unreachable!("only events are sorted") };
    let mut bytes = Vec::with_capacity(ROW_BYTES);
    bytes.extend_from_slice(&row.line.to_le_bytes());
    bytes.extend_from_slice(&row.at_s.to_le_bytes());
    bytes.push(Op::ALL.iter().position(|op| *op == work.op).unwrap_or(0) as u8);
    for number in [work.user, work.peer] {
        bytes.push(u8::from(number.is_some()));
        bytes.extend_from_slice(&number.unwrap_or(0).to_le_bytes());
    }
    bytes.push(u8::from(work.bytes.is_some()));
    bytes.extend_from_slice(&work.bytes.unwrap_or(0).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; ROW_BYTES]) -> Row {
    let eight = |at: usize| <[u8; 8]>::try_from(&bytes[at..at + 8]).expect("eight bytes");
    let number = |at: usize| (bytes[at] == 1).then(|| u64::from_le_bytes(eight(at + 1)));
    let four = <[u8; 4]>::try_from(&bytes[36..40]).expect("four bytes");
    Row {
        line: u64::from_le_bytes(eight(0)),
        at_s: f64::from_le_bytes(eight(8)),
        what: What::Event(Work {
            op: Op::ALL[usize::from(bytes[16]) % Op::ALL.len()],
            user: number(17),
            peer: number(26),
            bytes: (bytes[35] == 1).then(|| u32::from_le_bytes(four)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_same_after_it_was_on_disk() {
        for (user, bytes) in [(Some(7), None), (None, Some(512)), (Some(u64::MAX), Some(0))] {
            let work = Work { op: Op::Wake, user, peer: user.map(|user| user - 1), bytes };
            let row = Row { line: 9, at_s: -1.25, what: What::Event(work) };
            let encoded = <[u8; ROW_BYTES]>::try_from(encode(&row)).unwrap();
            assert_eq!(decode(&encoded), row);
        }
    }
}
