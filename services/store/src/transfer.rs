//! Moving a store: [`export()`] writes an embedded store to one file, [`import()`] writes that file into any store, and
//! shows that what arrived is what left.
//!
//! Invariants:
//! - Both hold a few records at a time, whatever the size of the store.
//! - What the destination has is never overwritten. A record that differs from the destination's is a conflict: it is
//!   reported, and the rest is imported.
//! - An import that was stopped anywhere, `kill -9` included, goes on where it was, and may repeat what it did last.
//! - The proof does not trust what the import counted: it reads the file again, and each record back.
//!
//! Versions of accounts and sessions move with them. Starting again at the first version would be wrong: a link token
//! works once because it names a version that the account then leaves for good.
//!
//! Deliberately not here: the secrets, without which nobody can use the data (the destination must have the same, which
//! [`Header::fingerprint`] lets the caller check); leases, which belong to running processes; what a destination holds
//! beyond the file, because the traits read by key.

mod differences;
mod export;
mod file;
mod import;
mod monitor;
mod progress;
mod record;
mod section;
mod verify;
mod write;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

pub use differences::Differences;
pub use export::{ExportError, ExportOptions, Exported, export};
pub use file::{FileError, Header};
pub use import::{ImportError, ImportOptions, Imported, import};
pub use monitor::{Monitor, Phase};
pub use progress::ProgressError;
pub use section::{Section, Sections, Total};
pub use verify::{Sides, Verified};
pub use write::Tally;

use file::Reader;

/// Large enough that a disk reads and writes in long runs.
const BUFFER_BYTES: usize = 256 * 1024;

/// What the export says about itself.
///
/// # Errors
///
/// When the file is not an export, or its start is damaged.
pub fn header(path: &Path) -> Result<Header, FileError> {
    Ok(open(path)?.header().clone())
}

fn open(path: &Path) -> Result<Reader<BufReader<File>>, FileError> {
    Reader::open(BufReader::with_capacity(BUFFER_BYTES, File::open(path)?))
}

#[cfg(test)]
mod tests;
