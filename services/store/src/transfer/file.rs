//! The bytes of an export.
//!
//! ```text
//! magic        8 bytes
//! format       u32
//! header       a frame with the tag 254: id (16), made at (u64, microseconds), fingerprint (32), source (text)
//! records      a frame each, sections in their order; the tag is the section's; see `record`
//! trailer      a frame with the tag 255: number (u64) and checksum (u128) of each section
//!
//! frame:
//!   tag        u8
//!   length     u32: of the content
//!   check      u32: lower half of the XXH3-64 of tag and length
//!   content    a version (u8), then fields
//!   check      u64: XXH3-64 of the content
//! ```
//!
//! Integers are big-endian. The checks of a frame are seeded with the id of the export and the place in the file, so
//! that a record which is whole but in the wrong place is found too. A length has a check of its own: a damaged one
//! would otherwise look like a file that was cut off.

use std::io::{self, Read, Seek, SeekFrom, Write};

use spillway_types::Timestamp;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::record::{self, Record};
use super::section::{Section, Sections, Total};
use crate::StoreError;
use crate::embedded::codec::{Decoder, Encoder};

/// As PNG's: the first byte and the line end are there so that a transfer as text shows.
const MAGIC: [u8; 8] = *b"\x89SPILL\r\n";
/// Raised when an older version could not read what this one writes.
const FORMAT: u32 = 1;
const PREAMBLE_BYTES: usize = MAGIC.len() + 4;
const HEADER: u8 = 254;
const TRAILER: u8 = 255;
const CONTENT_VERSION: u8 = 1;
/// Bounds what a reader allocates. The largest records are messages and the keys of a device, both below 1 MiB.
const CONTENT_BYTES_MAX: u32 = 16 * 1024 * 1024;
const FRAME_HEADER_BYTES: usize = 1 + 4 + 4;
const FRAME_CHECK_BYTES: usize = 8;

/// Why a file cannot be read as an export.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("it is not an export that Spillway wrote")]
    NotAnExport,
    #[error(
        "it was written by a newer Spillway (format {found}, this one reads up to {FORMAT}); use that version"
    )]
    NewerFormat { found: u32 },
    #[error("it was cut off: it ends within what begins at byte {offset}; export again or copy it again")]
    Truncated { offset: u64 },
    #[error("it is damaged at byte {offset}: {problem}; export again or copy it again")]
    Damaged { offset: u64, problem: String },
    #[error("it cannot be read")]
    Io(#[from] io::Error),
}

/// What an export says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Random.
    pub id: [u8; 16],
    pub made_at: Timestamp,
    /// Equal for equal secrets, and useless for anything else. Set by the caller of the export.
    pub fingerprint: [u8; 32],
    /// Where the store was, for people.
    pub source: String,
}

impl Header {
    fn seed(&self) -> u64 {
        xxh3_64(&self.id)
    }

    fn encode(&self) -> Vec<u8> {
        Encoder::new(CONTENT_VERSION)
            .array(&self.id)
            .time(self.made_at)
            .array(&self.fingerprint)
            .rest(self.source.as_bytes())
            .finish()
    }

    fn decode(content: &[u8]) -> Result<Self, StoreError> {
        let mut content = Decoder::new("header", content);
        content.version(CONTENT_VERSION)?;
        Ok(Self {
            id: content.array()?,
            made_at: content.time()?,
            fingerprint: content.array()?,
            source: String::from_utf8_lossy(&content.rest()).into_owned(),
        })
    }
}

#[derive(Debug)]
pub(super) struct Writer<W> {
    out: W,
    seed: u64,
    offset: u64,
    totals: Sections<Total>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut out: W, header: &Header) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        out.write_all(&FORMAT.to_be_bytes())?;
        let offset = PREAMBLE_BYTES as u64 + write_frame(&mut out, HEADER, &header.encode(), 0)?;
        Ok(Self { out, seed: header.seed(), offset, totals: Sections::default() })
    }

    /// Records come in the order of their sections.
    pub(super) fn push(&mut self, record: &Record) -> io::Result<()> {
        let section = record.section();
        let encoding = record.encode();
        self.totals[section].add(record::checksum(section, &encoding));
        self.frame(section.tag(), &encoding)
    }

    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Writes the trailer; syncing is the caller's.
    pub(super) fn finish(mut self) -> io::Result<(W, Sections<Total>)> {
        self.frame(TRAILER, &encode_totals(&self.totals))?;
        Ok((self.out, self.totals))
    }

    fn frame(&mut self, tag: u8, content: &[u8]) -> io::Result<()> {
        let seed = self.seed.wrapping_add(self.offset);
        self.offset += write_frame(&mut self.out, tag, content, seed)?;
        Ok(())
    }
}

/// A record, and where the next one begins.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) record: Record,
    pub(super) end: u64,
}

#[derive(Debug)]
pub(super) struct Reader<R> {
    input: R,
    header: Header,
    offset: u64,
    section: Section,
    /// Of the records read so far; `None` when the first ones were skipped.
    totals: Option<Sections<Total>>,
}

impl<R: Read> Reader<R> {
    pub(super) fn open(mut input: R) -> Result<Self, FileError> {
        read_preamble(&mut input)?;
        let start = PREAMBLE_BYTES as u64;
        let frame = read_frame(&mut input, start, 0)?;
        let header = Header::decode(&frame.content).map_err(|error| damaged(start, error))?;
        Ok(Self {
            input,
            header,
            offset: start + frame.bytes(),
            section: Section::Accounts,
            totals: Some(Sections::default()),
        })
    }

    pub(super) const fn header(&self) -> &Header {
        &self.header
    }

    /// The next record; `None` after the last one, when the file has ended as it should.
    pub(super) fn next(&mut self) -> Result<Option<Item>, FileError> {
        let start = self.offset;
        let frame = read_frame(&mut self.input, start, self.header.seed().wrapping_add(start))?;
        self.offset += frame.bytes();
        if frame.tag == TRAILER {
            self.end(start, &frame.content)?;
            return Ok(None);
        }
        let Some(section) = Section::of_tag(frame.tag).filter(|section| *section >= self.section) else {
            return Err(damaged(start, "a record of another kind is expected here"));
        };
        self.section = section;
        let record = Record::decode(section, &frame.content).map_err(|error| damaged(start, error))?;
        if let Some(totals) = &mut self.totals {
            totals[section].add(record::checksum(section, &frame.content));
        }
        Ok(Some(Item { record, end: self.offset }))
    }

    /// The totals, once [`Self::next`] has answered `None` after all records were read.
    pub(super) fn into_totals(self) -> Option<Sections<Total>> {
        self.totals
    }

    fn end(&mut self, start: u64, trailer: &[u8]) -> Result<(), FileError> {
        let written = decode_totals(trailer).map_err(|error| damaged(start, error))?;
        if self.totals.is_some_and(|totals| totals != written) {
            return Err(damaged(start, "the records are not those that were written"));
        }
        match (&mut self.input).take(1).read_to_end(&mut Vec::new())? {
            0 => Ok(()),
            _ => Err(damaged(self.offset, "something follows the end")),
        }
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Goes on at the end of an earlier item.
    pub(super) fn skip_to(&mut self, offset: u64) -> Result<(), FileError> {
        if offset > self.offset {
            self.input.seek(SeekFrom::Start(offset))?;
            self.offset = offset;
            self.totals = None;
        }
        Ok(())
    }
}

fn read_preamble(input: &mut impl Read) -> Result<(), FileError> {
    let mut magic = Vec::new();
    input.take(MAGIC.len() as u64).read_to_end(&mut magic)?;
    if magic != MAGIC {
        let is_start = MAGIC.starts_with(&magic);
        return Err(if is_start { FileError::Truncated { offset: 0 } } else { FileError::NotAnExport });
    }
    let mut format = [0; 4];
    fill(input, &mut format, 0)?;
    match u32::from_be_bytes(format) {
        FORMAT => Ok(()),
        found if found > FORMAT => Err(FileError::NewerFormat { found }),
        found => Err(damaged(0, format!("there is no format {found}"))),
    }
}

struct Frame {
    tag: u8,
    content: Vec<u8>,
}

impl Frame {
    const fn bytes(&self) -> u64 {
        (FRAME_HEADER_BYTES + self.content.len() + FRAME_CHECK_BYTES) as u64
    }
}

/// `start` is where the frame begins, for errors.
fn read_frame(input: &mut impl Read, start: u64, seed: u64) -> Result<Frame, FileError> {
    let mut header = [0; FRAME_HEADER_BYTES];
    fill(input, &mut header, start)?;
    let [tag, a, b, c, d, ..] = header;
    let length = u32::from_be_bytes([a, b, c, d]);
    if header != frame_header(tag, length, seed) || length > CONTENT_BYTES_MAX {
        return Err(damaged(start, "the start of a record is wrong"));
    }
    let mut content = vec![0; length as usize];
    fill(input, &mut content, start)?;
    let mut check = [0; FRAME_CHECK_BYTES];
    fill(input, &mut check, start)?;
    if u64::from_be_bytes(check) != xxh3_64_with_seed(&content, seed) {
        return Err(damaged(start, "the checksum of a record is wrong"));
    }
    Ok(Frame { tag, content })
}

/// Answers with the number of bytes written.
fn write_frame(out: &mut impl Write, tag: u8, content: &[u8], seed: u64) -> io::Result<u64> {
    let length = u32::try_from(content.len()).ok().filter(|length| *length <= CONTENT_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("a record is larger than an export can hold"))?;
    out.write_all(&frame_header(tag, length, seed))?;
    out.write_all(content)?;
    out.write_all(&xxh3_64_with_seed(content, seed).to_be_bytes())?;
    Ok((FRAME_HEADER_BYTES + content.len() + FRAME_CHECK_BYTES) as u64)
}

fn fill(input: &mut impl Read, buffer: &mut [u8], start: u64) -> Result<(), FileError> {
    input.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => FileError::Truncated { offset: start },
        _ => FileError::Io(error),
    })
}

fn damaged(offset: u64, problem: impl ToString) -> FileError {
    FileError::Damaged { offset, problem: problem.to_string() }
}

fn frame_header(tag: u8, length: u32, seed: u64) -> [u8; FRAME_HEADER_BYTES] {
    let mut header = [tag; FRAME_HEADER_BYTES];
    header[1..5].copy_from_slice(&length.to_be_bytes());
    let check = xxh3_64_with_seed(&header[..5], seed) as u32;
    header[5..].copy_from_slice(&check.to_be_bytes());
    header
}

fn encode_totals(totals: &Sections<Total>) -> Vec<u8> {
    let encoder = Encoder::new(CONTENT_VERSION);
    let all = totals
        .iter()
        .fold(encoder, |encoder, (_, total)| encoder.u64(total.records).array(&total.checksum.to_be_bytes()));
    all.finish()
}

fn decode_totals(trailer: &[u8]) -> Result<Sections<Total>, StoreError> {
    let mut trailer = Decoder::new("trailer", trailer);
    trailer.version(CONTENT_VERSION)?;
    let mut totals = Sections::<Total>::default();
    for section in Section::ALL {
        totals[section] = Total { records: trailer.u64()?, checksum: u128::from_be_bytes(trailer.array()?) };
    }
    trailer.end()?;
    Ok(totals)
}

#[cfg(test)]
mod tests;
