//! Clients that do not ack, or hardly read.

use std::time::Duration;

use bytes::Bytes;
use spillway_api::v1;
use spillway_api::v1::{closing, hello, session_request::Frame, session_response};
use spillway_client::SessionEvent;
use tokio::time::timeout;

use crate::all::raw::RawSession;
use crate::all::support::{NO_SEND_QUOTA, Node, PATIENCE, Person, eventually};

/// What a test that moves tens of megabytes may cost: memtables and caches of the store, but not the mail itself once
/// for each queue that it passes.
const GROWTH_MAX: f64 = 100e6;

async fn send_all(alice: &Person, bob: &Person, contents: &[Bytes]) {
    for content in contents {
        alice.send(bob, content.clone()).await.unwrap();
    }
}

fn numbered(count: usize, size: usize) -> Vec<Bytes> {
    (0..count).map(|n| Bytes::from(format!("{n:04} {}", "x".repeat(size - 5)))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_acks_gets_256_messages_and_the_rest_after_acking() {
    const DELIVERIES: &str = "spillway_gateway_deliveries_total";
    let node = Node::start("never-acks", &[NO_SEND_QUOTA]).await;
    let [alice, bob, carol] = node.people().await;
    let sent = numbered(300, 100);
    send_all(&alice, &bob, &sent[..200]).await;
    let mut inbox = bob.inbox().await;
    send_all(&alice, &bob, &sent[200..]).await;
    let mut held = Vec::new();
    while held.len() < 256 {
        if let SessionEvent::Delivery(delivery) = inbox.event().await {
            held.push(delivery);
        }
    }
    alice.reaches(&carol).await;
    let more = timeout(Duration::from_millis(300), inbox.0.next()).await;
    assert!(more.is_err(), "more than the window: {more:?}");
    assert_eq!(node.metric(DELIVERIES, "").await, 257.0, "256 and the one to the third");

    inbox.0.handle().ack(held.iter().filter_map(|delivery| delivery.id)).await;
    let mut got: Vec<Bytes> = held.into_iter().map(|delivery| delivery.envelope.content).collect();
    while got.len() < sent.len() {
        got.push(inbox.message().await);
    }
    assert_eq!(got, sent, "each once and in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_reading_costs_little_and_is_given_up() {
    let settings = [NO_SEND_QUOTA, ("GATEWAY__SESSION__SLOW_READER_TIMEOUT", "2s")];
    let node = Node::start("stops-reading", &settings).await;
    let [alice, bob, carol] = node.people().await;
    // More than the client's own windows (5 MB) and the gateway's queue hold.
    let sent = numbered(100, 150_000);
    send_all(&alice, &bob, &sent).await;
    let before = node.resident_bytes().await;
    let credential = hello::Identity::Credential(bob.identity.credential().to_owned());
    let mut session = RawSession::hello(&bob.client, credential).await;
    let ticket = session.welcome().await;
    node.keep_secret(&ticket.resume_ticket);
    node.keep_secret(&ticket.token);
    eventually("the gateway gives the stream up", || async {
        alice.reaches(&carol).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        node.metric("spillway_gateway_session_ends_total", "slow_reader").await == 1.0
    })
    .await;
    let growth = node.resident_bytes().await - before;
    assert!(growth < GROWTH_MAX, "{growth} bytes for one slow reader");

    let mut last = None;
    while let Some(response) = timeout(PATIENCE, session.down.message()).await.unwrap().unwrap() {
        last = response.frame;
    }
    let closing = v1::Closing { reason: closing::Reason::SlowReader.into() };
    assert_eq!(last, Some(session_response::Frame::Closing(closing)));
    assert_eq!(bob.inbox().await.backlog().await, sent, "nothing was acked, so nothing is lost");
}

/// One message a second in a test that has no minutes to spare: slow beside what waits, and steady.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_gets_everything_and_costs_little() {
    let node = Node::start("reads-slowly", &[NO_SEND_QUOTA]).await;
    let [alice, bob, carol] = node.people().await;
    let sent = numbered(60, 200_000);
    send_all(&alice, &bob, &sent).await;
    let before = node.resident_bytes().await;
    let mut inbox = bob.inbox().await;
    for (n, content) in sent.iter().enumerate() {
        assert_eq!(inbox.message().await, content, "message {n}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        if n % 20 == 0 {
            alice.reaches(&carol).await;
        }
    }
    let growth = node.resident_bytes().await - before;
    assert!(growth < GROWTH_MAX, "{growth} bytes for one slow reader");
}

/// Ids that are not this device's, or nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_of_what_was_never_delivered_delete_nothing() {
    let node = Node::start("wrong-acks", &[]).await;
    let [alice, bob, carol] = node.people().await;
    alice.send(&bob, "for bob").await.unwrap();
    let (mut of_bob, of_carol) = (bob.inbox().await, carol.inbox().await);
    let delivery = of_bob.delivery().await;
    of_carol.ack(&delivery).await;
    eventually("the ack is taken", || async { node.metric("spillway_gateway_acks_total", "").await == 1.0 })
        .await;
    drop((of_bob, of_carol));
    // The session's last act is to give the mailbox its acks.
    eventually("the sessions end", || async {
        node.metric("spillway_gateway_sessions_open", "").await == 0.0
    })
    .await;
    assert_eq!(bob.inbox().await.backlog().await, ["for bob"], "another's ack took it away");

    let credential = hello::Identity::Credential(bob.identity.credential().to_owned());
    let mut session = RawSession::hello(&bob.client, credential).await;
    session.say(Frame::Ack(v1::Ack { ids: vec![Bytes::from_static(b"no id"); 3] })).await;
    assert_eq!(session.refusal().await.reason, spillway_api::Reason::InvalidArgument);
}
