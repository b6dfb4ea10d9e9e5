use std::sync::Arc;
use std::time::Duration;

use spillway_types::{Clock, MailboxId, MessageIdGenerator, TestClock, Timestamp};

use super::{message, put, read, try_open};
use crate::mailboxes::RETENTION;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// More mailboxes, days and messages than one step takes, most of them read and deleted before.
#[tokio::test]
async fn expire_finds_every_message_that_is_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let (store, handle) = try_open(folder.path()).unwrap();
    let clock = TestClock::default();
    let ids = MessageIdGenerator::new(Arc::new(clock.clone()));
    let mailboxes: Vec<_> = (0..100).map(|_| MailboxId::random()).collect();
    let mut undelivered = 0;
    for _ in 0..3 {
        for (index, mailbox) in mailboxes.iter().enumerate() {
            let message = message(&ids, 10);
            put(&store, *mailbox, &message).await.unwrap();
            if index % 10 == 0 {
                undelivered += 1;
            } else {
                store.mailboxes.delete(*mailbox, &[message.id], clock.now()).await.unwrap();
            }
        }
        clock.advance(DAY);
    }
    let many = mailboxes[0];
    for _ in 0..2_500 {
        // Committed in order, so one caller is enough.
        put(&store, many, &message(&ids, 1)).await.unwrap();
    }
    undelivered += 2_500;
    clock.advance(DAY * 2);
    let young = message(&ids, 10);
    put(&store, many, &young).await.unwrap();

    assert_eq!(store.mailboxes.expire(Timestamp::ZERO).await.unwrap(), 0);
    assert_eq!(store.mailboxes.expire(clock.now()).await.unwrap(), 0);
    clock.advance(RETENTION - DAY);
    let mut expired = 0;
    let mut calls = 0;
    loop {
        calls += 1;
        match store.mailboxes.expire(clock.now()).await.unwrap() {
            0 => break,
            some => expired += some,
        }
    }
    assert_eq!(expired, undelivered);
    assert!(calls > 2, "a call took all at once");
    for mailbox in &mailboxes[1..] {
        assert_eq!(read(&store, *mailbox).await, []);
    }
    assert_eq!(read(&store, many).await, std::slice::from_ref(&young));
    let usage = put(&store, many, &young).await.unwrap();
    assert_eq!((usage.messages, usage.bytes), (1, young.size()));

    // A message that arrives for a day that was expired before is found too.
    let clock = TestClock::default();
    let late = message(&MessageIdGenerator::new(Arc::new(clock.clone())), 10);
    put(&store, mailboxes[1], &late).await.unwrap();
    assert_eq!(store.mailboxes.expire(clock.now().saturating_add(RETENTION + DAY)).await.unwrap(), 1);
    handle.close().await;
}
