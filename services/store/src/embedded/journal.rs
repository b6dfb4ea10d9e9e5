//! What a crash left at the end of fjall's journal.
//!
//! A process that dies, or a machine that loses power, may leave a batch that is half written. Nobody was told that
//! it is durable, so it is cut off. fjall 3.1 does so itself when the batch ends early, but refuses to open when a
//! page in the middle is missing (checksum error), and when a byte of an older batch has changed it may cut off all
//! that was acknowledged after it. So the journal is checked here first:
//! - the rest after the last whole batch holds no other whole batch: it is torn, and is cut off;
//! - a whole batch follows: something was damaged that had been acknowledged, and a person has to decide.
//!
//! The second holds because each batch is synced before the next is written; see [`super`].
//!
//! Format (fjall 3.1, `journal/entry.rs`; integers little-endian): a batch is `1 | items u32 | seqno u64`, its items,
//! then `3 | xxh3 of the items u64 | "FJL" 3`. An item is `2 | type u8 | compression u8 | keyspace u64 | key length u16 |
//! value length u32 | stored length u32 | key | value`, or `4 | keyspace u64`. Files are made 64 MiB long, so zeros
//! follow the last batch.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8; 4] = b"FJL\x03";

const START_LEN: usize = 1 + 4 + 8;
const ITEM_HEADER_LEN: usize = 1 + 1 + 1 + 8 + 2 + 4 + 4;
const CLEAR_LEN: usize = 1 + 8;
const END_LEN: usize = 1 + 8 + TRAILER.len();

#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("cannot read the journal {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the journal {} is damaged at byte {at}, and what was acknowledged after it would be lost; \
         restore a backup, or check the disk and ask for help with a copy of the folder",
        path.display()
    )]
    Damaged { path: PathBuf, at: usize },
}

/// Cuts a torn batch off the journal of the closed database in `folder`.
pub(super) fn repair(folder: &Path) -> Result<(), JournalError> {
    let journals = journals(folder).map_err(|source| JournalError::Io { path: folder.to_owned(), source })?;
    let newest = journals.len().saturating_sub(1);
    for (index, path) in journals.into_iter().enumerate() {
        let io = |source| JournalError::Io { path: path.clone(), source };
        let journal = read_written(&path).map_err(io)?;
        let whole = whole_batches(&journal);
        if whole >= journal.len() {
            continue;
        }
        // A journal is synced before the next is begun, so only the newest can be torn.
        if index != newest || holds_batch(&journal[whole..]) {
            return Err(JournalError::Damaged { path, at: whole });
        }
        let bytes = journal.len() - whole;
        tracing::warn!(journal = %path.display(), bytes, "cut off a write that a crash interrupted");
        let file = File::options().write(true).open(&path).map_err(io)?;
        file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(io)?;
    }
    Ok(())
}

/// Oldest first.
fn journals(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let (Some(number), Some("jnl")) =
            (number, path.extension().and_then(|extension| extension.to_str()))
        {
            journals.push((number, path));
        }
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// A journal without the zeros at its end, which are most of it at most starts.
pub(super) fn read_written(path: &Path) -> io::Result<Vec<u8>> {
    const CHUNK: usize = 64 * 1024;
    let mut file = File::open(path)?;
    let mut written = file.metadata()?.len();
    let zeros = vec![0; CHUNK];
    let mut chunk = vec![0; CHUNK];
    while written > 0 {
        let length = written.min(CHUNK as u64);
        file.seek(SeekFrom::Start(written - length))?;
        let chunk = &mut chunk[..length as usize];
        file.read_exact(chunk)?;
        // Compared whole first, because the system's memcmp is fast in every build.
        if *chunk != zeros[..chunk.len()] {
            let zeros = chunk.iter().rev().take_while(|byte| **byte == 0).count();
            written -= zeros as u64;
            break;
        }
        written -= length;
    }
    let mut journal = Vec::with_capacity(usize::try_from(written).unwrap_or_default());
    file.seek(SeekFrom::Start(0))?;
    file.take(written).read_to_end(&mut journal)?;
    Ok(journal)
}

/// The length of the whole batches at the beginning.
fn whole_batches(journal: &[u8]) -> usize {
    let mut at = 0;
    while let Some(length) = batch(&journal[at..]) {
        at += length;
    }
    at
}

fn holds_batch(rest: &[u8]) -> bool {
    (1..rest.len()).any(|at| rest[at] == START && batch(&rest[at..]).is_some())
}

/// The length of the batch at the beginning, if it is whole.
fn batch(bytes: &[u8]) -> Option<usize> {
    let (start, rest) = bytes.split_first_chunk::<START_LEN>()?;
    if start[0] != START {
        return None;
    }
    let items = u32::from_le_bytes(start[1..5].try_into().ok()?);
    let mut items_len = 0;
    for _ in 0..items {
        items_len += item(rest.get(items_len..)?)?;
    }
    let (end, _) = rest.get(items_len..)?.split_first_chunk::<END_LEN>()?;
    let checksum = u64::from_le_bytes(end[1..9].try_into().ok()?);
    let is_whole = end[0] == END && &end[9..] == TRAILER && checksum == xxh3_64(&rest[..items_len]);
    is_whole.then_some(START_LEN + items_len + END_LEN)
}

/// The length of the item at the beginning.
fn item(bytes: &[u8]) -> Option<usize> {
    match *bytes.first()? {
        CLEAR => Some(CLEAR_LEN),
        ITEM => {
            let (header, _) = bytes.split_first_chunk::<ITEM_HEADER_LEN>()?;
            let key_len = usize::from(u16::from_le_bytes(header[11..13].try_into().ok()?));
            let stored_len = u32::from_le_bytes(header[17..21].try_into().ok()?) as usize;
            let len = ITEM_HEADER_LEN + key_len + stored_len;
            (len <= bytes.len()).then_some(len)
        }
        _ => None,
    }
}
