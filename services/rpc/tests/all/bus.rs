//! What only the bus can do, or get wrong.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::Registry;
use prost::Message;
use spillway_api::internal::v1::mailbox_client::MailboxClient;
use spillway_api::internal::v1::{AppendRequest, FetchResponse, StoredMessage};
use spillway_api::{Reason, Refusal};
use spillway_bus::nats::Requests;
use spillway_chassis::Tasks;
use spillway_rpc::{BusServerConfig, Channel, FRAME_BYTES_MAX, Partition, ServerConfig, over_bus};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::proxy::Proxy;
use crate::world::{BOUND, Fleet, Handler, Home, World, ask, connected, fetch, served, until};

/// Of a gRPC frame.
const PREFIX_BYTES: usize = 5;

impl Fleet {
    async fn handler(&self, handler: &Handler, config: &BusServerConfig) -> Tasks {
        let tasks = Tasks::new();
        let server = handler.server(ServerConfig::default(), &Registry::new());
        self.serve(server, config, &tasks).await;
        tasks
    }
}

fn reason(status: &Status) -> Reason {
    Refusal::from_status(status).unwrap_or_else(|| panic!("{status:?}")).reason
}

fn within(command: &str, deadline: Duration) -> tonic::Request<spillway_api::internal::v1::FetchRequest> {
    let mut request = fetch(command);
    request.set_timeout(deadline);
    request
}

#[tokio::test]
async fn two_servers_share_the_calls() {
    let (fleet, tasks, config) = (Fleet::new(), Tasks::new(), BusServerConfig::default());
    let handlers = [Handler::default(), Handler::default()];
    for handler in &handlers {
        fleet.handler(handler, &config).await;
    }
    let channel = fleet.channel(&tasks).await;
    served(&channel).await;
    let both = async {
        let mut calls = 0;
        while handlers.iter().any(|handler| handler.started() < 20) {
            assert_eq!(ask(&channel, fetch("hello")).await.unwrap(), "hello");
            calls += 1;
        }
        calls
    };
    let calls = tokio::time::timeout(BOUND, both).await.expect("one of them gets nothing");
    assert_eq!(handlers.iter().map(Handler::started).sum::<usize>(), calls, "each call goes to one of them");
}

#[tokio::test]
async fn a_full_server_says_so_at_once() {
    let (fleet, tasks, handler) = (Fleet::new(), Tasks::new(), Handler::default());
    let retry_after = Duration::from_millis(70);
    let config =
        BusServerConfig { concurrency_max: 1, busy_retry_after: retry_after, ..BusServerConfig::default() };
    fleet.handler(&handler, &config).await;
    let channel = fleet.channel(&tasks).await;
    served(&channel).await;
    let mut first = pin!(ask(&channel, fetch("wait")));
    let refused = async {
        until("the first call", || handler.started() == 1).await;
        let status = ask(&channel, fetch("hello")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        let refusal = Refusal::from_status(&status).unwrap();
        assert_eq!((refusal.reason, refusal.retry_after), (Reason::Busy, Some(retry_after)));
        assert_eq!(handler.started(), 1);
    };
    tokio::select! {
        answer = first.as_mut() => panic!("unexpected {answer:?}"),
        () = refused => {}
    }
    handler.gate.add_permits(1);
    assert_eq!(first.await.unwrap(), "released");
    // The permit is given back after the answer.
    let again = async { while ask(&channel, fetch("hello")).await.is_err() {} };
    tokio::time::timeout(BOUND, again).await.expect("the permit is lost");
}

#[tokio::test]
async fn nobody_there_is_known_long_before_the_deadline() {
    let (fleet, tasks) = (Fleet::new(), Tasks::new());
    let channel = fleet.channel(&tasks).await;
    let call = ask(&channel, within("hello", 10 * BOUND));
    let status = tokio::time::timeout(BOUND, call).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(reason(&status), Reason::NoServer);
}

#[tokio::test]
async fn a_stream_is_refused() {
    let (fleet, tasks) = (Fleet::new(), Tasks::new());
    let world = World { channel: fleet.channel(&tasks).await, ..World::new(Home::InProcess).await };
    let (_acks, requests) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(requests);
    assert_eq!(world.messages().session(stream).await.unwrap_err().code(), Code::Unimplemented);
}

/// Callers that go on calling while servers come and go.
struct Callers {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    calls: tokio::task::JoinSet<Result<(), Status>>,
}

impl Callers {
    fn start(channel: &Channel) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let (channel, stop, answered) = (channel.clone(), Arc::clone(&stop), Arc::clone(&answered));
            calls.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    ask(&channel, within("hello", BOUND / 2)).await?;
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                Ok(())
            });
        }
        Self { stop, answered, calls }
    }

    /// Waits for `count` more answers.
    async fn go_on(&self, count: usize) {
        let enough = self.answered.load(Ordering::SeqCst) + count;
        until("more answers", || self.answered.load(Ordering::SeqCst) >= enough || self.calls.is_empty())
            .await;
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(outcome) = self.calls.join_next().await {
            outcome.unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_come_and_go_lose_no_call() {
    let (fleet, tasks, config) = (Fleet::new(), Tasks::new(), BusServerConfig::default());
    let handler = Handler::default();
    let mut serving = fleet.handler(&handler, &config).await;
    let channel = fleet.channel(&tasks).await;
    served(&channel).await;
    let callers = Callers::start(&channel);
    for _ in 0..10 {
        let other = Handler::default();
        let successor = fleet.handler(&other, &config).await;
        until("the successor's first call", || other.started() > 0).await;
        serving.close_and_wait(BOUND).await.unwrap();
        callers.go_on(100).await;
        serving = successor;
    }
    callers.end().await;
}

#[tokio::test]
async fn a_drain_waits_for_calls_and_then_stops_them_with_an_answer() {
    let (fleet, tasks, handler) = (Fleet::new(), Tasks::new(), Handler::default());
    let config = BusServerConfig { drain_max: Duration::from_millis(300), ..BusServerConfig::default() };
    let serving = fleet.handler(&handler, &config).await;
    let channel = fleet.channel(&tasks).await;
    served(&channel).await;

    let [quick, slow] = ["quick", "slow"].map(|_| {
        let channel = channel.clone();
        tasks.spawn("call", async move { ask(&channel, fetch("wait")).await })
    });
    until("both calls", || handler.started() == 2).await;
    serving.cancel();
    let left = async {
        // Only a server that has left the group is not there for new calls.
        while ask(&channel, fetch("hello")).await.is_ok() {}
    };
    tokio::time::timeout(BOUND, left).await.expect("it does not leave the group");
    handler.gate.add_permits(1);
    let outcomes = [quick.await.unwrap(), slow.await.unwrap()];
    let (answers, refusals): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(answers.len(), 1);
    assert_eq!(reason(refusals[0].as_ref().unwrap_err()), Reason::Unavailable);
    serving.close_and_wait(BOUND).await.unwrap();
}

#[tokio::test]
async fn a_server_that_dies_during_a_call_is_given_up_at_the_deadline() {
    let (fleet, tasks, handler) = (Fleet::new(), Tasks::new(), Handler::default());
    let proxy = Proxy::new(&tasks).await;
    fleet.through(proxy.port).handler(&handler, &BusServerConfig::default()).await;
    let channel = fleet.channel(&tasks).await;
    served(&channel).await;
    let call = ask(&channel, within("wait", Duration::from_millis(500)));
    let death = async {
        until("the call", || handler.started() == 1).await;
        proxy.cut();
        std::future::pending::<()>().await
    };
    let status = tokio::select! {
        answer = call => answer.unwrap_err(),
        () = death => unreachable!("pending"),
    };
    assert_eq!(reason(&status), Reason::Deadline);
}

#[tokio::test]
async fn calls_fail_fast_without_nats_and_work_again_with_it() {
    let (fleet, tasks, handler) = (Fleet::new(), Tasks::new(), Handler::default());
    let proxy = Proxy::new(&tasks).await;
    let through = fleet.through(proxy.port);
    through.handler(&handler, &BusServerConfig::default()).await;
    let nats = through.nats(&tasks);
    let requests = Requests::open(&nats).await.unwrap();
    connected(&requests).await;
    let channel = over_bus(&nats, requests.clone());
    served(&channel).await;
    for _ in 0..3 {
        let started = handler.started();
        let mut waiting = pin!(ask(&channel, within("wait", 10 * BOUND)));
        let cut = async {
            until("the call", || handler.started() > started).await;
            proxy.cut();
            std::future::pending::<()>().await
        };
        let begun = Instant::now();
        let status = tokio::select! {
            answer = waiting.as_mut() => answer.unwrap_err(),
            () = cut => unreachable!("pending"),
        };
        assert_eq!(reason(&status), Reason::Unavailable);
        let status = ask(&channel, within("hello", 10 * BOUND)).await.unwrap_err();
        assert_eq!(reason(&status), Reason::Unavailable);
        assert!(begun.elapsed() < BOUND, "not at the deadline");
        assert_eq!(requests.waiting(), 0);
        let until_mended = handler.started();
        proxy.mend();
        connected(&requests).await;
        served(&channel).await;
        assert_eq!(ask(&channel, fetch("hello")).await.unwrap(), "hello");
        assert_eq!(handler.started(), until_mended + 1, "a call that nobody waits for was sent later");
    }
}

#[tokio::test]
async fn a_process_that_starts_before_nats_comes_up_by_itself() {
    let (fleet, tasks, handler) = (Fleet::new(), Tasks::new(), Handler::default());
    let proxy = Proxy::new(&tasks).await;
    proxy.cut();
    let through = fleet.through(proxy.port);
    through.handler(&handler, &BusServerConfig::default()).await;
    let nats = through.nats(&tasks);
    let requests = Requests::open(&nats).await.unwrap();
    let channel = over_bus(&nats, requests.clone());
    assert_eq!(reason(&ask(&channel, fetch("hello")).await.unwrap_err()), Reason::Unavailable);
    proxy.mend();
    connected(&requests).await;
    served(&channel).await;
    assert_eq!(ask(&channel, fetch("hello")).await.unwrap(), "hello");
}

/// An append whose frame has exactly this many bytes.
fn append(frame_bytes: usize) -> AppendRequest {
    let mut request = AppendRequest { envelope: vec![7; frame_bytes].into(), ..AppendRequest::default() };
    let over = request.encoded_len() + PREFIX_BYTES - frame_bytes;
    request.envelope.truncate(frame_bytes - over);
    assert_eq!(request.encoded_len() + PREFIX_BYTES, frame_bytes);
    request
}

#[tokio::test]
async fn messages_up_to_the_limit_pass_both_ways_and_larger_ones_are_refused() {
    let (fleet, tasks) = (Fleet::new(), Tasks::new());
    let message = StoredMessage { envelope: vec![7; FRAME_BYTES_MAX].into(), ..StoredMessage::default() };
    let page = FetchResponse { messages: vec![message], ..FetchResponse::default() };
    let answer_bytes = FRAME_BYTES_MAX - (page.encoded_len() + PREFIX_BYTES - FRAME_BYTES_MAX);
    let mut handler = Handler { answer_bytes, request_bytes_max: 1 << 20, ..Handler::default() };
    let serving = fleet.handler(&handler, &BusServerConfig::default()).await;
    let channel = fleet.channel(&tasks).await;
    served(&channel).await;
    let mut mailbox = MailboxClient::new(channel.clone());

    mailbox.append(append(FRAME_BYTES_MAX)).await.unwrap();
    let status = mailbox.append(append(FRAME_BYTES_MAX + 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(ask(&channel, fetch("large")).await.unwrap().len(), answer_bytes);

    serving.close_and_wait(BOUND).await.unwrap();
    handler.answer_bytes += 1;
    fleet.handler(&handler, &BusServerConfig::default()).await;
    served(&channel).await;
    assert_eq!(ask(&channel, fetch("large")).await.unwrap_err().code(), Code::OutOfRange);

    // Metadata that do not fit beside the frame.
    let mut request = fetch("hello");
    let long = "x".repeat(600_000).parse().unwrap();
    request.metadata_mut().insert("x-caller", long);
    assert_eq!(ask(&channel, request).await.unwrap_err().code(), Code::OutOfRange);
    let mut request = fetch("large");
    request.metadata_mut().insert("x-caller", "x".repeat(300_000).parse().unwrap());
    assert_eq!(ask(&channel, request).await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test]
async fn a_partition_does_not_change_who_answers() {
    let (fleet, tasks, handler) = (Fleet::new(), Tasks::new(), Handler::default());
    fleet.handler(&handler, &BusServerConfig::default()).await;
    let channel = fleet.channel(&tasks).await;
    served(&channel).await;
    for key in ["a", "b", "c"] {
        let mut request = fetch("hello");
        request.extensions_mut().insert(Partition::of(key.as_bytes()));
        assert_eq!(ask(&channel, request).await.unwrap(), "hello");
    }
}
