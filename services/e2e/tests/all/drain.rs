//! SIGTERM while people talk.

use std::time::Duration;

use bytes::Bytes;
use spillway_api::v1::closing;
use spillway_client::SessionEvent;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::support::{NO_SEND_QUOTA, Node, PATIENCE, Person, get};

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
    let (acked, mut acks) = tokio::sync::mpsc::channel(1_000_000);
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

    drop(acked);
    sends.join_all().await;
    while acks.recv_many(&mut kept, 1_000).await > 0 {}
    println!("{} acked", kept.len());
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
