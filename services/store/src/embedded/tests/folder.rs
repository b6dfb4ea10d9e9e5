//! Opening: new, again, in use, foreign, from the future.

use std::fs;
use std::path::Path;

use spillway_types::MailboxId;

use super::{generator, message, put, read, try_open};
use crate::{OpenError, StoreError};

async fn open_and_close(path: &Path) {
    let (_, handle) = try_open(path).unwrap();
    handle.close().await;
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/new");
    let (mailbox, ids) = (MailboxId::random(), generator());
    let mut stored = Vec::new();
    for _ in 0..3 {
        let (store, handle) = try_open(&path).unwrap();
        assert_eq!(read(&store, mailbox).await, stored);
        for _ in 0..20 {
            stored.push(message(&ids, 300));
            put(&store, mailbox, stored.last().unwrap()).await.unwrap();
        }
        // Closed by dropping, while the store's handles are still held.
        drop(handle);
        let late = put(&store, mailbox, &message(&ids, 1)).await;
        assert!(matches!(late, Err(StoreError::Stopped(_))), "{late:?}");
    }
}

#[tokio::test]
async fn a_store_of_before_there_were_leases_gets_them() {
    let folder = tempfile::tempdir().unwrap();
    let (mailbox, ids) = (MailboxId::random(), generator());
    let stored = message(&ids, 300);
    {
        let (store, handle) = try_open(folder.path()).unwrap();
        put(&store, mailbox, &stored).await.unwrap();
        drop(store);
        handle.close().await;
    }
    {
        let database = fjall::Database::builder(folder.path().join("db")).open().unwrap();
        let leases = database.keyspace("leases", Default::default).unwrap();
        database.delete_keyspace(leases).unwrap();
    }
    let (store, _handle) = try_open(folder.path()).unwrap();
    assert_eq!(read(&store, mailbox).await, [stored]);
    assert_eq!(store.leases.get("control").await.unwrap(), None);
}

#[tokio::test]
async fn a_store_in_use_is_refused_until_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, handle) = try_open(folder.path()).unwrap();
    let second = try_open(folder.path());
    assert!(matches!(second, Err(OpenError::Locked { .. })), "{second:?}");
    handle.close().await;
    open_and_close(folder.path()).await;
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    open_and_close(folder.path()).await;
    let format = folder.path().join("format");
    fs::write(&format, "spillway-store 2\n").unwrap();
    let opened = try_open(folder.path());
    assert!(matches!(opened, Err(OpenError::NewerFormat { found: 2, supported: 1, .. })), "{opened:?}");
    fs::write(&format, "spillway-store 1\n").unwrap();
    open_and_close(folder.path()).await;
}

#[test]
fn a_folder_of_something_else_is_refused_and_left_alone() {
    let named = |name| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), "1 2 3").unwrap();
        folder
    };
    for folder in [named("holiday.jpg"), named("format"), named("db")] {
        let opened = try_open(folder.path());
        assert!(matches!(opened, Err(OpenError::NotAStore { .. })), "{opened:?}");
        assert!(!folder.path().join("db/keyspaces").exists());
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let opened = try_open(file.path());
    assert!(matches!(opened, Err(OpenError::NotAStore { .. })), "{opened:?}");
}

#[tokio::test]
async fn a_new_volume_is_not_something_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    open_and_close(folder.path()).await;
}

#[tokio::test]
async fn a_store_that_was_never_finished_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    open_and_close(folder.path()).await;
    // As a process leaves it that dies before the last step.
    fs::rename(folder.path().join("format"), folder.path().join("format.draft")).unwrap();
    fs::remove_file(folder.path().join("db/version")).unwrap();
    open_and_close(folder.path()).await;
}
