//! Proofs that are not the caller's own, or not whole, or not fresh.

#![allow(clippy::string_slice, reason = "credentials, tokens and tickets are ASCII")]

use spillway_api::v1::{self, hello};
use spillway_api::{Reason, Refusal};
use spillway_client::Client;

use crate::all::raw::{RawSession, authorized, refusal, request};
use crate::all::support::{Node, Person};

impl Node {
    /// A resume ticket and a token, fresh.
    async fn ticket(&self, person: &Person) -> v1::Ticket {
        let credential = hello::Identity::Credential(person.identity.credential().to_owned());
        let ticket = RawSession::hello(&person.client, credential).await.welcome().await;
        self.keep_secret(&ticket.resume_ticket);
        self.keep_secret(&ticket.token);
        ticket
    }
}

/// What a call with this proof is answered.
async fn call(client: &Client, authorization: &str) -> Result<(), Refusal> {
    let list = authorized(authorization, v1::ListDevicesRequest {});
    client.devices().list(list).await.map(drop).map_err(|status| refusal(&status))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_ticket_works_once_and_in_its_place() {
    let node = Node::start("tickets", &[]).await;
    let [alice] = node.people().await;
    let ticket = node.ticket(&alice).await;
    let mut resumed = RawSession::hello(&alice.client, resume(&ticket.resume_ticket)).await;
    let next = resumed.welcome().await;
    node.keep_secret(&next.resume_ticket);
    let mut replayed = RawSession::hello(&alice.client, resume(&ticket.resume_ticket)).await;
    assert_eq!(replayed.refusal().await.reason, Reason::TicketUsed);
    // The thief's try did not end the owner's session or spend the owner's next ticket.
    RawSession::hello(&alice.client, resume(&next.resume_ticket)).await.welcome().await;

    let as_ticket = RawSession::hello(&alice.client, resume(&ticket.token)).await.refusal().await;
    assert_eq!(as_ticket.reason, Reason::Unauthenticated, "a token is no ticket");
    let as_token = call(&alice.client, &format!("Bearer {}", next.resume_ticket)).await.unwrap_err();
    assert_eq!(as_token.reason, Reason::Unauthenticated, "a ticket is no token");
}

fn resume(ticket: &str) -> hello::Identity {
    hello::Identity::ResumeTicket(ticket.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cut_or_changed_proves_nothing() {
    let node = Node::start("tampered", &[("QUOTAS__AUTHENTICATE__ENABLED", "false")]).await;
    let [alice, bob] = node.people().await;
    let (of_alice, of_bob) = (node.ticket(&alice).await, node.ticket(&bob).await);
    call(&alice.client, &format!("Bearer {}", of_alice.token)).await.expect("as it was given");
    call(&alice.client, &format!("Device {}", alice.identity.credential())).await.expect("as it was given");

    for (scheme, good, other) in [
        ("Bearer", &of_alice.token, &of_bob.token),
        ("Device", &alice.identity.credential().to_owned(), &bob.identity.credential().to_owned()),
    ] {
        let half = good.len() / 2;
        let mut wrong = vec![String::new(), good[..half].to_owned(), format!("{good}A"), good.repeat(100)];
        // One's name under another's signature.
        wrong.push(format!("{}{}", &good[..half], &other[half..]));
        wrong.extend((0..good.len()).step_by(7).map(|at| changed(good, at)));
        for wrong in wrong {
            let refusal = call(&alice.client, &format!("{scheme} {wrong}")).await.unwrap_err();
            assert_eq!(refusal.reason, Reason::Unauthenticated);
            assert!(!refusal.message.contains(&good[half..]), "the answer quotes the proof");
        }
    }
    for at in (0..of_alice.resume_ticket.len()).step_by(11) {
        let wrong = resume(&changed(&of_alice.resume_ticket, at));
        let refusal = RawSession::hello(&alice.client, wrong).await.refusal().await;
        assert_eq!(refusal.reason, Reason::Unauthenticated);
    }
    RawSession::hello(&alice.client, resume(&of_alice.resume_ticket)).await.welcome().await;
    let nothing = alice.client.devices().list(v1::ListDevicesRequest {}).await.unwrap_err();
    assert_eq!(refusal(&nothing).reason, Reason::Unauthenticated);
}

/// Another character of the alphabet in one place.
fn changed(text: &str, at: usize) -> String {
    let other = if &text[at..=at] == "Q" { "R" } else { "Q" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_of_one_installation_mean_nothing_to_another() {
    let (here, there) = (Node::start("here", &[]).await, Node::start("there", &[]).await);
    let ([alice], [stranger]) = (here.people().await, there.people().await);
    let foreign = there.ticket(&stranger).await;
    for authorization in
        [format!("Bearer {}", foreign.token), format!("Device {}", stranger.identity.credential())]
    {
        let refusal = call(&alice.client, &authorization).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::Unauthenticated);
    }
    let refusal = RawSession::hello(&alice.client, resume(&foreign.resume_ticket)).await.refusal().await;
    assert_eq!(refusal.reason, Reason::Unauthenticated);
}

/// A token is a bearer's, so one that was stolen works: for its own account only, and not after a removal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anothers_token_acts_for_the_other_and_ends_with_the_account() {
    let node = Node::start("stolen", &[]).await;
    let [alice, thief] = node.people().await;
    let stolen = node.ticket(&alice).await;
    let authorization = format!("Bearer {}", stolen.token);
    call(&thief.client, &authorization).await.expect("nothing ties a token to a connection");
    alice.client.account().delete(request(&alice.identity, v1::DeleteAccountRequest {})).await.unwrap();
    crate::all::support::eventually("the gateway hears of it", || async {
        call(&thief.client, &authorization).await.is_err()
    })
    .await;
    assert_eq!(call(&thief.client, &authorization).await.unwrap_err().reason, Reason::Unauthenticated);
    let refusal = RawSession::hello(&thief.client, resume(&stolen.resume_ticket)).await.refusal().await;
    assert_eq!(refusal.reason, Reason::Unauthenticated);
}
