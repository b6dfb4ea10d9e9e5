//! What is left after a process or a machine stopped without warning.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use spillway_types::{MailboxId, random_bytes};
use tokio::task::JoinSet;

use super::super::journal::read_written;
use super::{generator, message, put, read, try_open};
use crate::OpenError;
use crate::mailboxes::StoredMessage;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A copy made in the middle of writing is what `kill -9` leaves: what was written so far, whole or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_while_writing_holds_all_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (store, handle) = try_open(folder.path()).unwrap();
    let mailbox = MailboxId::random();
    let answered = Arc::new(Mutex::new(Vec::new()));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let (store, answered, is_over) = (store.clone(), Arc::clone(&answered), Arc::clone(&is_over));
        let ids = generator();
        writers.spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                let message = message(&ids, 700);
                put(&store, mailbox, &message).await.unwrap();
                answered.lock().unwrap().push(message.id);
            }
        });
    }
    for round in 0..4 {
        while answered.lock().unwrap().len() < 50 * (round + 1) {
            tokio::task::yield_now().await;
        }
        let expected = answered.lock().unwrap().clone();
        let crashed = tempfile::tempdir().unwrap();
        copy(folder.path(), crashed.path());
        let (store, handle) = try_open(crashed.path()).unwrap();
        let read: Vec<_> = read(&store, mailbox).await.into_iter().map(|message| message.id).collect();
        let lost = expected.iter().filter(|id| !read.contains(id)).count();
        assert_eq!(lost, 0, "of {} answered", expected.len());
        handle.close().await;
    }
    is_over.store(true, Ordering::SeqCst);
    writers.join_all().await;
    handle.close().await;
}

/// A closed store with ten messages, each in a batch of its own.
struct Closed {
    folder: tempfile::TempDir,
    mailbox: MailboxId,
    messages: Vec<StoredMessage>,
    /// Where the batch of each message ends in the journal.
    ends: Vec<usize>,
}

impl Closed {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, handle) = try_open(folder.path()).unwrap();
        let (mailbox, ids) = (MailboxId::random(), generator());
        let messages: Vec<_> = (0..10).map(|_| message(&ids, 5_000)).collect();
        let mut ends = Vec::new();
        for message in &messages {
            put(&store, mailbox, message).await.unwrap();
            ends.push(read_written(&journal(folder.path())).unwrap().len());
        }
        handle.close().await;
        Self { folder, mailbox, messages, ends }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The bytes of the last batch.
    fn last_batch(&self) -> Vec<u8> {
        fs::read(journal(self.path())).unwrap()[self.ends[8]..self.ends[9]].to_vec()
    }

    fn overwrite(&self, at: usize, bytes: &[u8]) {
        let mut file = File::options().write(true).open(journal(self.path())).unwrap();
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(bytes).unwrap();
    }

    /// Opens twice, so that what the first opening repaired is seen to last, and writes in between.
    async fn assert_holds(mut self, messages: usize, what: &str) {
        self.messages.truncate(messages);
        for _ in 0..2 {
            let (store, handle) = try_open(self.path()).unwrap();
            assert_eq!(read(&store, self.mailbox).await, self.messages, "{what}");
            self.messages.push(message(&generator(), 100));
            put(&store, self.mailbox, self.messages.last().unwrap()).await.unwrap();
            handle.close().await;
        }
    }
}

fn journal(path: &Path) -> PathBuf {
    let is_journal = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jnl");
    let mut journals: Vec<_> = fs::read_dir(path.join("db"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(is_journal)
        .collect();
    assert_eq!(journals.len(), 1);
    journals.remove(0)
}

#[tokio::test]
async fn a_torn_write_at_the_end_is_cut_off_and_nothing_else() {
    for cut in [1, 5, 13, 14, 40, 5_000, 5_200] {
        let store = Closed::new().await;
        let torn = store.last_batch();
        store.overwrite(store.ends[9], &torn[..cut.min(torn.len() - 1)]);
        store.assert_holds(10, &format!("the first {cut} bytes of a batch")).await;
    }
    let store = Closed::new().await;
    store.overwrite(store.ends[9], &random_bytes::<10_000>());
    store.assert_holds(10, "noise").await;
}

/// Pages of one write may reach the disk in any order, so its end may be there and its middle not.
#[tokio::test]
async fn a_torn_write_without_its_middle_is_cut_off_and_nothing_else() {
    let store = Closed::new().await;
    let mut torn = store.last_batch();
    torn[600..4_000].fill(0);
    store.overwrite(store.ends[9], &torn);
    store.assert_holds(10, "a batch without its middle").await;
}

/// The disk lied: what it said to be synced was not. All before it is kept.
#[tokio::test]
async fn a_journal_that_ends_early_holds_what_is_left() {
    for cut in [1, 100, 5_000] {
        let store = Closed::new().await;
        let file = File::options().write(true).open(journal(store.path())).unwrap();
        file.set_len((store.ends[9] - cut) as u64).unwrap();
        store.assert_holds(9, &format!("a journal {cut} bytes short")).await;
    }
}

/// fjall alone would open here, with all that follows the damage cut off.
#[tokio::test]
async fn damage_before_the_end_is_not_mistaken_for_a_torn_write() {
    for (at, what) in [(0, "the tag of a batch"), (2_000, "a value")] {
        let store = Closed::new().await;
        store.overwrite(store.ends[3] + at, &[0xEE]);
        let before = fs::read(journal(store.path())).unwrap();
        let opened = try_open(store.path());
        let Err(OpenError::Io { source, .. }) = opened else { panic!("damage of {what}: {opened:?}") };
        assert!(source.to_string().contains("damaged"), "{source}");
        assert!(before == fs::read(journal(store.path())).unwrap(), "the journal was changed");
    }
}
