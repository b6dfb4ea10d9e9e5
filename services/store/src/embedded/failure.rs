use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::OpenError;

/// Why a store stopped for good. The text says what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The write or the fsync of a commit failed, or a background write of the database did.
    #[error(
        "a write to {} failed or could not be synced to disk, so no later write can be trusted; \
         check the disk, then restart: everything that was acknowledged is kept",
        path.display()
    )]
    Sync {
        path: PathBuf,
        #[source]
        cause: Arc<dyn Error + Send + Sync>,
    },
    #[error(
        "the disk of {} filled up in spite of the reserve; free some space, then restart: everything that was \
         acknowledged is kept",
        path.display()
    )]
    DiskFull { path: PathBuf },
    #[error("the commit thread of {} panicked, which is a bug; restart: everything that was acknowledged is kept", path.display())]
    Panicked { path: PathBuf },
}

impl Failure {
    pub(super) fn of_commit(path: &Path, error: fjall::Error) -> Self {
        let path = path.to_owned();
        if is_disk_full(&error) {
            return Self::DiskFull { path };
        }
        Self::Sync { path, cause: unwrapped(error).into() }
    }
}

/// The error of an attempt to open the store in `path`.
pub(super) fn open_error(path: &Path, error: fjall::Error) -> OpenError {
    let path = path.to_owned();
    match error {
        fjall::Error::Locked => OpenError::Locked { path },
        error if is_disk_full(&error) => OpenError::DiskFull { path },
        error => OpenError::Io { path, source: unwrapped(error) },
    }
}

pub(super) fn open_io_error(path: &Path, error: io::Error) -> OpenError {
    open_error(path, fjall::Error::Io(error))
}

/// fjall prints its errors in debug form; the operating system's own text reads better.
pub(super) fn unwrapped(error: fjall::Error) -> Box<dyn Error + Send + Sync> {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => error.into(),
        error => error.into(),
    }
}

fn is_disk_full(error: &fjall::Error) -> bool {
    let (fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error))) = error else {
        return false;
    };
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
