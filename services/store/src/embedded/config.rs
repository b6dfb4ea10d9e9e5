use std::path::PathBuf;

use serde::{Deserialize, Serialize};

const MIB: u64 = 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder. Made if it is missing. Not read from settings: the process puts the store into its data folder.
    #[serde(skip)]
    pub path: PathBuf,
    /// Memory for blocks read from disk, in bytes. Memtables come on top: some 100 MiB under sustained writes.
    pub cache_bytes: u64,
    /// Writes that add data are refused while the disk has less than this free, in bytes. A journal that hits the
    /// end of the disk cannot go on, and deleting needs room too: the default covers a new journal (64 MiB), the
    /// memtables waiting to be flushed, and the output of a compaction.
    pub reserve_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { path: PathBuf::from("spillway-data"), cache_bytes: 64 * MIB, reserve_bytes: 256 * MIB }
    }
}
