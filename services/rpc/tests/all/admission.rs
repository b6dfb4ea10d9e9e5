//! Overload control where calls arrive.

use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use prometheus::Registry;
use prost::Message as _;
use rand::Rng as _;
use spillway_admission::{
    Admission, AdmissionConfig, AdmissionMetrics, HOLD_BACK_HEADER, Level, Signals, Steering, TICK, Tier,
    User,
};
use spillway_api::{Reason, Refusal};
use spillway_chassis::Tasks;
use spillway_rpc::{BusServerConfig, Channel, Class, Classify, Head, Hop, ServerConfig};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use crate::world::{BOUND, Fleet, Handler, Home, ask, fetch, served, until, with_client_stack};

/// Every call is of one tier, and its user is what `x-caller` says.
#[derive(Debug)]
struct AllOf(Tier);

impl Classify for AllOf {
    fn classify(&self, head: &Head<'_>) -> Class {
        let caller = head.headers.get("x-caller").map_or(0, |caller| caller.as_bytes()[0].into());
        Class { level: Level::new(self.0, 9), user: User(caller) }
    }
}

/// Seats for so many calls at once, and no gate that would shut by itself.
fn narrow(seats: u32) -> AdmissionConfig {
    let mut config = AdmissionConfig { cores: Some(1), ..AdmissionConfig::default() };
    (config.limiter.initial, config.limiter.least, config.limiter.most) = (Some(seats), Some(seats), seats);
    config.gate.enabled = false;
    config
}

fn admission(config: AdmissionConfig) -> Admission<spillway_rpc::Waiter> {
    Admission::new(config, AdmissionMetrics::register(&Registry::new(), "test").unwrap()).unwrap()
}

async fn tcp(handler: &Handler, hop: &Hop, tasks: &Tasks) -> Channel {
    let server = handler.server(ServerConfig::default(), &Registry::new()).admit(hop.clone());
    Home::Tcp.settle(server, tasks).await
}

/// A call that has the only seat until the handler's gate opens.
async fn taken(handler: &Handler, channel: &Channel, tasks: &Tasks) -> JoinHandle<Result<String, Status>> {
    let channel = channel.clone();
    let call = tasks.spawn("wait", async move { ask(&channel, fetch("wait")).await });
    until("the call runs", || handler.started() == 1).await;
    call
}

fn reason(status: &Status) -> Reason {
    Refusal::from_status(status).unwrap_or_else(|| panic!("not of ours: {status:?}")).reason
}

fn pushback_ms(status: &Status) -> Option<i64> {
    status.metadata().get("grpc-retry-pushback-ms").map(|value| value.to_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn what_is_switched_off_never_reaches_a_handler() {
    let (handler, tasks) = (Handler::default(), Tasks::new());
    let hop = Hop::public(admission(AdmissionConfig::default()), AllOf(Tier::Lookup));
    let channel = tcp(&handler, &hop, &tasks).await;
    assert_eq!(ask(&channel, fetch("hello")).await.unwrap(), "hello");

    hop.admission().steer(Steering::Set(4));
    hop.tick(&Signals::default());
    let refused = ask(&channel, fetch("hello")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::ResourceExhausted, Reason::Overload));
    let pause = Refusal::from_status(&refused).unwrap().retry_after.unwrap();
    assert!(pause >= Tier::Lookup.spec().pushback.0, "{pause:?}");
    // Five seconds or more do not fit into the five that a look-up has.
    assert_eq!(pushback_ms(&refused), Some(-1));
    let mut patient = fetch("hello");
    patient.set_timeout(Duration::from_secs(30));
    patient.metadata_mut().insert("x-caller", "2".parse().unwrap());
    let refused = ask(&channel, patient).await.unwrap_err();
    let pause = Refusal::from_status(&refused).unwrap().retry_after.unwrap();
    assert_eq!(pushback_ms(&refused), Some(i64::try_from(pause.as_millis()).unwrap()));
    assert_eq!(handler.started(), 1);

    hop.admission().steer(Steering::Auto);
    // It comes down a rung at a time; the gate is open at once.
    hop.tick(&Signals::default());
    assert_eq!(ask(&channel, fetch("hello")).await.unwrap(), "hello");
}

/// After which a caller must have heard what he was told; less than what he is told to wait.
const HEARD: Duration = Duration::from_millis(260);

/// Refuses everybody, whoever he is: the ladder decides.
async fn closed(handler: &Handler, tasks: &Tasks) -> (Hop, Channel) {
    let hop = Hop::public(admission(AdmissionConfig::default()), AllOf(Tier::Send));
    let channel = tcp(handler, &hop, tasks).await;
    hop.admission().steer(Steering::Set(5));
    hop.tick(&Signals::default());
    (hop, channel)
}

#[tokio::test]
async fn the_connection_of_who_does_not_listen_is_not_read_for_a_while() {
    let (handler, tasks) = (Handler::default(), Tasks::new());
    let (hop, channel) = closed(&handler, &tasks).await;
    let refused = async || {
        let mut request = fetch("hello");
        request.set_timeout(Duration::from_secs(10));
        request.metadata_mut().insert("x-caller", "1".parse().unwrap());
        let asked = Instant::now();
        assert_eq!(reason(&ask(&channel, request).await.unwrap_err()), Reason::Overload);
        asked.elapsed()
    };
    let soon = Duration::from_millis(150);
    // He may ask once whether it is over.
    for _ in 0..2 {
        assert!(refused().await < soon);
        tokio::time::sleep(HEARD).await;
    }
    // He is told again, and then nothing he says is heard for a while.
    assert!(refused().await < soon);
    let unheard = tokio::join!(refused(), refused());
    assert!(unheard.0 > soon && unheard.1 > soon && unheard.0.max(unheard.1) < BOUND, "{unheard:?}");

    hop.admission().steer(Steering::Auto);
    hop.tick(&Signals::default());
    let mut request = fetch("hello");
    request.metadata_mut().insert("x-caller", "1".parse().unwrap());
    assert_eq!(ask(&channel, request).await.unwrap(), "hello", "and what he says later is");
}

#[tokio::test]
async fn who_comes_back_when_his_advice_is_over_is_answered_though_the_same_call_was_to_wait() {
    let (handler, tasks) = (Handler::default(), Tasks::new());
    let hop = Hop::public(admission(AdmissionConfig::default()), AllOf(Tier::Lookup));
    let channel = tcp(&handler, &hop, &tasks).await;
    hop.admission().steer(Steering::Set(4));
    hop.tick(&Signals::default());
    for _ in 0..5 {
        let asked = Instant::now();
        let refused = ask(&channel, fetch("hello")).await.unwrap_err();
        assert!(asked.elapsed() < Duration::from_millis(150), "{:?}", asked.elapsed());
        let pause = Refusal::from_status(&refused).unwrap().retry_after.unwrap();
        assert!(pause >= Duration::from_secs(5), "{pause:?}");
        assert_eq!(refused.metadata().get(HOLD_BACK_HEADER).unwrap(), "open=3;ttl=500");
        tokio::time::sleep(Duration::from_millis(510)).await;
    }
}

#[tokio::test]
async fn the_rest_of_a_call_that_was_let_in_is_heard_in_a_silence_of_its_caller() {
    let (handler, tasks) = (Handler::default(), Tasks::new());
    let hop = Hop::public(admission(AdmissionConfig::default()), AllOf(Tier::Send));
    let mut channel = tcp(&handler, &hop, &tasks).await;
    let message = fetch("hello").into_inner().encode_to_vec();
    let prefix = [[0].as_slice(), &(message.len() as u32).to_be_bytes()].concat();
    let (send_rest, rest) = oneshot::channel();
    let body = async move {
        rest.await.unwrap();
        Ok::<_, Status>(Frame::data(Bytes::from([prefix, message].concat())))
    };
    let begun = http::Request::post("/spillway.internal.v1.Mailbox/Fetch")
        .header("content-type", "application/grpc")
        .header("x-caller", "1")
        .body(Body::new(StreamBody::new(futures::stream::once(Box::pin(body)))))
        .unwrap();
    std::future::poll_fn(|cx| Service::<http::Request<Body>>::poll_ready(&mut channel, cx)).await.unwrap();
    let begun = tasks.spawn("begun", channel.call(begun));
    until("it has a seat", || {
        hop.tick(&Signals::default());
        hop.admission().view().inflight == 1
    })
    .await;

    hop.admission().steer(Steering::Set(5));
    hop.tick(&Signals::default());
    for _ in 0..3 {
        let mut refused = fetch("hello");
        refused.metadata_mut().insert("x-caller", "1".parse().unwrap());
        ask(&channel, refused).await.unwrap_err();
        tokio::time::sleep(HEARD).await;
    }
    // Nothing else that he says is heard for eight seconds.
    send_rest.send(()).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), begun).await.expect("it is heard");
    let answer = answer.unwrap().unwrap();
    assert_eq!(
        answer.headers().get("grpc-status"),
        None,
        "an answer, and no refusal: {:?}",
        answer.headers()
    );
    assert_eq!(handler.started(), 1);
}

/// Longer than one silence of somebody who is not welcome, and shorter than two.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an answer takes that was asked for behind a call that has gone stale in a silence.
async fn behind_a_stale_call(opens: bool) -> Duration {
    let (handler, tasks) = (Handler::default(), Tasks::new());
    let (hop, channel) = closed(&handler, &tasks).await;
    let asked = async |message: &str, timeout: Duration| {
        let mut request = fetch(message);
        request.set_timeout(timeout);
        request.metadata_mut().insert("x-caller", "1".parse().unwrap());
        ask(&channel, request).await
    };
    for _ in 0..2 {
        asked("hello", PATIENCE).await.unwrap_err();
        tokio::time::sleep(HEARD).await;
    }
    // This one begins a silence. Its answer comes all the same.
    asked("hello", PATIENCE).await.unwrap_err();
    let began = Instant::now();
    // So long that what is read at first after the silence has nothing of the next.
    asked(&"x".repeat(4_096), Duration::from_millis(20)).await.unwrap_err();
    if opens {
        hop.admission().steer(Steering::Auto);
    }
    let ticks = async {
        loop {
            tokio::time::sleep(TICK).await;
            hop.tick(&Signals::default());
        }
    };
    let outcome = tokio::select! {
        outcome = asked("hello", PATIENCE) => outcome,
        () = ticks => unreachable!("it never ends"),
    };
    assert_eq!(outcome.is_ok(), opens, "{outcome:?}");
    began.elapsed()
}

#[tokio::test]
async fn what_went_stale_unread_is_read_through_only_for_who_would_be_let_in() {
    // For eight seconds nothing is read, then the stale call, and then nothing for as long again.
    let (shut, open) = tokio::join!(behind_a_stale_call(false), behind_a_stale_call(true));
    assert!(shut >= PATIENCE, "{shut:?}");
    assert!(open < PATIENCE, "{open:?}");
}

#[tokio::test]
async fn who_asks_again_at_once_among_others_is_answered_late_and_takes_no_seat() {
    let (handler, tasks) = (Handler::default(), Tasks::new());
    let (hop, channel) = closed(&handler, &tasks).await;
    let refused = async |caller: &'static str, timeout: Duration| {
        let mut request = fetch("hello");
        request.set_timeout(timeout);
        request.metadata_mut().insert("x-caller", caller.parse().unwrap());
        let asked = Instant::now();
        let refused = ask(&channel, request).await.unwrap_err();
        assert_eq!(reason(&refused), Reason::Overload);
        let (took, pause) = (asked.elapsed(), pushback_ms(&refused).unwrap());
        let end = took + Duration::from_millis(u64::try_from(pause).unwrap_or(0));
        assert!(end < timeout, "{pause} ms after {took:?} is too late");
        took
    };
    let (soon, patience) = (Duration::from_millis(200), Duration::from_secs(10));
    // Three users: a connection that is not any one's.
    for caller in ["8", "9", "1"] {
        assert!(refused(caller, patience).await < soon);
    }
    tokio::time::sleep(HEARD).await;
    assert!(refused("1", patience).await < soon, "he may ask once whether it is over");
    tokio::time::sleep(HEARD).await;
    // Sends are told to stay away for half a second at least.
    let (again, other) = tokio::join!(refused("1", patience), refused("2", patience));
    assert!(again > soon && other < soon, "{again:?}, {other:?}");
    // What fitted when it was refused does not fit any more when it is answered.
    for _ in 0..2 {
        refused("4", patience).await;
        tokio::time::sleep(HEARD).await;
    }
    refused("4", Duration::from_millis(1_200)).await;
    // And it is an answer still: it comes before the caller gives up.
    for _ in 0..2 {
        refused("3", patience).await;
        tokio::time::sleep(HEARD).await;
    }
    let in_time = refused("3", Duration::from_millis(300)).await;
    assert!(in_time < Duration::from_millis(300), "{in_time:?}");
    let view = hop.admission().view();
    assert_eq!((view.inflight, view.queued, handler.started()), (0, 0, 0));
}

#[tokio::test]
async fn callers_are_told_what_to_hold_back() {
    let (handler, tasks) = (Handler::default(), Tasks::new());
    let hop = Hop::public(admission(AdmissionConfig::default()), AllOf(Tier::Send));
    let channel = tcp(&handler, &hop, &tasks).await;
    let told = async || {
        let mut mailbox = spillway_api::internal::v1::mailbox_client::MailboxClient::new(channel.clone());
        let answer = mailbox.fetch(fetch("hello")).await.unwrap();
        answer.metadata().get(HOLD_BACK_HEADER).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(told().await, None);
    hop.admission().steer(Steering::Set(3));
    hop.tick(&Signals::default());
    let advice = told().await.expect("some classes are shut");
    assert!(advice.starts_with("open=5;"), "{advice}");
}

#[tokio::test]
async fn a_call_waits_for_a_seat_and_its_deadline_goes_on() {
    let (handler, tasks) = (Handler::default(), Tasks::new());
    let hop = Hop::public(admission(narrow(1)), AllOf(Tier::Send));
    let channel = tcp(&handler, &hop, &tasks).await;
    let first = taken(&handler, &channel, &tasks).await;
    let second = tasks.spawn("second", {
        let channel = channel.clone();
        async move {
            let mut request = fetch("deadline");
            request.set_timeout(Duration::from_secs(9));
            ask(&channel, request).await
        }
    });
    until("the second call waits", || {
        hop.tick(&Signals::default());
        hop.admission().view().queued == 1
    })
    .await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(handler.started(), 1);
    handler.gate.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap(), "released");
    let left_us: u64 = second.await.unwrap().unwrap().parse().unwrap();
    assert!(left_us <= 8_980_000, "the wait counts: {left_us}");
}

#[tokio::test]
async fn a_call_that_has_waited_for_too_long_is_refused() {
    let (handler, tasks) = (Handler::default(), Tasks::new());
    let hop = Hop::public(admission(narrow(1)), AllOf(Tier::Send));
    let channel = tcp(&handler, &hop, &tasks).await;
    hop.tick(&Signals::default());
    let held = taken(&handler, &channel, &tasks).await;
    let asked = Instant::now();
    let refused = ask(&channel, fetch("hello")).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::Overload);
    assert!(asked.elapsed() >= Tier::Send.spec().queue_age, "{:?}", asked.elapsed());
    // The gate is open all the while, and the caller is told to hold back all the same.
    assert_eq!(refused.metadata().get(HOLD_BACK_HEADER).unwrap(), "open=2;ttl=500");
    handler.gate.add_permits(1);
    held.await.unwrap().unwrap();
    assert_eq!(handler.started(), 1);
}

#[tokio::test]
async fn a_call_without_time_is_refused_at_once() {
    let (handler, tasks) = (Handler::default(), Tasks::new());
    let hop = Hop::public(admission(narrow(1)), AllOf(Tier::Send));
    let channel = tcp(&handler, &hop, &tasks).await;
    let mut request = fetch("hello");
    request.set_timeout(Duration::ZERO);
    let refused = ask(&channel, request).await.unwrap_err();
    assert_eq!((refused.code(), pushback_ms(&refused)), (Code::DeadlineExceeded, None));
    assert_eq!(handler.started(), 0);
}

/// Callers leave at random moments: before, while and after they wait, and while they are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_seat_leaks_whenever_callers_leave() {
    let (handler, tasks) = (Handler::default(), Tasks::new());
    let hop = Hop::public(admission(narrow(3)), AllOf(Tier::Send));
    let channel = tcp(&handler, &hop, &tasks).await;
    handler.gate.add_permits(10_000);
    let mut calls = JoinSet::new();
    for call in 0..600_u64 {
        let (channel, gate) = (channel.clone(), handler.gate.clone());
        let patience = Duration::from_micros(rand::rng().random_range(0..30_000));
        calls.spawn(async move {
            // Every tenth blocks the others for a moment.
            let held = if call % 10 == 0 { gate.try_acquire_many_owned(9_990).ok() } else { None };
            let outcome = tokio::time::timeout(patience, ask(&channel, fetch("wait"))).await;
            drop(held);
            outcome.is_ok_and(|answer| answer.is_ok())
        });
        if call % 50 == 0 {
            hop.tick(&Signals::default());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let served = calls.join_all().await.into_iter().filter(|served| *served).count();
    assert!(served > 0, "nobody was served");
    until("all seats are free again", || {
        hop.tick(&Signals::default());
        let view = hop.admission().view();
        (view.inflight, view.queued) == (0, 0)
    })
    .await;
    assert_eq!(ask(&channel, fetch("hello")).await.unwrap(), "hello");
}

/// A gateway in front of a worker on the bus.
struct TwoHops {
    front: Channel,
    gateway: Hop,
    worker: Hop,
    behind: Handler,
    _tasks: Tasks,
}

impl TwoHops {
    async fn new(tier: Tier) -> Self {
        let tasks = Tasks::new();
        let (fleet, behind) = (Fleet::new(), Handler::default());
        let worker = Hop::worker(admission(AdmissionConfig::default()));
        let server = behind.server(ServerConfig::default(), &Registry::new()).admit(worker.clone());
        fleet.serve(server, &BusServerConfig::default(), &tasks).await;
        let next = fleet.channel(&tasks).await;
        served(&next).await;
        let handler = Handler { next: Some(with_client_stack(next)), ..Handler::default() };
        let gateway = Hop::public(admission(AdmissionConfig::default()), AllOf(tier));
        let front = tcp(&handler, &gateway, &tasks).await;
        Self { front, gateway, worker, behind, _tasks: tasks }
    }
}

#[tokio::test]
async fn a_worker_decides_by_the_class_that_the_gateway_gave() {
    for (tier, rung, served) in [(Tier::Send, 4, true), (Tier::Lookup, 4, false), (Tier::Send, 5, false)] {
        let hops = TwoHops::new(tier).await;
        hops.worker.admission().steer(Steering::Set(rung));
        hops.worker.tick(&Signals::default());
        let mut request = fetch("forward hello");
        // What a device says of its own importance.
        request.metadata_mut().insert("x-spillway-level", "128.0".parse().unwrap());
        let outcome = tokio::time::timeout(BOUND, ask(&hops.front, request)).await.unwrap();
        assert_eq!(outcome.is_ok(), served, "{tier} at rung {rung}: {outcome:?}");
        assert_eq!(hops.behind.started(), usize::from(served));
        if let Err(refused) = outcome {
            assert_eq!(reason(&refused), Reason::Overload, "as the worker said it");
        }
        assert!(hops.gateway.admission().threshold(tier).is_open(tier));
    }
}

#[tokio::test]
async fn a_hop_hears_how_the_one_below_fares() {
    let tasks = Tasks::new();
    let (fleet, behind) = (Fleet::new(), Handler::default());
    let worker = Hop::worker(admission(AdmissionConfig::default()));
    let server = behind.server(ServerConfig::default(), &Registry::new()).admit(worker.clone());
    fleet.serve(server, &BusServerConfig::default(), &tasks).await;
    let transport = fleet.channel(&tasks).await;
    served(&transport).await;
    let downstream = spillway_rpc::Downstream::default();
    let channel = spillway_rpc::client_stack(
        transport,
        &spillway_rpc::ClientConfig::default(),
        &spillway_rpc::ClientMetrics::new(&Registry::new()),
        &downstream,
    );
    ask(&channel, fetch("hello")).await.unwrap();
    assert!(downstream.take() < 0.5);
    for _ in 0..3 {
        tokio::time::sleep(TICK).await;
        worker.tick(&Signals { run_queue_delay: Duration::from_millis(60), ..Signals::default() });
    }
    ask(&channel, fetch("hello")).await.ok();
    let heard = downstream.take();
    assert!((2.5..3.5).contains(&heard), "three times the 20 ms that are too much, and not {heard}");
}
