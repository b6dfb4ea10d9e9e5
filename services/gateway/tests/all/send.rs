use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use spillway_admission::QuotaConfig;
use spillway_api::{Reason, v1};
use spillway_gateway::Config;
use spillway_types::{AccountId, MailboxId};
use tokio::time::Instant;

use super::support::{Fault, Known, Node, as_device, assert_refused, message, settle};

fn appended_ids(node: &Node) -> Vec<Bytes> {
    node.mailbox.state().appends.iter().map(|append| append.id.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn every_device_gets_its_own_copy_under_one_guid() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(3));
    let request = message(&receiver, "hello");
    let answer = node.send(&sender, request.clone()).await.unwrap();
    assert!(answer.accepted_at.is_some());
    assert_eq!((answer.full_devices, answer.near_full_devices), (vec![], vec![]));

    let mut ids = HashSet::new();
    for device in &receiver {
        let [stored] = &node.mailbox.stored(device.mailbox)[..] else { panic!("one message") };
        assert!(ids.insert(stored.id.clone()));
        assert_eq!(stored.guid, request.guid);
        let envelope = v1::Envelope::decode(stored.envelope.clone()).unwrap();
        assert_eq!(envelope.source, Some(sender.address.into()));
        assert_eq!(envelope.content, "hello");
        assert_eq!(envelope.accepted_at, answer.accepted_at);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_list_of_devices_stores_nothing_and_tells_the_difference() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(3));
    let mut believed = receiver[1..].to_vec();
    believed[0].registration_id += 1;
    believed.push(Known {
        address: spillway_types::DeviceAddress {
            device: spillway_types::DeviceId::try_from(9).unwrap(),
            ..receiver[0].address
        },
        ..receiver[0].clone()
    });
    let refusal = assert_refused(node.send(&sender, message(&believed, "x")).await, Reason::StaleDevices);
    let stale = v1::StaleDevices { missing: vec![1], extra: vec![9], stale: vec![2] };
    assert_eq!(refusal.detail::<v1::StaleDevices>(), Some(stale));
    assert!(node.mailbox.state().appends.is_empty());
}

#[tokio::test(start_paused = true)]
async fn full_mailboxes_are_told_apart_from_those_that_took_the_message() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(3));
    node.mailbox.state().full.insert(receiver[1].mailbox);
    node.mailbox.state().near_full.insert(receiver[2].mailbox);
    let answer = node.send(&sender, message(&receiver, "x")).await.unwrap();
    assert_eq!((answer.full_devices, answer.near_full_devices), (vec![2], vec![3]));
    assert_eq!(node.mailbox.stored(receiver[0].mailbox).len(), 1);

    node.mailbox.state().full.extend(receiver.iter().map(|device| device.mailbox));
    assert_refused(node.send(&sender, message(&receiver, "x")).await, Reason::MailboxFull);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_retried_under_the_same_id_and_stores_one_message() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(1));
    let faults = [Fault::SilentAfterStoring, Fault::Unavailable];
    node.mailbox.state().append_faults.extend(faults);
    let began = Instant::now();
    node.send(&sender, message(&receiver, "x")).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2), "a silent worker is given two seconds");
    let ids = appended_ids(&node);
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(node.mailbox.stored(receiver[0].mailbox).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_id_is_used_for_ten_seconds_and_the_send_given_up_after_thirty() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(1));
    node.mailbox.state().append_always = Some(Fault::Unavailable);
    let began = Instant::now();
    assert_refused(node.send(&sender, message(&receiver, "x")).await, Reason::Unavailable);
    let took = began.elapsed();
    assert!((Duration::from_secs(28)..=Duration::from_secs(30)).contains(&took), "{took:?}");
    let ids: HashSet<_> = appended_ids(&node).into_iter().collect();
    assert_eq!(ids.len(), 3, "one id for each ten seconds");
    let guids: HashSet<_> = node.mailbox.state().appends.iter().map(|append| append.guid.clone()).collect();
    assert_eq!(guids.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_the_mailbox_finds_too_old_is_replaced_at_once() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(1));
    node.mailbox.state().append_faults.push_back(Fault::OutOfWindow);
    node.send(&sender, message(&receiver, "x")).await.unwrap();
    let ids = appended_ids(&node);
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test(start_paused = true)]
async fn a_sender_who_hangs_up_does_not_leave_half_a_send() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(2));
    node.mailbox.state().append_faults.extend([Fault::Unavailable; 6]);
    let send = node.send(&sender, message(&receiver, "x"));
    assert!(tokio::time::timeout(Duration::from_millis(5), send).await.is_err(), "the sender leaves");
    assert!(receiver.iter().all(|device| node.mailbox.stored(device.mailbox).is_empty()));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(receiver.iter().all(|device| node.mailbox.stored(device.mailbox).len() == 1));
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_message_is_whispered_and_not_stored() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(2));
    let request = v1::SendRequest { ephemeral: true, ..message(&receiver, "typing") };
    node.send(&sender, request).await.unwrap();
    let state = node.mailbox.state();
    assert_eq!((state.whispers.len(), state.appends.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn devices_are_looked_up_once_until_the_account_changes() {
    let node = Node::start();
    let (sender, mut receiver) = (node.account(1).remove(0), node.account(2));
    let account = receiver[0].address.account;
    settle().await;
    for _ in 0..3 {
        node.send(&sender, message(&receiver, "x")).await.unwrap();
    }
    assert_eq!(node.registration.state().get_devices, 1);

    receiver[1].mailbox = MailboxId::random();
    receiver[1].registration_id += 1;
    node.registration.set_devices(account, &receiver);
    node.announce_change(account).await;
    node.send(&sender, message(&receiver, "x")).await.unwrap();
    assert_eq!(node.mailbox.stored(receiver[1].mailbox).len(), 1);
    assert_eq!(node.registration.state().get_devices, 2);

    tokio::time::sleep(Duration::from_secs(61)).await;
    node.send(&sender, message(&receiver, "x")).await.unwrap();
    assert_eq!(node.registration.state().get_devices, 3, "no list is believed for ever");
}

#[tokio::test(start_paused = true)]
async fn an_account_that_does_not_exist_is_not_remembered() {
    let node = Node::start();
    let (sender, mut nobody) = (node.account(1).remove(0), node.account(1));
    let account = AccountId::random();
    nobody[0].address.account = account;
    assert_refused(node.send(&sender, message(&nobody, "x")).await, Reason::AccountNotFound);
    node.registration.set_devices(account, &nobody);
    node.send(&sender, message(&nobody, "x")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_quota_of_messages_says_when_to_come_back() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(1));
    for _ in 0..60 {
        node.send(&sender, message(&receiver, "x")).await.unwrap();
    }
    let refusal = assert_refused(node.send(&sender, message(&receiver, "x")).await, Reason::Quota);
    tokio::time::sleep(refusal.retry_after.expect("a time to come back")).await;
    node.send(&sender, message(&receiver, "x")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_a_deadline_is_answered_by_then() {
    let node = Node::with(Config::default(), QuotaConfig::default());
    let (sender, receiver) = (node.account(1).remove(0), node.account(1));
    node.mailbox.state().append_always = Some(Fault::Unavailable);
    let mut request = as_device(&sender, message(&receiver, "x"));
    request.set_timeout(Duration::from_secs(3));
    let began = Instant::now();
    node.messages().send(request).await.unwrap_err();
    assert!(began.elapsed() <= Duration::from_secs(3));
    settle().await;
    let tries = node.mailbox.state().appends.len();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.mailbox.state().appends.len(), tries, "nobody tries for a caller who has gone");
}
