//! `Messages.Session` and what a device may rely on.

use std::time::Duration;

use bytes::Bytes;
use spillway_api::{Reason, v1::closing};
use spillway_client::{Dedup, SessionEvent, SessionOpen};
use spillway_types::Guid;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::support::{NO_SEND_QUOTA, Node, Person, eventually};

const SESSIONS_OPEN: &str = "spillway_gateway_sessions_open";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_of_the_night_comes_first_and_in_order_then_live_mail() {
    let node = Node::start("offline", &[NO_SEND_QUOTA]).await;
    let [alice, bob] = node.people().await;
    // More than the pages and the window of unacked messages hold.
    let night: Vec<Bytes> = (0..300).map(|n| Bytes::from(format!("night {n}"))).collect();
    for content in &night {
        alice.send(&bob, content.clone()).await.unwrap();
    }
    let mut inbox = bob.inbox().await;
    // In the middle of the backlog, so it may come with it or after it, but not before what is older.
    alice.send(&bob, "morning").await.unwrap();
    let mut all = inbox.backlog().await;
    if all.len() == night.len() {
        all.push(inbox.message().await);
    }
    assert_eq!(all.last().unwrap(), "morning");
    assert_eq!(all[..night.len()], night);
    alice.send(&bob, "day").await.unwrap();
    assert_eq!(inbox.message().await, "day");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_session_wins_and_the_older_one_is_told() {
    let node = Node::start("replaced", &[]).await;
    let [alice, bob] = node.people().await;
    let mut older = bob.inbox().await;
    assert!(older.backlog().await.is_empty());
    let mut newer = node.again(&bob).await.inbox().await;
    assert_eq!(older.closing().await, closing::Reason::Replaced);
    assert!(older.try_event().await.unwrap().is_none(), "and nothing after that");
    alice.send(&bob, "hello").await.unwrap();
    assert_eq!(newer.message().await, "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_that_comes_back_with_tickets_reads_nothing_from_the_identity_store() {
    const CALLS: (&str, &str) = ("spillway_rpc_server_started_total", "internal.v1.Registration");
    let node = Node::start("herd", &[]).await;
    let herd: [Person; 20] = node.people().await;
    let open = async |expected| {
        let mut opened = JoinSet::new();
        for person in herd.clone() {
            opened.spawn(async move {
                let mut inbox = person.inbox().await;
                assert!(inbox.backlog().await.is_empty());
                (inbox.0.opened_with, inbox)
            });
        }
        let inboxes = opened.join_all().await;
        assert!(inboxes.iter().all(|(with, _)| *with == expected), "not all with {expected:?}");
        inboxes
    };
    let inboxes = open(SessionOpen::Credential).await;
    let before = node.metric(CALLS.0, CALLS.1).await;
    assert!(before >= 20.0, "the calls to the identity store are counted: {before}");
    drop(inboxes);
    eventually("the sessions end", || async { node.metric(SESSIONS_OPEN, "").await == 0.0 }).await;
    let _inboxes = open(SessionOpen::ResumeTicket).await;
    let after = node.metric(CALLS.0, CALLS.1).await;
    assert_eq!(after, before, "calls to the identity store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ephemeral_message_reaches_who_is_there_and_is_stored_for_nobody() {
    let node = Node::start("ephemeral", &[]).await;
    let [alice, bob, carol] = node.people().await;
    let mut inbox = bob.inbox().await;
    assert!(inbox.backlog().await.is_empty());
    for receiver in [&bob, &carol] {
        let mut typing = receiver.message(Guid::random(), "typing");
        typing.ephemeral = true;
        alice.client.send(&alice.identity, typing).await.unwrap();
    }
    let delivery = inbox.delivery().await;
    assert_eq!((delivery.id, &delivery.envelope.content[..]), (None, &b"typing"[..]));
    assert_eq!(node.metric("spillway_mailbox_appends_total", "").await, 0.0, "nothing was stored");
    assert!(carol.inbox().await.backlog().await.is_empty());
    alice.send(&carol, "kept").await.unwrap();
    assert_eq!(node.metric("spillway_mailbox_appends_total", "").await, 1.0, "what is stored is counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_fills_up_with_a_warning_and_takes_mail_again_when_it_was_read() {
    let node = Node::start("full", &[("MAILBOX__MESSAGES_MAX", "10")]).await;
    let [alice, bob, carol] = node.people().await;
    for n in 1..=10 {
        let sent = alice.send(&bob, format!("{n}")).await.unwrap();
        assert_eq!(sent.near_full_devices, if n >= 8 { vec![1] } else { vec![] }, "after {n} of 10");
    }
    let error = alice.send(&bob, "11").await.unwrap_err();
    assert_eq!(error.refusal().unwrap().reason, Reason::MailboxFull);
    alice.send(&carol, "others are not concerned").await.unwrap();

    let inbox = &mut bob.inbox().await;
    let stored = inbox.backlog().await;
    assert_eq!(stored, (1..=10).map(|n| n.to_string()).collect::<Vec<_>>());
    eventually("there is room again", || async { alice.send(&bob, "12").await.is_ok() }).await;
    assert_eq!(inbox.message().await, "12", "the refused one was not stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_that_is_repeated_is_one_message_to_a_client_that_looks_at_the_guid() {
    let node = Node::start("repeated", &[]).await;
    let [alice, bob] = node.people().await;
    let guid = Guid::random();
    for _ in 0..2 {
        alice.client.send(&alice.identity, bob.message(guid, "once")).await.unwrap();
    }
    alice.send(&bob, "end").await.unwrap();
    let (mut inbox, mut seen, mut shown) = (bob.inbox().await, Dedup::new(100), Vec::new());
    loop {
        match inbox.event().await {
            SessionEvent::Delivery(delivery) => {
                inbox.ack(&delivery).await;
                if seen.is_new(delivery.guid) {
                    shown.push(delivery.envelope.content);
                }
            }
            SessionEvent::QueueEmpty => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(shown, ["once", "end"]);
}

/// An ack is for good, also for a device that leaves right after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acked_does_not_come_again() {
    let node = Node::start("acked", &[]).await;
    let [alice, bob] = node.people().await;
    for content in ["first", "second"] {
        alice.send(&bob, content).await.unwrap();
    }
    let mut inbox = bob.inbox().await;
    let first = inbox.delivery().await;
    inbox.ack(&first).await;
    eventually("the ack is written", || async {
        node.metric("spillway_mailbox_acknowledged_messages_total", "").await == 1.0
    })
    .await;
    drop(inbox);
    let mut inbox = bob.inbox().await;
    assert_eq!(inbox.backlog().await, ["second"]);
    let quiet = timeout(Duration::from_millis(200), inbox.0.next()).await;
    assert!(quiet.is_err(), "nothing more: {quiet:?}");
}
