use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spillway_types::{AccountId, Guid, MailboxId, MessageIdGenerator, SystemClock};

use super::number;
use crate::mailboxes::{Capacity, Put, StoredMessage};
use crate::{Store, WriteTotals, Written};

pub async fn all(store: &Store) {
    run!(store;
        each_kind_of_write_is_counted_with_its_time,
    );
}

/// Others may write at the same time, so more than what is done here may be counted.
async fn each_kind_of_write_is_counted_with_its_time(store: &Store) {
    let totals = || [Written::Identity, Written::Mailbox].map(|of| store.writes.totals(of));
    let grew = |now: WriteTotals, before: WriteTotals| {
        let took = now.took.saturating_sub(before.took);
        now.finished > before.finished && took > Duration::ZERO && took < Duration::from_secs(3_600)
    };
    let before = totals();
    let (number, account) = (number(), AccountId::random());
    store.directory.put(number, account).await.unwrap();
    let identity = totals();
    assert!(grew(identity[0], before[0]), "{before:?} {identity:?}");
    let id = MessageIdGenerator::new(Arc::new(SystemClock)).mint();
    let message = StoredMessage { id, guid: Guid::random(), envelope: Bytes::from_static(b"letter") };
    let roomy = Capacity { messages: u64::MAX, bytes: u64::MAX };
    let put = store.mailboxes.put(MailboxId::random(), message, roomy).await.unwrap();
    assert!(matches!(put, Put::Stored(_)));
    let mailbox = totals();
    assert!(grew(mailbox[1], identity[1]), "{identity:?} {mailbox:?}");
    assert_eq!(mailbox[0].failed + mailbox[1].failed, before[0].failed + before[1].failed);
}
