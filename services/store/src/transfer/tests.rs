mod population;

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use prometheus::Registry;
use spillway_types::{AccountId, Clock, MailboxId, MessageId, NumberMac, SystemClock, TestClock, Timestamp};
use tempfile::TempDir;

use super::*;
use crate::accounts::{Account, NumberClaim, Version};
use crate::directory::{PutLog, WalkPage, WalkPosition};
use crate::embedded::{self, Config, EmbeddedHandle};
use crate::keys::{KeyUpload, OneTimePreKey};
use crate::mailboxes::{PageLimit, Put, StoredMessage};
use crate::{Cas, Directory, Store, StoreError};
use population::{Population, ROOMY};
use progress::{Progress, ProgressFile};

const FINGERPRINT: [u8; 32] = [5; 32];

/// An exported store, and a folder for everything else.
struct World {
    folder: TempDir,
    clock: TestClock,
    population: Population,
    exported: Exported,
}

impl World {
    async fn new(accounts: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::at(SystemClock.now());
        let (store, handle) = open(&folder.path().join("source"));
        let population = Population::put(&store, &clock, accounts).await;
        handle.close().await;
        let exported = export(&folder.path().join("source"), &folder.path().join("moved"), &clock).unwrap();
        Self { folder, clock, population, exported }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self) -> ImportOptions {
        let options = ImportOptions::new(&self.path("moved"), "the destination");
        ImportOptions { concurrency: 8, save_every: Duration::ZERO, ..options }
    }

    async fn import(&self, store: &Store) -> Result<Imported, ImportError> {
        import(&self.options(), store, &self.clock, &Monitor::default()).await
    }

    /// The totals of another store, by exporting it as well.
    fn totals(&self, store: &str) -> Sections<Total> {
        export(&self.path(store), &self.path(&format!("{store} again")), &self.clock).unwrap().totals
    }

    fn forget_progress(&self) {
        std::fs::remove_file(self.path("moved.progress")).unwrap();
    }
}

fn config(path: &Path) -> Config {
    Config { path: path.to_owned(), cache_bytes: 1 << 20, reserve_bytes: 0 }
}

fn open(path: &Path) -> (Store, EmbeddedHandle) {
    embedded::open(&config(path), &Registry::new(), Arc::new(SystemClock)).unwrap()
}

fn export(store: &Path, file: &Path, clock: &dyn Clock) -> Result<Exported, ExportError> {
    let options = ExportOptions { store: config(store), file: file.to_owned(), fingerprint: FINGERPRINT };
    super::export(&options, clock, &Monitor::default())
}

fn stored(imported: &Imported) -> u64 {
    imported.tallies.iter().map(|(_, tally)| tally.stored).sum()
}

fn records(totals: &Sections<Total>) -> u64 {
    totals.iter().map(|(_, total)| total.records).sum()
}

/// Everything in a mailbox, whatever its age.
async fn read(store: &Store, mailbox: MailboxId) -> Vec<StoredMessage> {
    let all = PageLimit { messages: usize::MAX, bytes: usize::MAX };
    store.mailboxes.page(mailbox, MessageId::MIN, all, Timestamp::ZERO).await.unwrap().messages
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives() {
    let world = World::new(12).await;
    let expected = world.population.counts();
    for (section, total) in world.exported.totals.iter() {
        assert_eq!(total.records, expected[section], "{section:?}");
        assert_ne!(total.records, 0, "{section:?}");
    }
    assert_eq!(world.exported.expired, world.population.expired);
    assert_eq!(header(&world.path("moved")).unwrap(), world.exported.header);

    let (store, handle) = open(&world.path("destination"));
    let imported = world.import(&store).await.unwrap();
    assert!(imported.is_equal(), "{imported:?}");
    assert_eq!(imported.totals, world.exported.totals);
    assert_eq!(stored(&imported), records(&imported.totals));
    for (section, sides) in imported.verified.unwrap().sections.iter() {
        assert_eq!([sides.source, sides.destination], [imported.totals[section]; 2]);
    }
    for account in &world.population.accounts {
        assert_eq!(store.accounts.get(account.id).await.unwrap().as_ref(), Some(account));
    }
    handle.close().await;
    assert_eq!(world.totals("destination"), world.exported.totals);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_anywhere_goes_on() {
    let world = World::new(3).await;
    let all = records(&world.exported.totals);
    for killed_after in (0..all).step_by(8) {
        let name = format!("killed after {killed_after}");
        let (store, handle) = open(&world.path(&name));
        let monitor = Monitor::default();
        let (is_killed, options) = (killed(&monitor, killed_after), world.options());
        tokio::select! {
            biased;
            () = is_killed => {}
            // It was faster than the watcher.
            done = import(&options, &store, &world.clock, &monitor) => assert!(done.unwrap().is_equal()),
        }
        let imported = world.import(&store).await.unwrap();
        assert!(imported.is_equal(), "{name}: {imported:?}");
        assert!(stored(&imported) <= all - killed_after, "{name}: {imported:?}");
        assert_eq!(imported.resumed_at > 0, killed_after > 0);
        handle.close().await;
        assert_eq!(world.totals(&name), world.exported.totals, "{name}");
        world.forget_progress();
    }
}

/// Resolves when an import has written so many records.
async fn killed(monitor: &Monitor, records: u64) {
    poll_fn(|context| {
        let is_there = monitor.phase() == Phase::Importing && monitor.records() >= records;
        if is_there || monitor.phase() == Phase::Verifying {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_import_goes_on() {
    let world = World::new(3).await;
    let (store, handle) = open(&world.path("destination"));
    let monitor = Monitor::default();
    monitor.stop();
    let stopped = import(&world.options(), &store, &world.clock, &monitor).await;
    assert!(matches!(stopped, Err(ImportError::Stopped)), "{stopped:?}");
    assert!(world.import(&store).await.unwrap().is_equal());
    handle.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_reported_and_kept() {
    let world = World::new(5).await;
    let population = &world.population;
    let (store, handle) = open(&world.path("destination"));
    let other = AccountId::random();

    let account = Account { version: Version::FIRST, discoverable: false, ..population.accounts[0].clone() };
    assert_eq!(store.accounts.put(&account, None).await.unwrap(), Cas::Applied);
    let equal = population.accounts[1].clone();
    assert_eq!(store.accounts.put(&equal, None).await.unwrap(), Cas::Applied);
    let claim = NumberClaim { number: population.accounts[0].number, account: other };
    store.accounts.claim(claim).await.unwrap();
    store.directory.put(claim.number, other).await.unwrap();
    let (device, later) = (population.accounts[0].devices[0].mailbox, world.clock.now());
    let key = OneTimePreKey { key_id: 1, public_key: Bytes::from_static(b"another") };
    let keys = KeyUpload { one_time: vec![key], ..KeyUpload::default() };
    store.keys.upload(device, &keys, 1).await.unwrap();
    store.mailboxes.raise_settled(device, later).await.unwrap();
    let session = population.sessions[0].clone();
    let changed = crate::verifications::Verification { checks: session.checks + 1, ..session };
    assert_eq!(store.verifications.put(&changed, None).await.unwrap(), Cas::Applied);
    let (mailbox, message) = population.messages[0].clone();
    let message = StoredMessage { envelope: Bytes::from_static(b"another"), ..message };
    let put = store.mailboxes.put(mailbox, message.clone(), ROOMY).await.unwrap();
    assert!(matches!(put, Put::Stored(_)));

    let imported = world.import(&store).await.unwrap();
    assert!(!imported.is_equal());
    // That a message differs is seen when it is read back.
    assert_eq!(imported.conflicts.count(), 6, "{imported:?}");
    let differences = imported.verified.unwrap().differences;
    assert_eq!(differences.count(), 7, "{differences:?}");
    assert!(differences.named().contains(&format!("account {} differs", account.id)));
    assert!(differences.named().contains(&format!("message {} in mailbox {mailbox} differs", message.id)));

    assert_eq!(store.accounts.get(account.id).await.unwrap(), Some(account));
    assert_eq!(store.accounts.claimed(&claim.number).await.unwrap(), Some(claim));
    assert_eq!(store.directory.lookup(&[claim.number]).await.unwrap(), [Some(other)]);
    assert_eq!(store.keys.stored(device).await.unwrap(), keys);
    assert_eq!(store.mailboxes.settled(device).await.unwrap(), later);
    assert_eq!(store.verifications.get(changed.id).await.unwrap(), Some(changed));
    assert!(read(&store, mailbox).await.contains(&message));
    handle.close().await;
}

/// A one-time key that the destination has given away must not come back. After a crash it may just not have arrived.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_filled_up_only_after_an_interruption() {
    let world = World::new(2).await;
    let (store, handle) = open(&world.path("destination"));
    let (device, keys) = world.population.keys[0].clone();
    let part = KeyUpload { one_time: keys.one_time[1..].to_vec(), ..keys.clone() };
    store.keys.upload(device, &part, usize::MAX).await.unwrap();
    let imported = world.import(&store).await.unwrap();
    assert_eq!(imported.conflicts.named(), [format!("keys of mailbox {device}")]);
    assert_eq!(store.keys.stored(device).await.unwrap(), part);

    // As a process leaves it that dies before its first record is answered.
    world.forget_progress();
    let options = world.options();
    let progress = ProgressFile::new(&options.file, &world.exported.header, &options.destination);
    progress.write(Progress::default()).unwrap();
    let imported = world.import(&store).await.unwrap();
    assert!(imported.is_equal(), "{imported:?}");
    assert_eq!(store.keys.stored(device).await.unwrap(), keys);
    handle.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_complete_writes_nothing_again() {
    let world = World::new(3).await;
    let (store, handle) = open(&world.path("destination"));
    assert!(world.import(&store).await.unwrap().is_equal());
    let (mailbox, message) = world.population.messages[0].clone();
    store.mailboxes.delete(mailbox, &[message.id], world.clock.now()).await.unwrap();
    let again = world.import(&store).await.unwrap();
    assert_eq!(stored(&again), 0);
    let missing = format!("message {} in mailbox {mailbox} is missing", message.id);
    assert_eq!(again.verified.as_ref().unwrap().differences.named(), [missing]);
    assert!(!again.is_equal());
    handle.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_on_the_way_is_no_difference() {
    let world = World::new(3).await;
    world.clock.advance(crate::mailboxes::RETENTION + Duration::from_secs(1));
    let (store, handle) = open(&world.path("destination"));
    let imported = world.import(&store).await.unwrap();
    assert!(imported.is_equal(), "{imported:?}");
    let expected = world.population.counts();
    for section in [Section::Messages, Section::Verifications] {
        assert_eq!(imported.tallies[section].expired, expected[section]);
        assert_eq!(imported.verified.as_ref().unwrap().sections[section].expired, expected[section]);
    }
    assert_eq!(read(&store, world.population.messages[0].0).await, []);
    handle.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_is_not_exported() {
    let folder = tempfile::tempdir().unwrap();
    let (store, file) = (folder.path().join("store"), folder.path().join("moved"));
    let (_, handle) = open(&store);
    let refused = export(&store, &file, &SystemClock);
    assert!(matches!(refused, Err(ExportError::InUse { .. })), "{refused:?}");
    handle.close().await;
    export(&store, &file, &SystemClock).unwrap();
    let refused = export(&store, &file, &SystemClock);
    assert!(matches!(refused, Err(ExportError::Exists { .. })), "{refused:?}");
}

#[test]
fn no_store_is_made_to_export_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let refused = export(&store, &folder.path().join("moved"), &SystemClock);
    assert!(matches!(refused, Err(ExportError::NoStore { .. })), "{refused:?}");
    assert!(!store.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_from_a_damaged_file() {
    let world = World::new(3).await;
    let mut bytes = std::fs::read(world.path("moved")).unwrap();
    let last_message = bytes.len() - 300;
    bytes[last_message] ^= 1;
    std::fs::write(world.path("moved"), bytes).unwrap();
    let (store, handle) = open(&world.path("destination"));
    let refused = world.import(&store).await;
    assert!(
        matches!(refused, Err(ImportError::File { source: FileError::Damaged { .. }, .. })),
        "{refused:?}"
    );
    assert_eq!(store.accounts.get(world.population.accounts[0].id).await.unwrap(), None);
    handle.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_belongs_to_one_export_and_one_destination() {
    let world = World::new(1).await;
    let (store, handle) = open(&world.path("destination"));
    world.import(&store).await.unwrap();
    let elsewhere = ImportOptions { destination: "another\nplace".to_owned(), ..world.options() };
    let refused = import(&elsewhere, &store, &world.clock, &Monitor::default()).await;
    assert!(
        matches!(refused, Err(ImportError::Progress(ProgressError::OtherDestination { .. }))),
        "{refused:?}"
    );
    handle.close().await;

    std::fs::remove_file(world.path("moved")).unwrap();
    export(&world.path("source"), &world.path("moved"), &world.clock).unwrap();
    let (store, handle) = open(&world.path("destination"));
    let refused = world.import(&store).await;
    assert!(matches!(refused, Err(ImportError::Progress(ProgressError::OtherExport { .. }))), "{refused:?}");
    handle.close().await;
}

/// Answers every second call.
#[derive(Debug)]
struct Flaky {
    inner: Arc<dyn Directory>,
    calls: AtomicUsize,
}

impl Flaky {
    fn fail(&self) -> Result<(), StoreError> {
        match self.calls.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Err(StoreError::Unavailable(Arc::new(std::io::Error::other("no answer")))),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Directory for Flaky {
    async fn put(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError> {
        self.inner.put(number, account).await
    }

    async fn remove(&self, number: NumberMac, account: AccountId) -> Result<(), StoreError> {
        self.inner.remove(number, account).await
    }

    async fn lookup(&self, numbers: &[NumberMac]) -> Result<Vec<Option<AccountId>>, StoreError> {
        self.fail()?;
        self.inner.lookup(numbers).await
    }

    async fn walk(&self, from: &WalkPosition, at_most: NonZeroUsize) -> Result<WalkPage, StoreError> {
        self.inner.walk(from, at_most).await
    }

    async fn put_between(&self, from: Timestamp, until: Timestamp) -> Result<PutLog, StoreError> {
        self.inner.put_between(from, until).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_fails_now_and_then_is_asked_again() {
    let world = World::new(4).await;
    let (store, handle) = open(&world.path("destination"));
    let directory = Flaky { inner: Arc::clone(&store.directory), calls: AtomicUsize::new(0) };
    let store = Store { directory: Arc::new(directory), ..store };
    let options = ImportOptions { concurrency: 1, ..world.options() };
    let imported = import(&options, &store, &world.clock, &Monitor::default()).await.unwrap();
    assert!(imported.is_equal(), "{imported:?}");
    handle.close().await;
}
