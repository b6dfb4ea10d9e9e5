mod commit;
mod crash;
mod expire;
mod folder;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prometheus::Registry;
use spillway_types::{Guid, MailboxId, MessageId, MessageIdGenerator, SystemClock, Timestamp};

use super::{Config, EmbeddedHandle, open};
use crate::mailboxes::{Capacity, PageLimit, Put, StoredMessage, Usage};
use crate::{OpenError, Store, StoreError, conformance};

const ROOMY: Capacity = Capacity { messages: u64::MAX, bytes: u64::MAX };
const ALL: PageLimit = PageLimit { messages: usize::MAX, bytes: usize::MAX };

fn config(path: &Path) -> Config {
    Config { path: path.to_owned(), cache_bytes: 1 << 20, reserve_bytes: 0 }
}

fn try_open(path: &Path) -> Result<(Store, EmbeddedHandle), OpenError> {
    open(&config(path), &Registry::new(), Arc::new(SystemClock))
}

fn message(ids: &MessageIdGenerator, length: usize) -> StoredMessage {
    StoredMessage { id: ids.mint(), guid: Guid::random(), envelope: Bytes::from(vec![7; length]) }
}

fn generator() -> MessageIdGenerator {
    MessageIdGenerator::new(Arc::new(SystemClock))
}

/// How much the mailbox holds afterwards.
async fn put(store: &Store, mailbox: MailboxId, message: &StoredMessage) -> Result<Usage, StoreError> {
    match store.mailboxes.put(mailbox, message.clone(), ROOMY).await? {
        Put::Stored(usage) => Ok(usage),
        Put::Full => panic!("a mailbox with room was full"),
    }
}

/// Everything in a mailbox, whatever its age.
async fn read(store: &Store, mailbox: MailboxId) -> Vec<StoredMessage> {
    store.mailboxes.page(mailbox, MessageId::MIN, ALL, Timestamp::ZERO).await.unwrap().messages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_conformance_suite_passes() {
    let folder = tempfile::tempdir().unwrap();
    let (store, handle) = try_open(folder.path()).unwrap();
    conformance::run_all(async || store.clone(), conformance::Counting::Exact, 200).await;
    conformance::verifications::expire_forgets_and_counts(&store).await;
    handle.close().await;
}

#[tokio::test]
async fn a_full_disk_refuses_new_data_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (mailbox, ids) = (MailboxId::random(), generator());
    let stored = message(&ids, 100);
    {
        let (store, _handle) = try_open(folder.path()).unwrap();
        put(&store, mailbox, &stored).await.unwrap();
    }
    let full = Config { reserve_bytes: u64::MAX, ..config(folder.path()) };
    let (store, handle) = open(&full, &Registry::new(), Arc::new(SystemClock)).unwrap();
    let refused = put(&store, mailbox, &message(&ids, 100)).await;
    assert!(matches!(refused, Err(StoreError::DiskFull)), "{refused:?}");
    assert_eq!(read(&store, mailbox).await, std::slice::from_ref(&stored));
    store.mailboxes.raise_settled(mailbox, Timestamp::from_millis(1)).await.unwrap();
    store.mailboxes.delete(mailbox, &[stored.id], Timestamp::ZERO).await.unwrap();
    assert_eq!(read(&store, mailbox).await, []);
    handle.close().await;
}

#[tokio::test]
async fn writes_are_counted_by_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let (store, handle) = open(&config(folder.path()), &registry, Arc::new(SystemClock)).unwrap();
    let (mailbox, ids) = (MailboxId::random(), generator());
    put(&store, mailbox, &message(&ids, 1)).await.unwrap();
    handle.close().await;
    put(&store, mailbox, &message(&ids, 1)).await.unwrap_err();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        "spillway_store_operations_total{operation=\"message_put\",outcome=\"ok\"} 1",
        "spillway_store_operations_total{operation=\"message_put\",outcome=\"stopped\"} 1",
        "spillway_store_group_operations_count 1",
        "spillway_store_commit_seconds_count 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
