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
    #[error(transparent)]
    Config(#[from] crate::cql::ConfigError),
    #[error("cannot use {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("no database answers at {contact_points}")]
    Unreachable {
        contact_points: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "the database at {contact_points} does not let {} in; check username and password_file",
        username.as_deref().unwrap_or("a client without a name")
    )]
    Credentials { contact_points: String, username: Option<String> },
    #[error("the database did not answer while the store was opened")]
    NoAnswer {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "there is no schema in keyspace {keyspace}; run `spillway schema apply`, or correct keyspace_prefix"
    )]
    NoSchema { keyspace: String },
    #[error(
        "the schema in keyspace {keyspace} is at version {found}, this needs {needed}; run `spillway schema apply`"
    )]
    OlderSchema { keyspace: String, found: u32, needed: u32 },
    #[error(
        "the schema in keyspace {keyspace} was made by a newer Spillway (version {found}, this one knows up to {supported}); run that version"
    )]
    NewerSchema { keyspace: String, found: u32, supported: u32 },
    #[error("step {step} of the schema failed at: {cql}")]
    SchemaStep {
        step: u32,
        cql: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the database has another schema than its version says; it refuses: {cql}")]
    Statement {
        cql: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the store's metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

impl OpenError {
    /// Whether it may pass by itself, so that waiting and trying again makes sense. What an operator has to put right
    /// (settings, credentials, the schema's version) does not.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NoAnswer { .. })
    }
}
