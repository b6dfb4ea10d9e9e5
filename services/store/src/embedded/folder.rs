//! The folder of a store: whose it is, which format it has, and who has it open.
//!
//! ```text
//! lock     locked by the process that has the store open
//! format   written last when a store is made, so a folder without it holds nothing that was acknowledged
//! db/      fjall's
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::failure::open_io_error;
use crate::OpenError;

/// Raised when an older version could not read what this one writes.
const FORMAT: u32 = 1;
const FORMAT_NAME: &str = "spillway-store";

const LOCK: &str = "lock";
const FORMAT_FILE: &str = "format";
const FORMAT_DRAFT: &str = "format.draft";
const DATABASE: &str = "db";
/// At the root of a freshly made ext4 volume.
const LOST_AND_FOUND: &str = "lost+found";

/// A locked folder. The lock goes with it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The store was not there before, or had not been finished.
    is_new: bool,
    _lock: File,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |error| open_io_error(path, error);
        match fs::create_dir_all(path) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory) =>
            {
                return Err(not_a_store(path, "it is a file"));
            }
            result => result.map_err(io)?,
        }
        if !path.join(FORMAT_FILE).try_exists().map_err(io)? {
            refuse_foreign(path)?;
        }
        let lock = lock(path)?;
        let is_new = match fs::read(path.join(FORMAT_FILE)) {
            Ok(text) => {
                check_format(path, &text)?;
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(io(error)),
        };
        let folder = Self { path: path.to_owned(), is_new, _lock: lock };
        if is_new && folder.database().try_exists().map_err(io)? {
            // Left by a process that died while it made the store. fjall cannot go on from half a database.
            fs::remove_dir_all(folder.database()).map_err(io)?;
        }
        Ok(folder)
    }

    /// Whether a store was made in the folder and declared complete.
    pub(super) fn is_finished(path: &Path) -> bool {
        path.join(FORMAT_FILE).exists()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    pub(super) const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Declares a new store complete.
    pub(super) fn finish(&self) -> Result<(), OpenError> {
        self.write_format().map_err(|error| open_io_error(&self.path, error))
    }

    fn write_format(&self) -> io::Result<()> {
        let draft = self.path.join(FORMAT_DRAFT);
        let mut file = File::create(&draft)?;
        writeln!(file, "{FORMAT_NAME} {FORMAT}")?;
        file.sync_all()?;
        fs::rename(draft, self.path.join(FORMAT_FILE))?;
        // The names must survive too: of the files in the folder, and of the folder itself.
        File::open(&self.path)?.sync_all()?;
        match self.path.canonicalize()?.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// Refuses a folder in which something else lives, before anything is written to it.
fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    let io = |error| open_io_error(path, error);
    let is_ours = path.join(LOCK).try_exists().map_err(io)?;
    for entry in fs::read_dir(path).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let expected = match name.to_str() {
            Some(LOCK | LOST_AND_FOUND) => true,
            Some(DATABASE | FORMAT_DRAFT | FORMAT_FILE) => is_ours,
            _ => false,
        };
        if !expected {
            return Err(not_a_store(path, &format!("it holds {}", name.display())));
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let io = |error| open_io_error(path, error);
    let file = File::options().create(true).truncate(false).write(true).open(path.join(LOCK)).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

fn check_format(path: &Path, text: &[u8]) -> Result<(), OpenError> {
    let format = std::str::from_utf8(text).ok().and_then(|text| {
        let (name, format) = text.trim_end().split_once(' ')?;
        if name == FORMAT_NAME { format.parse::<u32>().ok() } else { None }
    });
    match format {
        Some(FORMAT) => Ok(()),
        Some(found) if found > FORMAT => {
            Err(OpenError::NewerFormat { path: path.to_owned(), found, supported: FORMAT })
        }
        _ => Err(not_a_store(path, "its format file cannot be read")),
    }
}

fn not_a_store(path: &Path, problem: &str) -> OpenError {
    OpenError::NotAStore { path: path.to_owned(), problem: problem.to_owned() }
}
