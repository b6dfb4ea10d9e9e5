//! The disk is full: nothing new is taken, and nothing that was taken is withheld.
//!
//! A reserve above what any disk has free stands for the full disk.

use std::time::Duration;

use spillway_api::{Reason, v1};
use spillway_types::PhoneNumber;
use tokio::time::Instant;

use super::desk::population;
use super::support::{Node, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_new_mail_and_gives_out_the_old() {
    let mut node = Node::start("disk-full", &[]).await;
    let [alice, bob] = node.people().await;
    for n in 0..5 {
        alice.send(&bob, format!("before {n}")).await.unwrap();
    }
    node.kill().await;
    node.start_again_with(&[("STORE__EMBEDDED__RESERVE_BYTES", "9000000000000000000")]).await;
    let (alice, bob) = (node.again(&alice).await, node.again(&bob).await);

    let asked = Instant::now();
    let error = alice.send(&bob, "while full").await.unwrap_err();
    let refusal = error.refusal().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!(refusal.reason, Reason::Unavailable);
    assert!(refusal.message.contains("disk is full"), "{refusal}");
    assert!(refusal.retry_after.is_some(), "says when to come back");
    assert!(asked.elapsed() < Duration::from_secs(10), "a sender is not kept waiting for a disk");

    let stranger = population().person(9).number;
    node.keep_secret(&stranger);
    let number = PhoneNumber::parse(&stranger).unwrap();
    let error = alice.client.start_verification(&number, v1::Transport::Sms).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().reason, Reason::Unavailable, "nor can anybody sign up");

    let mut inbox = bob.inbox().await;
    let stored: Vec<_> = inbox.backlog().await;
    assert_eq!(stored, ["before 0", "before 1", "before 2", "before 3", "before 4"]);
    eventually("acks are taken", || async {
        node.metric("spillway_mailbox_acknowledged_messages_total", "").await == 5.0
    })
    .await;
    drop(inbox);

    node.kill().await;
    node.start_again().await;
    let (alice, bob) = (node.again(&alice).await, node.again(&bob).await);
    alice.send(&bob, "after").await.unwrap();
    assert_eq!(
        bob.inbox().await.backlog().await,
        ["after"],
        "acks held, and the refused message is not there"
    );
}
