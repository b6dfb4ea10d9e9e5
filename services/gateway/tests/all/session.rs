use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use spillway_admission::QuotaConfig;
use spillway_api::internal::v1::mailbox_hint::Hint;
use spillway_api::internal::v1::{
    ControlState, DeviceRemoved, MailboxHint, Role, RoleTotal, SessionOpened, Wake,
};
use spillway_api::v1::closing::Reason as Closing;
use spillway_api::v1::hello::Identity;
use spillway_api::v1::session_request;
use spillway_api::v1::session_response::Frame;
use spillway_api::{Reason, v1};
use spillway_bus::{Bus as _, Subject};
use spillway_gateway::Config;
use spillway_rpc::{Server, ServerConfig, ServerMetrics, TcpConfig, tcp};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::support::{Device, Node, SETTLED_US, assert_refused, message, refusal, settle};

const QUEUE_EMPTY: Frame = Frame::QueueEmpty(v1::QueueEmpty {});

fn delivered(frames: &[Frame]) -> Vec<Bytes> {
    let id = |frame: &Frame| match frame {
        Frame::Delivery(delivery) => Some(delivery.id.clone()),
        _ => None,
    };
    frames.iter().filter_map(id).collect()
}

#[tokio::test(start_paused = true)]
async fn the_backlog_comes_first_then_queue_empty_then_live_mail() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(1));
    let waiting = node.mailbox.fill(receiver[0].mailbox, 150, 10);
    let mut device = Device::open(&node, &receiver[0]).await;
    for id in &waiting {
        assert_eq!(device.delivery().await.id, *id, "oldest first");
    }
    assert_eq!(device.frame().await, QUEUE_EMPTY);

    let request = message(&receiver, "live");
    node.send(&sender, request.clone()).await.unwrap();
    let live = device.delivery().await;
    assert_eq!((live.guid, live.ephemeral), (request.guid, false));
    let envelope = live.envelope.unwrap();
    assert_eq!((envelope.content, envelope.source), (Bytes::from("live"), Some(sender.address.into())));
}

#[tokio::test(start_paused = true)]
async fn who_has_read_nothing_yet_reads_before_those_who_look_again() {
    let mut config = Config::default();
    config.session.reads_in_turn = Some(1);
    let node = Node::with(config, QuotaConfig::default());
    let [first, second, third] = [(); 3].map(|()| node.account(1).remove(0));
    let mut online = vec![Device::open(&node, &first).await];
    online[0].frame().await;
    node.mailbox.state().fetches_take = Duration::from_secs(3);
    online.push(Device::open(&node, &second).await);
    // Now the first one would look again.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    online.push(Device::open(&node, &third).await);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let fetched = node.mailbox.state().fetched.clone();
    assert_eq!(fetched[..3], [first.mailbox, second.mailbox, third.mailbox]);
    assert!(fetched[3..].contains(&first.mailbox), "it is made up for");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_by_page_and_by_hint_is_delivered_once() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    node.mailbox.fill(known.mailbox, 3, 10);
    let mut device = Device::open(&node, &known).await;
    for stored in node.mailbox.stored(known.mailbox) {
        node.hint(known.mailbox, Hint::Stored(stored)).await;
    }
    node.hint(known.mailbox, Hint::Wake(Wake {})).await;
    let frames = device.frames_within(Duration::from_secs(70)).await;
    assert_eq!(delivered(&frames).len(), 3, "{frames:?}");
    assert_eq!(frames.iter().filter(|frame| **frame == QUEUE_EMPTY).count(), 1);
    let state = node.mailbox.state();
    assert!(state.fetches >= 4, "the sweeps have read it again");
    let (first, later) = state.known_settled_us.split_first().unwrap();
    assert_eq!(*first, 0);
    assert!(
        later.iter().all(|known| *known == SETTLED_US),
        "what the first read told saves a look-up: {later:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_window_is_unacked_and_acks_move_it() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    let waiting = node.mailbox.fill(known.mailbox, 600, 10);
    let mut device = Device::open(&node, &known).await;
    let first = delivered(&device.frames_within(Duration::from_secs(30)).await);
    assert_eq!(first, waiting[..256]);

    device.ack(&first[..10]).await;
    let second = delivered(&device.frames_within(Duration::from_secs(1)).await);
    assert_eq!(second, waiting[256..266]);

    let mut seen: Vec<_> = first.iter().chain(&second).cloned().collect();
    let mut unacked = seen[10..].to_vec();
    while seen.len() < waiting.len() {
        device.ack(&unacked).await;
        unacked = delivered(&device.frames_within(Duration::from_secs(1)).await);
        seen.extend(unacked.iter().cloned());
    }
    assert_eq!(seen, waiting, "each once, in order");
}

#[tokio::test(start_paused = true)]
async fn live_mail_beyond_the_window_waits_in_the_store() {
    let node = Node::start();
    let known = node.account(1);
    let sender = node.account(1).remove(0);
    node.mailbox.fill(known[0].mailbox, 255, 10);
    let mut device = Device::open(&node, &known[0]).await;
    let backlog = delivered(&device.frames_within(Duration::from_secs(1)).await);
    for n in 0..20 {
        node.send(&sender, message(&known, &n.to_string())).await.unwrap();
    }
    let one = delivered(&device.frames_within(Duration::from_secs(1)).await);
    assert_eq!((backlog.len(), one.len()), (255, 1));
    device.ack(&backlog).await;
    let rest = delivered(&device.frames_within(Duration::from_secs(1)).await);
    assert_eq!(rest.len(), 19);
}

#[tokio::test(start_paused = true)]
async fn acks_that_come_one_by_one_are_given_to_the_mailbox_together() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    let ids = node.mailbox.fill(known.mailbox, 20, 10);
    node.mailbox.state().acknowledge_failures = 1;
    let mut device = Device::open(&node, &known).await;
    device.frames_within(Duration::from_millis(10)).await;
    for id in &ids {
        device.ack(std::slice::from_ref(id)).await;
    }
    let again = device.frames_within(Duration::from_secs(15)).await;
    assert_eq!(delivered(&again).len(), 0, "nothing acked comes again, though the first call failed");
    assert!(node.mailbox.stored(known.mailbox).is_empty());
    let state = node.mailbox.state();
    let sizes: Vec<_> = state.acknowledges.iter().map(|call| call.ids.len()).collect();
    assert_eq!(sizes, [20, 20], "one call, and one after it failed");
}

#[tokio::test(start_paused = true)]
async fn acks_are_not_lost_when_the_client_leaves_right_after_them() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    let ids = node.mailbox.fill(known.mailbox, 3, 10);
    let mut device = Device::open(&node, &known).await;
    device.frames_within(Duration::from_millis(10)).await;
    device.ack(&ids).await;
    settle().await;
    drop(device);
    settle().await;
    assert!(node.mailbox.stored(known.mailbox).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lost_hint_is_made_good_by_a_sweep() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(1));
    let mut device = Device::open_and_drain(&node, &receiver[0]).await;
    node.mailbox.state().loses_hints = true;
    let began = Instant::now();
    node.send(&sender, message(&receiver, "quiet")).await.unwrap();
    device.delivery().await;
    assert!(began.elapsed() <= Duration::from_secs(2));
    tokio::time::sleep(Duration::from_secs(120)).await;
    node.send(&sender, message(&receiver, "quiet")).await.unwrap();
    device.delivery().await;
    assert!(began.elapsed() <= Duration::from_secs(60 + 360));
}

/// As after an outage of the bus: a worker stores mail before its own connection is back.
#[tokio::test(start_paused = true)]
async fn mail_whose_hint_is_lost_soon_after_others_were_comes_within_seconds() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(1));
    let mut device = Device::open_and_drain(&node, &receiver[0]).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    // More than a subscription holds.
    for _ in 0..10_000 {
        node.hint(receiver[0].mailbox, Hint::Wake(Wake {})).await;
    }
    settle().await;
    node.mailbox.state().loses_hints = true;
    let began = Instant::now();
    node.send(&sender, message(&receiver, "quiet")).await.unwrap();
    device.delivery().await;
    assert!(began.elapsed() <= Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_newest_session_of_a_device_ends_the_older_one() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    let mut older = Device::open_and_drain(&node, &known).await;
    node.clock.advance(Duration::from_millis(1));
    let mut newer = Device::open_and_drain(&node, &known).await;
    assert_eq!(older.closing().await, Closing::Replaced);

    let opened_at_us = 1;
    node.hint(known.mailbox, Hint::SessionOpened(SessionOpened { opened_at_us, nonce: u64::MAX })).await;
    assert_eq!(newer.frames_within(Duration::from_secs(60)).await, []);
}

#[tokio::test(start_paused = true)]
async fn sessions_are_counted_while_they_are_open_and_by_their_end() {
    let node = Node::start();
    let known = node.account(2);
    let devices =
        [Device::open_and_drain(&node, &known[0]).await, Device::open_and_drain(&node, &known[1]).await];
    assert_eq!(node.metric("spillway_gateway_sessions_open", &[]), 2.0);
    let [removed, left] = devices;
    node.hint(known[0].mailbox, Hint::DeviceRemoved(DeviceRemoved {})).await;
    drop(left);
    settle().await;
    assert_eq!(node.metric("spillway_gateway_sessions_open", &[]), 0.0);
    for (reason, count) in [("device_removed", 1.0), ("client_left", 1.0), ("failed", 0.0)] {
        assert_eq!(node.metric("spillway_gateway_session_ends_total", &[reason]), count, "{reason}");
    }
    let proofs = node.metric("spillway_gateway_proofs_total", &["hello", "credential", "renewed"]);
    assert_eq!(proofs, 2.0);
    drop(removed);
}

#[tokio::test(start_paused = true)]
async fn a_removed_device_is_told_so() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    let mut device = Device::open_and_drain(&node, &known).await;
    node.hint(known.mailbox, Hint::DeviceRemoved(DeviceRemoved {})).await;
    assert_eq!(device.closing().await, Closing::DeviceRemoved);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_given_bounded_memory_and_thirty_seconds() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    node.mailbox.fill(known.mailbox, 100, 64 << 10);
    let mut device = Device::open(&node, &known).await;
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(node.mailbox.state().fetches < 3, "it does not go on reading for a client that does not");
    tokio::time::sleep(Duration::from_secs(2)).await;
    // What was queued is gone, except for what the transport had taken already; the last word is not.
    let mut deliveries = 0;
    let reason = loop {
        match device.frame().await {
            Frame::Closing(closing) => break closing.reason(),
            _ => deliveries += 1,
        }
    };
    assert_eq!(reason, Closing::SlowReader);
    assert!(deliveries <= 2, "{deliveries}");
    assert_eq!(node.mailbox.stored(known.mailbox).len(), 100, "nothing is lost");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_but_steadily_is_kept() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    let ids = node.mailbox.fill(known.mailbox, 30, 64 << 10);
    let mut device = Device::open(&node, &known).await;
    for id in &ids {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let delivery = device.delivery().await;
        assert_eq!(delivery.id, *id);
        device.ack(&[delivery.id]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_says_hello_ends() {
    let node = Node::start();
    let mut device = Device::connect(&node.public).await.unwrap();
    let began = Instant::now();
    assert_refused(device.next().await, Reason::HelloExpected);
    assert_eq!(began.elapsed().as_secs(), 10);

    let mut device = Device::connect(&node.public).await.unwrap();
    device.ack(&[]).await;
    assert_refused(device.next().await, Reason::HelloExpected);
}

#[tokio::test(start_paused = true)]
async fn frames_that_cannot_be_right_end_the_stream() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    let id = Bytes::from_static(&[1; 16]);
    let short = Bytes::from_static(b"short");
    for frame in [
        session_request::Frame::Hello(v1::Hello { identity: Some(Identity::Credential("x".to_owned())) }),
        session_request::Frame::Ack(v1::Ack { ids: vec![short] }),
        session_request::Frame::Ack(v1::Ack { ids: vec![id.clone(); 257] }),
    ] {
        let mut device = Device::open_and_drain(&node, &known).await;
        device.say(frame).await;
        assert_refused(device.next().await, Reason::InvalidArgument);
    }
    let mut device = Device::open_and_drain(&node, &known).await;
    device.ack(&[id]).await;
    assert_eq!(device.frames_within(Duration::from_secs(5)).await, [], "an unknown id is fine");
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_frame_end_the_stream() {
    let node = Node::start();
    // Field 2 of a session request is a message; here it is a number.
    let garbage = v1::FetchKeysRequest { device_id: 7, ..Default::default() };
    let mut grpc = tonic::client::Grpc::new(node.public.clone());
    let codec = tonic_prost::ProstCodec::<v1::FetchKeysRequest, v1::SessionResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/spillway.v1.Messages/Session");
    let request = tonic::Request::new(tokio_stream::once(garbage));
    let mut answers = grpc.streaming(request, path, codec).await.unwrap().into_inner();
    let status = answers.message().await.unwrap_err();
    assert_eq!(refusal(status).reason, Reason::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_message_reaches_an_open_session_without_an_id() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(1));
    let mut device = Device::open_and_drain(&node, &receiver[0]).await;
    let request = v1::SendRequest { ephemeral: true, ..message(&receiver, "typing") };
    node.send(&sender, request.clone()).await.unwrap();
    let delivery = device.delivery().await;
    assert_eq!((delivery.id, delivery.guid, delivery.ephemeral), (Bytes::new(), request.guid, true));
}

#[tokio::test(start_paused = true)]
async fn a_drain_tells_sessions_to_move_at_different_times_and_then_closes_them() {
    let node = Node::start();
    let mut devices = Vec::new();
    for known in (0..8).map(|_| node.account(1).remove(0)) {
        devices.push(Device::open_and_drain(&node, &known).await);
    }
    node.drain.begin();
    let mut afters = HashSet::new();
    for device in &mut devices {
        let Frame::Migrate(migrate) = device.frame().await else { panic!("a migrate frame") };
        let after = migrate.after.unwrap();
        assert!(after.seconds < 5);
        afters.insert((after.seconds, after.nanos));
    }
    assert!(afters.len() > 1, "not all at the same time");
    assert_refused(Device::connect(&node.public).await.map(drop), Reason::Draining);
    for device in &mut devices {
        assert_eq!(device.closing().await, Closing::Draining);
    }
    node.tasks.close_and_wait(Duration::from_secs(1)).await.unwrap();
}

/// Of two gateways this one has all the sessions.
#[tokio::test(start_paused = true)]
async fn a_gateway_with_more_than_its_share_tells_some_to_move() {
    let node = Node::start();
    let mut devices = Vec::new();
    for known in (0..150).map(|_| node.account(1).remove(0)) {
        devices.push(Device::open_and_drain(&node, &known).await);
    }
    let gateways =
        RoleTotal { role: Role::Gateway.into(), processes: 2, sessions: 150, ..RoleTotal::default() };
    let state = ControlState { token: 1, roles: vec![gateways], ..ControlState::default() };
    for _ in 0..5 {
        node.bus.publish(Subject::Control, state.encode_to_vec().into()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut told = 0;
    for device in &mut devices {
        if let Ok(frame) = tokio::time::timeout(Duration::ZERO, device.frame()).await {
            let Frame::Migrate(migrate) = frame else { panic!("{frame:?}") };
            assert!(migrate.after.unwrap().seconds < 1);
            told += 1;
        }
    }
    // One a second: a two-hundredth of 150 is less.
    assert!((3..=6).contains(&told), "{told}");
}

#[tokio::test(start_paused = true)]
async fn cancelled_tasks_take_their_sessions_with_them() {
    let node = Node::start();
    let mut device = Device::open_and_drain(&node, &node.account(1).remove(0)).await;
    let silent = Device::connect(&node.public).await.unwrap();
    node.tasks.close_and_wait(Duration::from_secs(1)).await.unwrap();
    assert_eq!(device.closing().await, Closing::Draining);
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_lags_behind_its_hints_reads_the_mailbox() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    let mut device = Device::open_and_drain(&node, &known).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    device.frames_within(Duration::from_secs(1)).await;
    let ids = node.mailbox.fill(known.mailbox, 100, 10);
    // More than a subscription keeps, all at once.
    for stored in node.mailbox.stored(known.mailbox) {
        let hint = MailboxHint { hint: Some(Hint::Stored(stored)), ..MailboxHint::default() };
        let hint = prost::Message::encode_to_vec(&hint);
        node.bus.publish(Subject::Mailbox(known.mailbox), hint.into()).await.unwrap();
    }
    let frames = device.frames_within(Duration::from_secs(1)).await;
    let seen: HashSet<_> = delivered(&frames).into_iter().collect();
    assert_eq!(seen, ids.into_iter().collect());
}

#[tokio::test]
async fn the_whole_way_works_over_a_socket() {
    let node = Node::with(Config::default(), QuotaConfig::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = ServerMetrics::new(&prometheus::Registry::new());
    let mut server = Server::new(ServerConfig::default(), "public", &metrics);
    server = server.add_service(node.services.messages.clone());
    server.serve(listener, None, &node.tasks);
    let endpoint = format!("http://{address}").parse().unwrap();
    let public = tcp(endpoint, &TcpConfig::default(), None).unwrap();

    let (sender, receiver) = (node.account(1).remove(0), node.account(1));
    let credential = Identity::Credential(receiver[0].credential.clone());
    let (mut device, _) = Device::hello(&public, credential).await.unwrap();
    assert_eq!(device.frame().await, QUEUE_EMPTY);
    let request = super::support::as_device(&sender, message(&receiver, "over tcp"));
    v1::messages_client::MessagesClient::new(public).send(request).await.unwrap();
    let delivery = device.delivery().await;
    assert_eq!(delivery.envelope.unwrap().content, "over tcp");
    device.ack(&[delivery.id]).await;
    let emptied = async {
        while !node.mailbox.stored(receiver[0].mailbox).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), emptied).await.expect("the ack reaches the mailbox");
}
