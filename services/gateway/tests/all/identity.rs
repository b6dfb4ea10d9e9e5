//! Credentials, tokens and resume tickets.

use std::time::Duration;

use spillway_api::Reason;
use spillway_api::v1::hello::Identity;
use spillway_types::MailboxId;
use tonic::Response;

use super::support::{Device, Known, Node, as_device, assert_refused, authorized, message, refusal, settle};

async fn token_of(node: &Node, device: &Known, to: &[Known]) -> String {
    let answer = node.messages().send(as_device(device, message(to, "x"))).await.unwrap();
    let metadata = answer.metadata();
    let expires_in_ms: u64 =
        metadata.get("x-spillway-token-expires-in-ms").unwrap().to_str().unwrap().parse().unwrap();
    assert_eq!(expires_in_ms, 600_000);
    metadata.get("x-spillway-token").unwrap().to_str().unwrap().to_owned()
}

async fn send_with(
    node: &Node,
    authorization: &str,
    to: &[Known],
) -> Result<Response<spillway_api::v1::SendResponse>, spillway_api::Refusal> {
    node.messages().send(authorized(message(to, "x"), authorization)).await.map_err(refusal)
}

/// The text with its middle character replaced.
fn tampered(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_credential_earns_a_token_that_costs_no_look_up() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(1));
    let token = token_of(&node, &sender, &receiver).await;
    assert_eq!(node.registration.state().authenticates, 1);
    let answer = send_with(&node, &format!("Bearer {token}"), &receiver).await.unwrap();
    assert!(answer.metadata().get("x-spillway-token").is_none(), "a good token is not replaced");
    assert_eq!(node.registration.state().authenticates, 1);
}

#[tokio::test(start_paused = true)]
async fn what_proves_nothing_is_refused() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(1));
    let token = token_of(&node, &sender, &receiver).await;
    let (_device, welcome) = Device::hello(&node.public, Identity::Token(token.clone())).await.unwrap();
    let ticket = welcome.ticket.unwrap().resume_ticket;
    for authorization in [
        "Device nonsense".to_owned(),
        "Bearer nonsense".to_owned(),
        format!("Basic {token}"),
        format!("Bearer {}", tampered(&token)),
        format!("Bearer {}", token.get(..token.len() - 4).unwrap()),
        format!("Bearer {ticket}"),
        token.clone(),
    ] {
        assert_refused(send_with(&node, &authorization, &receiver).await, Reason::Unauthenticated);
    }
    let without = node.messages().send(message(&receiver, "x")).await.map_err(refusal);
    assert_refused(without, Reason::Unauthenticated);
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_removed_device_is_refused_and_that_of_another_renewed() {
    let node = Node::start();
    let (sender, receiver) = (node.account(2), node.account(1));
    let removed = token_of(&node, &sender[1], &receiver).await;
    let staying = token_of(&node, &sender[0], &receiver).await;
    node.registration.set_devices(sender[0].address.account, &sender[..1]);
    node.announce_change(sender[0].address.account).await;

    let refused = send_with(&node, &format!("Bearer {removed}"), &receiver).await;
    assert_refused(refused, Reason::Unauthenticated);
    let answer = send_with(&node, &format!("Bearer {staying}"), &receiver).await.unwrap();
    assert!(answer.metadata().get("x-spillway-token").is_some());
    assert_eq!(node.registration.state().authenticates, 2, "the credential was not needed again");
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_device_that_was_set_up_anew_is_refused() {
    let node = Node::start();
    let (mut sender, receiver) = (node.account(1), node.account(1));
    let token = token_of(&node, &sender[0], &receiver).await;
    sender[0].mailbox = MailboxId::random();
    node.registration.set_devices(sender[0].address.account, &sender);
    node.announce_change(sender[0].address.account).await;
    let refused = send_with(&node, &format!("Bearer {token}"), &receiver).await;
    assert_refused(refused, Reason::Unauthenticated);
}

#[tokio::test(start_paused = true)]
async fn resuming_with_a_ticket_reads_nothing_from_registration() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    let credential = Identity::Credential(known.credential.clone());
    let (first, welcome) = Device::hello(&node.public, credential).await.unwrap();
    drop(first);
    let mut ticket = welcome.ticket.unwrap().resume_ticket;
    for _ in 0..3 {
        let resumed = Device::hello(&node.public, Identity::ResumeTicket(ticket)).await;
        ticket = resumed.unwrap().1.ticket.unwrap().resume_ticket;
    }
    let state = node.registration.state();
    assert_eq!((state.authenticates, state.get_devices), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_was_used_or_changed_is_refused() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    let credential = Identity::Credential(known.credential.clone());
    let (_first, welcome) = Device::hello(&node.public, credential).await.unwrap();
    let ticket = welcome.ticket.unwrap();
    let resume = async |text: String| {
        let mut device = Device::connect(&node.public).await.unwrap();
        device.say_hello(Identity::ResumeTicket(text)).await;
        device.next().await
    };
    assert_refused(resume(tampered(&ticket.resume_ticket)).await, Reason::Unauthenticated);
    assert_refused(resume(ticket.token).await, Reason::Unauthenticated);
    assert!(resume(ticket.resume_ticket.clone()).await.is_ok());
    assert_refused(resume(ticket.resume_ticket).await, Reason::TicketUsed);
}

#[tokio::test(start_paused = true)]
async fn an_open_session_gets_fresh_tickets_before_its_token_expires() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    let mut device = Device::open_and_drain(&node, &known).await;
    let began = tokio::time::Instant::now();
    let spillway_api::v1::session_response::Frame::Ticket(ticket) = device.frame().await else {
        panic!("a ticket")
    };
    assert!(began.elapsed() < Duration::from_secs(9 * 60), "{:?}", began.elapsed());
    assert!(Device::hello(&node.public, Identity::ResumeTicket(ticket.resume_ticket)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_removal_hint_was_lost_ends_when_its_ticket_is_due() {
    let node = Node::start();
    let known = node.account(2);
    let mut device = Device::open_and_drain(&node, &known[1]).await;
    node.registration.set_devices(known[0].address.account, &known[..1]);
    node.announce_change(known[0].address.account).await;
    settle().await;
    assert_eq!(device.closing().await, spillway_api::v1::closing::Reason::DeviceRemoved);
}

#[tokio::test(start_paused = true)]
async fn tokens_and_tickets_expire() {
    let node = Node::start();
    let (sender, receiver) = (node.account(1).remove(0), node.account(1));
    let token = token_of(&node, &sender, &receiver).await;
    let (_device, welcome) = Device::hello(&node.public, Identity::Token(token.clone())).await.unwrap();
    node.clock.advance(Duration::from_secs(10 * 60));
    assert_refused(send_with(&node, &format!("Bearer {token}"), &receiver).await, Reason::Unauthenticated);
    node.clock.advance(Duration::from_secs(24 * 3_600));
    let mut late = Device::connect(&node.public).await.unwrap();
    late.say_hello(Identity::ResumeTicket(welcome.ticket.unwrap().resume_ticket)).await;
    assert_refused(late.next().await, Reason::Unauthenticated);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_resumes_for_days_is_looked_up_now_and_then() {
    let node = Node::start();
    let known = node.account(1).remove(0);
    let credential = Identity::Credential(known.credential.clone());
    let (_first, welcome) = Device::hello(&node.public, credential).await.unwrap();
    let mut ticket = welcome.ticket.unwrap().resume_ticket;
    for _ in 0..14 {
        node.clock.advance(Duration::from_secs(23 * 3_600));
        // The quotas have a clock of their own.
        tokio::time::sleep(Duration::from_secs(20)).await;
        let resumed = Device::hello(&node.public, Identity::ResumeTicket(ticket)).await;
        ticket = resumed.unwrap().1.ticket.unwrap().resume_ticket;
    }
    let state = node.registration.state();
    assert_eq!((state.authenticates, state.get_devices), (1, 3), "every fourth day");
}
