use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use spillway_types::Clock;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::differences::Differences;
use super::file::{FileError, Header, Item};
use super::monitor::{Monitor, Phase};
use super::progress::{Progress, ProgressError, ProgressFile};
use super::section::{Section, Sections, Total};
use super::verify::{self, Verified};
use super::write::{self, Outcome, Tally, patiently};
use crate::{Store, StoreError};

/// A conditional write in CQL costs some four round trips between replicas and as many disk syncs as three plain ones.
const CONDITIONAL_SHARE: usize = 4;

#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// The file that [`super::export()`] wrote.
    pub file: PathBuf,
    /// Names the destination, so that an import goes on only where it began.
    pub destination: String,
    /// Records that are written or read at the same time; of conditional writes a quarter.
    pub concurrency: usize,
    /// Read everything back.
    pub verify: bool,
    /// How much work an interruption may repeat.
    pub save_every: Duration,
}

impl ImportOptions {
    pub const CONCURRENCY: usize = 64;

    pub fn new(file: &Path, destination: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            destination: destination.into(),
            concurrency: Self::CONCURRENCY,
            verify: true,
            save_every: Duration::from_secs(1),
        }
    }
}

/// What an import did and found.
#[derive(Clone, Debug)]
pub struct Imported {
    pub header: Header,
    /// Of the file.
    pub totals: Sections<Total>,
    /// Where in the file this run went on, in bytes; 0 when it began.
    pub resumed_at: u64,
    /// What this run wrote.
    pub tallies: Sections<Tally>,
    /// Of this run.
    pub conflicts: Differences,
    /// Of all runs of this import.
    pub conflicts_of_all_runs: u64,
    pub verified: Option<Verified>,
}

impl Imported {
    /// Whether the destination has all that the file has, as far as it was looked at.
    pub fn is_equal(&self) -> bool {
        match &self.verified {
            Some(verified) => verified.is_equal(),
            None => self.conflicts_of_all_runs == 0,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{} cannot be imported", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: FileError,
    },
    #[error(transparent)]
    Progress(#[from] ProgressError),
    /// The import can go on later.
    #[error("the destination failed; run the same command again to go on")]
    Store(#[from] StoreError),
    /// As asked. The import can go on later.
    #[error("stopped; run the same command again to go on")]
    Stopped,
}

/// Writes an export into a store, and shows that it has arrived. Nobody else should use the destination meanwhile: a
/// message that is acknowledged there is missing in the comparison.
///
/// # Errors
///
/// See [`ImportError`]. Nothing has been written when the file is damaged. Conflicts and differences are no errors but
/// part of [`Imported`].
pub async fn import(
    options: &ImportOptions,
    store: &Store,
    clock: &dyn Clock,
    monitor: &Monitor,
) -> Result<Imported, ImportError> {
    let (header, totals) = check(options, monitor).await?;
    let progress_file = ProgressFile::new(&options.file, &header, &options.destination);
    let begun = progress_file.read()?;
    let progress = begun.unwrap_or_default();
    // Before the first write, so that whoever finds half a record knows whose it is.
    progress_file.write(progress)?;

    let mut imported = Imported {
        header,
        totals,
        resumed_at: progress.offset,
        tallies: Sections::default(),
        conflicts: Differences::default(),
        conflicts_of_all_runs: progress.conflicts,
        verified: None,
    };
    let import = Import { options, store, clock, monitor, progress_file, may_be_partial: begun.is_some() };
    if !progress.is_written {
        import.write_all(progress, &mut imported).await?;
    }
    if options.verify {
        let verified = verify::verify(options, store, clock, monitor).await?;
        imported.verified = Some(verified);
    }
    Ok(imported)
}

async fn check(options: &ImportOptions, monitor: &Monitor) -> Result<(Header, Sections<Total>), ImportError> {
    let (path, monitor) = (options.file.clone(), monitor.clone());
    // It does nothing but read, so whoever shows the progress would not get a turn.
    let checked = tokio::task::spawn_blocking(move || read_all(&path, &monitor)).await;
    let checked = checked.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
    checked.map_err(|error| file_error(options, error))?.ok_or(ImportError::Stopped)
}

/// `None`: it was told to stop.
fn read_all(path: &Path, monitor: &Monitor) -> Result<Option<(Header, Sections<Total>)>, FileError> {
    monitor.begin(Phase::Checking);
    let mut reader = super::open(path)?;
    while let Some(item) = reader.next()? {
        if monitor.is_stopping() {
            return Ok(None);
        }
        monitor.advance(1, item.end);
    }
    let header = reader.header().clone();
    Ok(Some((header, reader.into_totals().expect("nothing was skipped"))))
}

pub(super) fn file_error(options: &ImportOptions, source: FileError) -> ImportError {
    ImportError::File { path: options.file.clone(), source }
}

struct Import<'a> {
    options: &'a ImportOptions,
    store: &'a Store,
    clock: &'a dyn Clock,
    monitor: &'a Monitor,
    progress_file: ProgressFile,
    may_be_partial: bool,
}

struct Written {
    section: Section,
    outcome: Outcome,
    name: Option<String>,
    end: u64,
}

impl Import<'_> {
    async fn write_all(&self, from: Progress, imported: &mut Imported) -> Result<(), ImportError> {
        self.monitor.begin(Phase::Importing);
        let fail = |error| file_error(self.options, error);
        let mut reader = super::open(&self.options.file).map_err(fail)?;
        reader.skip_to(from.offset).map_err(fail)?;
        let conditional = Semaphore::new(self.options.concurrency.div_ceil(CONDITIONAL_SHARE));
        // Answers come out in the order of the file, so the last one is how far everything has been written.
        let mut running = FuturesOrdered::new();
        let mut progress = from;
        let mut saved_at = Instant::now();
        let mut is_exhausted = false;
        let ended = loop {
            while running.len() < self.options.concurrency.max(1)
                && !is_exhausted
                && !self.monitor.is_stopping()
            {
                match reader.next().map_err(fail)? {
                    Some(item) => running.push_back(self.write_one(item, &conditional)),
                    None => is_exhausted = true,
                }
            }
            let written = match running.next().await {
                Some(Ok(written)) => written,
                Some(Err(error)) => break Err(ImportError::Store(error)),
                None if is_exhausted => break Ok(()),
                None => break Err(ImportError::Stopped),
            };
            progress.offset = written.end;
            imported.tallies[written.section].add(written.outcome);
            if let Some(name) = written.name {
                progress.conflicts += 1;
                imported.conflicts.add(|| name);
            }
            self.monitor.advance(1, progress.offset);
            if saved_at.elapsed() >= self.options.save_every {
                self.progress_file.write(progress)?;
                saved_at = Instant::now();
            }
        };
        progress.is_written = ended.is_ok();
        self.progress_file.write(progress)?;
        imported.conflicts_of_all_runs = progress.conflicts;
        ended
    }

    async fn write_one(&self, item: Item, conditional: &Semaphore) -> Result<Written, StoreError> {
        let Item { record, end } = item;
        let section = record.section();
        let _turn = match section {
            Section::Accounts | Section::Claims | Section::Keys | Section::Verifications => {
                Some(conditional.acquire().await.expect("the semaphore is never closed"))
            }
            Section::Directory | Section::Settled | Section::Messages => None,
        };
        let write = || write::write(self.store, &record, self.clock.now(), self.may_be_partial);
        let outcome = patiently(self.monitor, write).await?;
        let name = (outcome == Outcome::Conflict).then(|| record.name());
        Ok(Written { section, outcome, name, end })
    }
}
