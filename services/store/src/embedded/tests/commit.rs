//! What callers are told, and when, about a group's way to the disk.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use prometheus::Registry;
use spillway_types::{MailboxId, SystemClock};
use tokio::sync::mpsc as async_mpsc;
use tokio::task::JoinSet;

use super::super::committer::Commit;
use super::super::{EmbeddedHandle, Failure, open_with};
use super::{config, generator, message, put, read, try_open};
use crate::mailboxes::Usage;
use crate::{Store, StoreError};

/// A disk whose syncs wait for the test.
struct SlowDisk {
    syncs: async_mpsc::Receiver<()>,
    go_on: mpsc::Sender<()>,
}

fn open_on(path: &Path, commit: Commit) -> (Store, EmbeddedHandle) {
    open_with(&config(path), &Registry::new(), Arc::new(SystemClock), commit).unwrap()
}

fn slow_disk(path: &Path) -> (Store, EmbeddedHandle, SlowDisk) {
    let (began, syncs) = async_mpsc::channel(1_000);
    let (go_on, goes_on) = mpsc::channel();
    let commit: Commit = Box::new(move |group| {
        began.blocking_send(()).unwrap_or_default();
        // Syncs no longer wait when the test has dropped its side.
        goes_on.recv().unwrap_or_default();
        group.commit()
    });
    let (store, handle) = open_on(path, commit);
    (store, handle, SlowDisk { syncs, go_on })
}

#[tokio::test]
async fn nothing_is_answered_or_read_before_the_sync() {
    let folder = tempfile::tempdir().unwrap();
    let (store, handle, mut disk) = slow_disk(folder.path());
    let (mailbox, message) = (MailboxId::random(), message(&generator(), 10));
    let mut write = Box::pin(put(&store, mailbox, &message));
    tokio::select! {
        biased;
        answer = &mut write => panic!("answered before the sync: {answer:?}"),
        _ = disk.syncs.recv() => {}
    }
    assert_eq!(read(&store, mailbox).await, []);
    disk.go_on.send(()).unwrap();
    assert!(write.await.is_ok());
    assert_eq!(read(&store, mailbox).await, [message]);
    handle.close().await;
}

#[tokio::test]
async fn writes_that_wait_for_a_sync_share_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (store, handle, mut disk) = slow_disk(folder.path());
    let (mailbox, ids) = (MailboxId::random(), generator());
    let mut writes = JoinSet::new();
    let queued = Arc::new(AtomicUsize::new(0));
    let mut spawn = || {
        let (store, message, queued) = (store.clone(), message(&ids, 10), Arc::clone(&queued));
        writes.spawn(async move {
            let mut put = pin!(put(&store, mailbox, &message));
            let first = std::future::poll_fn(|context| Poll::Ready(put.as_mut().poll(context))).await;
            assert!(first.is_pending(), "answered before the sync");
            queued.fetch_add(1, Ordering::SeqCst);
            put.await.unwrap();
        });
    };
    spawn();
    disk.syncs.recv().await.unwrap();
    (0..100).for_each(|_| spawn());
    // A turn of the runtime ends before it has run so many tasks.
    let all_queued = async {
        while queued.load(Ordering::SeqCst) < 101 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_queued).await.expect("a write was not queued");
    disk.go_on.send(()).unwrap();
    disk.syncs.recv().await.unwrap();
    disk.go_on.send(()).unwrap();
    assert_eq!(writes.join_all().await.len(), 101);
    assert!(disk.syncs.is_empty(), "a third sync was needed");
    drop(disk);
    handle.close().await;
}

#[tokio::test]
async fn a_write_that_lost_its_caller_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (store, handle, mut disk) = slow_disk(folder.path());
    let (mailbox, ids) = (MailboxId::random(), generator());
    let (lost, next) = (message(&ids, 10), message(&ids, 20));
    {
        let mut write = Box::pin(put(&store, mailbox, &lost));
        tokio::select! {
            biased;
            answer = &mut write => panic!("answered before the sync: {answer:?}"),
            _ = disk.syncs.recv() => {}
        }
    }
    drop(disk);
    let usage = Usage { messages: 2, bytes: lost.size() + next.size() };
    assert_eq!(put(&store, mailbox, &next).await.unwrap(), usage);
    assert_eq!(read(&store, mailbox).await, [lost, next]);
    handle.close().await;
}

#[tokio::test]
async fn closing_finishes_what_was_queued() {
    let folder = tempfile::tempdir().unwrap();
    let (store, handle, mut disk) = slow_disk(folder.path());
    let (mailbox, ids) = (MailboxId::random(), generator());
    let (first, second) = (message(&ids, 10), message(&ids, 10));
    let mut writes =
        Box::pin(async { tokio::join!(put(&store, mailbox, &first), put(&store, mailbox, &second)) });
    tokio::select! {
        biased;
        _ = &mut writes => panic!("answered before the sync"),
        _ = disk.syncs.recv() => {}
    }
    drop(disk);
    handle.close().await;
    let answers = writes.await;
    assert!(matches!(answers, (Ok(_), Ok(_))), "{answers:?}");
    let after = put(&store, mailbox, &message(&ids, 10)).await;
    assert!(matches!(&after, Err(StoreError::Stopped(reason)) if reason == "it was closed"), "{after:?}");
    let (store, handle) = try_open(folder.path()).unwrap();
    assert_eq!(read(&store, mailbox).await, [first, second]);
    handle.close().await;
}

#[tokio::test]
async fn a_failed_sync_stops_the_store_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let is_failing = Arc::clone(&fails);
    let commit: Commit = Box::new(move |group| {
        if is_failing.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk did not answer").into());
        }
        group.commit()
    });
    let (store, handle) = open_on(folder.path(), commit);
    let (mailbox, ids) = (MailboxId::random(), generator());
    let kept = message(&ids, 10);
    put(&store, mailbox, &kept).await.unwrap();

    let mut failed = Box::pin(handle.failed());
    assert!(std::future::poll_fn(|context| Poll::Ready(failed.as_mut().poll(context).is_pending())).await);
    fails.store(true, Ordering::SeqCst);
    let mut writes = JoinSet::new();
    for _ in 0..20 {
        let (store, message) = (store.clone(), message(&ids, 10));
        writes.spawn(async move { put(&store, mailbox, &message).await });
    }
    for answer in writes.join_all().await {
        assert!(
            matches!(&answer, Err(StoreError::Stopped(reason)) if reason.contains("synced")),
            "{answer:?}"
        );
    }
    let failure = failed.await;
    assert!(matches!(&failure, Failure::Sync { .. }), "{failure:?}");
    let cause = std::error::Error::source(&failure).unwrap().to_string();
    assert_eq!(cause, "the disk did not answer");

    // A disk that comes back is not trusted before a restart.
    fails.store(false, Ordering::SeqCst);
    let later = store.mailboxes.delete(mailbox, &[kept.id], kept.id.time()).await;
    assert!(matches!(later, Err(StoreError::Stopped(_))), "{later:?}");
    let later = store.mailboxes.settled(mailbox).await;
    assert!(matches!(later, Err(StoreError::Stopped(_))), "{later:?}");
    handle.close().await;
    let (store, handle) = try_open(folder.path()).unwrap();
    assert_eq!(read(&store, mailbox).await, [kept]);
    handle.close().await;
}

#[tokio::test]
async fn a_full_disk_in_the_middle_of_a_write_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let commit: Commit = Box::new(|_| Err(io::Error::from(io::ErrorKind::StorageFull).into()));
    let (store, handle) = open_on(folder.path(), commit);
    put(&store, MailboxId::random(), &message(&generator(), 10)).await.unwrap_err();
    let failure = handle.failed().await;
    assert!(matches!(failure, Failure::DiskFull { .. }), "{failure:?}");
}

#[tokio::test]
async fn a_panic_while_committing_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let commits = AtomicUsize::new(0);
    let commit: Commit = Box::new(move |group| {
        assert!(commits.fetch_add(1, Ordering::SeqCst) == 0, "this panic is part of the test");
        group.commit()
    });
    let (store, handle) = open_on(folder.path(), commit);
    let (mailbox, ids) = (MailboxId::random(), generator());
    put(&store, mailbox, &message(&ids, 10)).await.unwrap();
    let answer = put(&store, mailbox, &message(&ids, 10)).await;
    assert!(matches!(&answer, Err(StoreError::Stopped(reason)) if reason.contains("panicked")), "{answer:?}");
    assert!(matches!(handle.failed().await, Failure::Panicked { .. }));
    handle.close().await;
}
