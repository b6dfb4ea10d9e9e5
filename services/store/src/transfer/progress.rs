//! How far an import is, in a small file beside the export.
//!
//! It is replaced as a whole and synced, so after a crash it is the old one or the new one. It says less than was done,
//! never more; every write of an import may be repeated.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::export::sync_folder;
use super::file::Header;

const FIRST_LINE: &str = "spillway-import 1";

/// Why an import cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum ProgressError {
    #[error(
        "{} is of another export; delete it to import this one from its beginning",
        path.display()
    )]
    OtherExport { path: PathBuf },
    #[error(
        "{} is of an import into {found}; delete it to import into {expected} from the beginning",
        path.display()
    )]
    OtherDestination { path: PathBuf, found: String, expected: String },
    #[error("{} cannot be understood; delete it to import from the beginning", path.display())]
    Damaged { path: PathBuf },
    #[error("cannot read or write {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[derive(Debug)]
pub(super) struct ProgressFile {
    path: PathBuf,
    export: String,
    destination: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Everything before this place in the export has been written.
    pub(super) offset: u64,
    /// Conflicts met before it.
    pub(super) conflicts: u64,
    /// Everything has been written; what is left is to verify.
    pub(super) is_written: bool,
}

impl ProgressFile {
    /// The file of an import of `export` into `destination`.
    pub(super) fn new(export: &Path, header: &Header, destination: &str) -> Self {
        let mut path = export.as_os_str().to_owned();
        path.push(".progress");
        Self {
            path: path.into(),
            export: header.id.iter().map(|byte| format!("{byte:02x}")).collect(),
            // On one line, whatever is in it.
            destination: destination.escape_debug().to_string(),
        }
    }

    /// `None`: no such import has begun.
    pub(super) fn read(&self) -> Result<Option<Progress>, ProgressError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(self.damaged()),
            Err(source) => return Err(self.io(source)),
        };
        self.parse(&text).map(Some)
    }

    pub(super) fn write(&self, progress: Progress) -> Result<(), ProgressError> {
        self.replace(&self.render(progress)).map_err(|source| self.io(source))
    }

    fn render(&self, progress: Progress) -> String {
        let Self { export, destination, .. } = self;
        let Progress { offset, conflicts, is_written } = progress;
        format!(
            "{FIRST_LINE}\nexport {export}\ndestination {destination}\noffset {offset}\n\
             conflicts {conflicts}\nwritten {is_written}\n"
        )
    }

    fn parse(&self, text: &str) -> Result<Progress, ProgressError> {
        let mut lines = text.lines();
        let mut field = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name));
            line.ok_or_else(|| self.damaged())
        };
        field(FIRST_LINE)?;
        if field("export ")? != self.export {
            return Err(ProgressError::OtherExport { path: self.path.clone() });
        }
        let destination = field("destination ")?;
        if destination != self.destination {
            return Err(ProgressError::OtherDestination {
                path: self.path.clone(),
                found: destination.to_owned(),
                expected: self.destination.clone(),
            });
        }
        Ok(Progress {
            offset: field("offset ")?.parse().map_err(|_| self.damaged())?,
            conflicts: field("conflicts ")?.parse().map_err(|_| self.damaged())?,
            is_written: field("written ")?.parse().map_err(|_| self.damaged())?,
        })
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let mut draft = self.path.clone().into_os_string();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        let mut file = File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        sync_folder(&self.path)
    }

    fn damaged(&self) -> ProgressError {
        ProgressError::Damaged { path: self.path.clone() }
    }

    fn io(&self, source: io::Error) -> ProgressError {
        ProgressError::Io { path: self.path.clone(), source }
    }
}
