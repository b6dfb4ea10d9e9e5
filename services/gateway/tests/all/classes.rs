//! How important the calls are that a gateway makes for its devices, and what it leaves out.

use std::time::Duration;

use spillway_admission::{Level, Signals, Steering, Tier, User};
use spillway_api::v1;
use spillway_rpc::Class;

use super::support::{Device, Node, message};

const SEND: Class = Class { level: Level::new(Tier::Send, 7), user: User(7) };

#[tokio::test(start_paused = true)]
async fn a_send_keeps_its_class_also_on_a_task_of_its_own() {
    let node = Node::start();
    let sender = node.account(1).remove(0);
    for devices in [1, 3] {
        let receiver = node.account(devices);
        SEND.scope(node.send(&sender, message(&receiver, "text"))).await.unwrap();
    }
    assert_eq!(node.mailbox.state().classes, [("append", Some(Tier::Send)); 4]);
}

#[tokio::test(start_paused = true)]
async fn a_session_acks_before_all_others_and_reads_with_the_sends_or_after_them() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    let waiting = node.mailbox.fill(known.mailbox, 2, 10);
    let mut device = Device::open(&node, &known).await;
    for _ in &waiting {
        device.delivery().await;
    }
    device.ack(&waiting).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let classes = node.mailbox.state().classes.clone();
    // What it reads because it has opened, thousands of others may read at the same time; two seconds later it looks for what it may have missed.
    let expected = [("fetch", Tier::Send), ("acknowledge", Tier::Ack), ("fetch", Tier::Lookup)];
    assert_eq!(classes, expected.map(|(call, tier)| (call, Some(tier))));
}

#[tokio::test(start_paused = true)]
async fn typing_comes_last_and_stops_at_the_first_rung() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(2));
    let typing = || v1::SendRequest { ephemeral: true, ..message(&receiver, "typing") };
    SEND.scope(node.send(&sender, typing())).await.unwrap();
    assert_eq!(node.mailbox.state().classes, [("whisper", Some(Tier::Background)); 2]);

    node.hop.admission().steer(Steering::Set(1));
    tokio::time::sleep(Duration::from_millis(100)).await;
    node.hop.tick(&Signals::default());
    SEND.scope(node.send(&sender, typing())).await.unwrap();
    SEND.scope(node.send(&sender, message(&receiver, "text"))).await.unwrap();
    let state = node.mailbox.state();
    assert_eq!((state.whispers.len(), state.appends.len()), (2, 2));
}
