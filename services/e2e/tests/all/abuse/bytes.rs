//! Bytes that are no messages, and too many of them.

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use spillway_api::Reason;
use spillway_api::v1::{self, session_request::Frame};
use spillway_types::{Clock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::all::raw::{RawCodec, RawSession, authorized, refusal};
use crate::all::support::{Node, PATIENCE, eventually};

const TEN_MB: usize = 10_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_megabytes_are_refused_and_the_connection_lives() {
    let node = Node::start("ten-megabytes", &[]).await;
    let [alice, bob] = node.people().await;
    let error = alice.send(&bob, vec![7; TEN_MB]).await.unwrap_err();
    let spillway_client::CallError::Transport(status) = error else { panic!("{error:?}") };
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("too large"), "{status}");
    let error = alice.send(&bob, vec![7; 256 * 1024 + 1]).await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.reason, Reason::InvalidArgument);
    assert!(refusal.message.contains("envelopes.content"), "{refusal}");

    let mut session = RawSession::open(&bob.client).await;
    session.say(Frame::Ack(v1::Ack { ids: vec![Bytes::from(vec![7; TEN_MB])] })).await;
    assert_eq!(session.refusal().await.reason, Reason::InvalidArgument);
    alice.send(&bob, vec![7; 256 * 1024]).await.unwrap();
    alice.reaches(&bob).await;
}

async fn channel(node: &Node) -> Channel {
    Endpoint::from_shared(node.server.public.clone()).unwrap().connect().await.unwrap()
}

async fn call(channel: &Channel, path: &'static str, request: Request<Bytes>) -> Status {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    client.unary(request, PathAndQuery::from_static(path), RawCodec).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_the_place_of_a_message_is_a_typed_error() {
    let seed = SystemClock.now().as_micros();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let node = Node::start("garbage", &[]).await;
    let [alice, bob] = node.people().await;
    let channel = channel(&node).await;
    for round in 0..50 {
        let mut garbage = vec![0; 1 + (random.next_u32() % 4_000) as usize];
        random.fill_bytes(&mut garbage);
        // Field 0 does not exist, so this can never be a message by chance.
        garbage[0] = 0;
        let garbage = Bytes::from(garbage);
        let authorization = format!("Device {}", alice.identity.credential());
        for path in ["/spillway.v1.Messages/Send", "/spillway.v1.SignUp/StartVerification"] {
            let status = call(&channel, path, authorized(&authorization, garbage.clone())).await;
            assert_eq!(refusal(&status).reason, Reason::InvalidArgument, "{round}: {status:?}");
        }
        let mut client = Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let frames = futures::stream::iter([garbage]);
        let path = PathAndQuery::from_static("/spillway.v1.Messages/Session");
        let answers = client.streaming(Request::new(frames), path, RawCodec).await.unwrap();
        let status = answers.into_inner().message().await.unwrap_err();
        assert_eq!(refusal(&status).reason, Reason::InvalidArgument);
    }
    let nowhere = call(&channel, "/spillway.v1.Messages/Steal", Request::new(Bytes::new())).await;
    assert_eq!(nowhere.code(), Code::Unimplemented);
    let inside = call(&channel, "/spillway.internal.v1.Mailbox/Fetch", Request::new(Bytes::new())).await;
    assert_eq!(inside.code(), Code::Unimplemented, "the roles' own calls are not for the public");
    alice.reaches(&bob).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_http_end_their_connection_only() {
    let node = Node::start("no-http", &[]).await;
    let [alice, bob] = node.people().await;
    let mut random = StdRng::seed_from_u64(7);
    for preface in ["", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut garbage = vec![0; 64 * 1024];
        random.fill_bytes(&mut garbage);
        // The length of the first frame after a good preface: more than allowed.
        garbage[0] = 0xFF;
        let mut stream = connect(&node).await;
        stream.write_all(preface.as_bytes()).await.unwrap();
        // The server may have hung up before all is written.
        stream.write_all(&garbage).await.ok();
        closed(stream).await;
    }
    alice.reaches(&bob).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_says_nothing_is_closed() {
    let node = Node::start("silent", &[("RPC__HANDSHAKE_TIMEOUT", "300ms")]).await;
    closed(connect(&node).await).await;
    eventually("it is counted", || async {
        node.metric("spillway_rpc_server_connections_refused_total", "silent").await == 1.0
    })
    .await;
}

async fn connect(node: &Node) -> TcpStream {
    TcpStream::connect(node.server.public.strip_prefix("http://").unwrap()).await.unwrap()
}

async fn closed(mut stream: TcpStream) {
    let mut said = Vec::new();
    let bound = PATIENCE.min(Duration::from_secs(20));
    // A reset is an end as well.
    timeout(bound, stream.read_to_end(&mut said)).await.expect("the connection stays open").ok();
}
