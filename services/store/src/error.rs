use std::path::PathBuf;

/// Why a read or write did not happen, or may not have.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written, or it is not known whether it was. Repeating is safe.
    #[error("the store did not answer")]
    Unavailable(#[source] std::sync::Arc<dyn std::error::Error + Send + Sync>),
    /// No room. Nothing was written; reads go on.
    #[error("the disk is full")]
    DiskFull,
    /// What is stored cannot be understood: damage, or a bug.
    #[error("a stored {what} cannot be read: {problem}")]
    Corrupt { what: &'static str, problem: String },
    /// The store has stopped for good, because a sync to disk failed or it was closed.
    #[error("the store has stopped: {0}")]
    Stopped(String),
}

/// Why a store could not be opened. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{} is in use by another process; stop it, or give this one another data folder",
        path.display()
    )]
    Locked { path: PathBuf },
    #[error(
        "{} was written by a newer Spillway (format {found}, this one reads up to {supported}); run that version or restore a backup",
        path.display()
    )]
    NewerFormat { path: PathBuf, found: u32, supported: u32 },
    #[error("{} is not a Spillway store: {problem}; give it an empty or new folder", path.display())]
    NotAStore { path: PathBuf, problem: String },
    #[error("no room on the disk of {}; free some space and start again", path.display())]
    DiskFull { path: PathBuf },
    #[error("cannot open {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
