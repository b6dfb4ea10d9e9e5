//! SIGTERM while people talk.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use spillway_api::v1::closing;
use spillway_client::SessionEvent;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::support::{NO_SEND_QUOTA, Node, PATIENCE, Person, eventually, get};

const SETTINGS: &[(&str, &str)] = &[
    NO_SEND_QUOTA,
    ("GATEWAY__SESSION__MIGRATE_SPREAD", "1s"),
    ("GATEWAY__SESSION__MIGRATE_GRACE", "500ms"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_loses_nothing_tells_everybody_and_ends_in_its_bound() {
    let mut node = Node::start("drain", SETTINGS).await;
    let people: [Person; 6] = node.people().await;
    let (senders, receiver, online) = (&people[..2], &people[2], &people[3..]);
    let channel = Endpoint::from_shared(node.server.public.clone()).unwrap().connect().await.unwrap();
    let mut health =
        HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(get(&node.server.admin, "/health/ready").await.0, 200);
    let mut inboxes = Vec::new();
    for person in online {
        let mut inbox = person.inbox().await;
        assert!(inbox.backlog().await.is_empty());
        inboxes.push(inbox);
    }

    let mut sends = JoinSet::new();
    let mut acks = send_on(&mut sends, senders, receiver);
    let mut kept = Vec::new();
    acks.recv_many(&mut kept, 10).await;

    let asked = Instant::now();
    node.server.signal("TERM").await.unwrap();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(get(&node.server.admin, "/health/ready").await.0, 503);
    for inbox in &mut inboxes {
        let event = inbox.event().await;
        assert!(
            matches!(event, SessionEvent::Migrate(after) if after <= Duration::from_secs(1)),
            "{event:?}"
        );
        assert_eq!(inbox.closing().await, closing::Reason::Draining);
    }
    drop(inboxes);
    // Streams without an end of their own, this one and the phones', are ended.
    let status = timeout(PATIENCE, node.server.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(matches!(health.message().await, Ok(None)), "the watcher was cut off");
    // Sessions 1.5 s, and as much for everything else as a busy machine needs.
    assert!(asked.elapsed() < Duration::from_secs(15), "took {:?}", asked.elapsed());

    sends.join_all().await;
    while acks.recv_many(&mut kept, 1_000).await > 0 {}
    println!("{} acked", kept.len());
    node.start_again().await;
    node.again(receiver).await.inbox().await.until_all(&kept).await;
}

/// What runs out of patience with a drain kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_a_drain_it_has_lost_nothing_and_its_page_had_said_so() {
    let settings = [NO_SEND_QUOTA, ("GATEWAY__SESSION__MIGRATE_SPREAD", "1h")];
    let mut node = Node::start("kill-in-drain", &settings).await;
    let people: [Person; 4] = node.people().await;
    let (senders, receiver) = (&people[..2], &people[2]);
    let mut inbox = people[3].inbox().await;
    assert!(inbox.backlog().await.is_empty());
    let mut sends = JoinSet::new();
    let mut acks = send_on(&mut sends, senders, receiver);
    let mut kept = Vec::new();
    acks.recv_many(&mut kept, 10).await;

    node.server.signal("TERM").await.unwrap();
    assert!(matches!(inbox.event().await, SessionEvent::Migrate(_)));
    let admin = node.server.admin.clone();
    eventually("the page says that it drains", || async {
        let page: Value = serde_json::from_str(&get(&admin, "/status").await.1).unwrap();
        page["health"]["components"]["process"]["reason"] == "draining" && page["health"]["ready"] == false
    })
    .await;
    // Who is connected still is served.
    let before = kept.len();
    while kept.len() < before + 20 {
        assert!(acks.recv_many(&mut kept, 1_000).await > 0, "sends have ended");
    }
    node.kill().await;
    sends.join_all().await;
    while acks.recv_many(&mut kept, 1_000).await > 0 {}
    println!("{} acked, {before} of them before the drain", kept.len());
    node.start_again().await;
    node.again(receiver).await.inbox().await.until_all(&kept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_drain_at_once() {
    let settings = [("GATEWAY__SESSION__MIGRATE_SPREAD", "1h"), ("GATEWAY__SESSION__MIGRATE_GRACE", "1h")];
    let mut node = Node::start("second-signal", &settings).await;
    let [alice, bob] = node.people().await;
    let mut inbox = alice.inbox().await;
    assert!(inbox.backlog().await.is_empty());
    node.server.signal("TERM").await.unwrap();
    assert!(matches!(inbox.event().await, SessionEvent::Migrate(_)));
    let asked = Instant::now();
    node.server.signal("TERM").await.unwrap();
    let status = timeout(PATIENCE, node.server.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(130), "as a shell reports an interrupted process");
    assert!(asked.elapsed() < Duration::from_secs(10), "took {:?}", asked.elapsed());
    node.start_again().await;
    node.again(&alice).await.reaches(&node.again(&bob).await).await;
}

/// Each of them, one message after the other, until one fails. What comes out was acknowledged; it ends when they have.
fn send_on(sends: &mut JoinSet<()>, senders: &[Person], receiver: &Person) -> mpsc::Receiver<Bytes> {
    let (acked, acks) = mpsc::channel(1_000_000);
    for sender in senders {
        let (sender, receiver, acked) = (sender.clone(), receiver.clone(), acked.clone());
        sends.spawn(async move {
            for n in 0.. {
                let content = Bytes::from(format!("{n} from {}", sender.index));
                if sender.send(&receiver, content.clone()).await.is_err() {
                    return;
                }
                acked.send(content).await.unwrap();
            }
        });
    }
    acks
}
