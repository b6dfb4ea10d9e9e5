use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use spillway_types::{Clock, random_bytes};

use super::BUFFER_BYTES;
use super::file::{Header, Writer};
use super::monitor::{Monitor, Phase};
use super::record::Record;
use super::section::{Sections, Total};
use crate::embedded::Config;
use crate::embedded::scan::Scan;
use crate::{OpenError, StoreError};

#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// The embedded store.
    pub store: Config,
    /// The file to write. It must not exist.
    pub file: PathBuf,
    /// See [`Header::fingerprint`].
    pub fingerprint: [u8; 32],
}

/// What was exported.
#[derive(Clone, Debug)]
pub struct Exported {
    pub header: Header,
    pub totals: Sections<Total>,
    /// Messages past their retention and sessions past their end, which were left behind.
    pub expired: u64,
    /// Size of the file.
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("there is no store in {}; look at node.data in the settings", path.display())]
    NoStore { path: PathBuf },
    #[error(
        "{} is in use; stop the server first: what it acknowledged after the export would be left behind",
        path.display()
    )]
    InUse { path: PathBuf },
    #[error("the store cannot be opened")]
    Open(#[source] OpenError),
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    #[error("{} exists already and is not overwritten", path.display())]
    Exists { path: PathBuf },
    #[error("cannot write {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("stopped; no file was made")]
    Stopped,
}

/// Writes a whole embedded store to a file. Blocks until it is done; the file appears under its name when it is complete
/// and on disk.
///
/// The store is opened as a server would open it, so it must not be in use, and an unclean end is repaired first.
///
/// # Errors
///
/// See [`ExportError`]. No file is left then.
pub fn export(
    options: &ExportOptions,
    clock: &dyn Clock,
    monitor: &Monitor,
) -> Result<Exported, ExportError> {
    monitor.begin(Phase::Exporting);
    let store = &options.store.path;
    if !Scan::has_store(store) {
        return Err(ExportError::NoStore { path: store.clone() });
    }
    if options.file.exists() {
        return Err(ExportError::Exists { path: options.file.clone() });
    }
    let scan = Scan::open(&options.store).map_err(|error| match error {
        OpenError::Locked { path } => ExportError::InUse { path },
        error => ExportError::Open(error),
    })?;
    let header = Header {
        id: random_bytes(),
        made_at: clock.now(),
        fingerprint: options.fingerprint,
        source: store.display().to_string(),
    };
    let draft = draft(&options.file);
    let written = write(&scan, &draft, &options.file, header, monitor);
    if written.is_err()
        && let Err(error) = fs::remove_file(&draft)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, file = %draft.display(), "an unfinished export is left");
    }
    written
}

/// Where the export is while it is not complete.
fn draft(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn write(
    scan: &Scan,
    draft: &Path,
    path: &Path,
    header: Header,
    monitor: &Monitor,
) -> Result<Exported, ExportError> {
    let io = |source| ExportError::Io { path: path.to_owned(), source };
    // It holds hashes of credentials and everybody's mail, sealed as it is.
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(draft).map_err(io)?;
    let mut writer = Writer::new(BufWriter::with_capacity(BUFFER_BYTES, file), &header).map_err(io)?;
    let mut expired = 0;
    for record in records(scan) {
        if monitor.is_stopping() {
            return Err(ExportError::Stopped);
        }
        let record = record?;
        if record.has_expired(header.made_at) {
            expired += 1;
            continue;
        }
        writer.push(&record).map_err(io)?;
        monitor.advance(1, writer.offset());
    }
    let (buffer, totals) = writer.finish().map_err(io)?;
    let file = buffer.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    fs::rename(draft, path).map_err(io)?;
    sync_folder(path).map_err(io)?;
    Ok(Exported { header, totals, expired, bytes })
}

/// Everything in a store, in the order of [`super::Section`].
fn records(scan: &Scan) -> impl Iterator<Item = Result<Record, StoreError>> {
    let accounts = scan.accounts().map(|account| account.map(Record::Account));
    let claims = scan.claims().map(|claim| claim.map(Record::Claim));
    let directory =
        scan.directory().map(|entry| entry.map(|(number, account)| Record::Directory { number, account }));
    let keys = scan.keys().map(|keys| keys.map(|(device, keys)| Record::Keys { device, keys }));
    let settled =
        scan.settled().map(|settled| settled.map(|(mailbox, settled)| Record::Settled { mailbox, settled }));
    let verifications = scan.verifications().map(|session| session.map(Record::Verification));
    let messages =
        scan.messages().map(|message| message.map(|(mailbox, message)| Record::Message { mailbox, message }));
    accounts.chain(claims).chain(directory).chain(keys).chain(settled).chain(verifications).chain(messages)
}

/// Makes the name of a file survive.
pub(super) fn sync_folder(file: &Path) -> io::Result<()> {
    match file.canonicalize()?.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
