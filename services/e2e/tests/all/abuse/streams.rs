//! Streams that are opened and not used.

use std::time::Duration;

use spillway_api::Reason;
use spillway_api::v1::{self, session_request::Frame};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

use crate::all::raw::RawSession;
use crate::all::support::Node;

/// `rpc.concurrent_streams_max`.
const STREAMS_MAX: f64 = 128.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_says_hello_is_sent_away_in_time() {
    let node = Node::start("no-hello", &[("GATEWAY__SESSION__HELLO_TIMEOUT", "500ms")]).await;
    let client = node.client().await;
    let asked = Instant::now();
    let mut silent = RawSession::open(&client).await;
    assert_eq!(silent.refusal().await.reason, Reason::HelloExpected);
    assert!(asked.elapsed() >= Duration::from_millis(500), "too early: {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(5), "too late: {:?}", asked.elapsed());

    let mut impolite = RawSession::open(&client).await;
    impolite.say(Frame::Ack(v1::Ack::default())).await;
    assert_eq!(impolite.refusal().await.reason, Reason::HelloExpected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_on_one_connection_get_in_a_few_at_a_time() {
    let node = Node::start("thousand-streams", &[("GATEWAY__SESSION__HELLO_TIMEOUT", "1s")]).await;
    let [alice, bob] = node.people().await;
    let client = node.client().await;
    let mut streams = JoinSet::new();
    for _ in 0..1_000 {
        let client = client.clone();
        streams.spawn(async move {
            loop {
                match RawSession::try_open(&client).await {
                    Ok(mut session) => return session.refusal().await.reason,
                    // One of the streams that ended is still counted at the server: it keeps to its limit.
                    Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
                }
            }
        });
    }
    let (mut most, mut ended) = (0.0, 0);
    while ended < 1_000 {
        most = node.metric("spillway_gateway_sessions_open", "").await.max(most);
        assert!(most <= STREAMS_MAX + 1.0, "{most} at a time");
        if ended % 100 == 0 {
            alice.send(&bob, "others go on").await.unwrap();
        }
        while let Some(reason) = streams.try_join_next() {
            assert_eq!(reason.unwrap(), Reason::HelloExpected);
            ended += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(most > STREAMS_MAX / 2.0, "they did not come at once, so this showed nothing: {most}");
    alice.reaches(&bob).await;
}
