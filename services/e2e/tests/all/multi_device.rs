//! Accounts with several devices, and accounts that change or go.

use std::sync::Arc;

use spillway_api::{Reason, Refusal, v1, v1::closing};
use spillway_client::{CallError, Client, Identity, Outgoing};
use spillway_types::Guid;
use surge::population::registration_id;

use super::desk::{Desk, population};
use super::raw::{refusal, request};
use super::support::{Node, Person, envelope, eventually};

/// The population's index of a second device.
const SECOND: u64 = 1_000;

impl Desk {
    /// A second device, which has `client`.
    pub(crate) async fn link(&self, primary: &Person, client: Client) -> Person {
        let token = primary.client.start_link(&primary.identity).await.unwrap();
        self.keep_secret(&token);
        let index = primary.index + SECOND;
        let identity = client.link(&token, population().device(index)).await.unwrap();
        self.keep_secret(identity.credential());
        let used = client.link(&token, population().device(index)).await.unwrap_err();
        assert_eq!(used.refusal().unwrap().reason, Reason::LinkTokenInvalid, "a token works once");
        Person { index, client, identity: Arc::new(identity) }
    }
}

impl Node {
    async fn link(&self, primary: &Person) -> Person {
        self.desk.link(primary, self.client().await).await
    }
}

/// What a sender believes: devices, registration ids, and what each is to get.
pub(crate) fn to(person: &Person, devices: &[(u32, u64, &'static str)]) -> Outgoing {
    let envelopes =
        devices.iter().map(|(id, index, content)| envelope(*id, registration_id(*index), *content));
    Outgoing {
        to: person.account(),
        guid: Guid::random(),
        envelopes: envelopes.collect(),
        ephemeral: false,
        urgent: false,
    }
}

async fn refused(sender: &Person, message: Outgoing) -> Refusal {
    match sender.client.send(&sender.identity, message).await {
        Err(CallError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn is_found(client: &Client, by: &Identity, number: &str) -> bool {
    !client.discover(by, vec![number.to_owned()]).await.unwrap().is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_send_reaches_every_device_and_a_wrong_list_is_told_the_difference() {
    let node = Node::start("devices", &[]).await;
    let [alice, bob] = node.people().await;
    alice.send(&bob, "only one device yet").await.unwrap();
    let second = node.link(&bob).await;
    let (mut first_inbox, mut second_inbox) = (bob.inbox().await, second.inbox().await);
    assert_eq!(first_inbox.backlog().await.len(), 1);
    assert!(second_inbox.backlog().await.is_empty(), "mail from before the link stays where it was");

    eventually("senders hear of the new device", || async { alice.send(&bob, "too few").await.is_err() })
        .await;
    let wrong = to(&bob, &[(1, 77, "stale"), (3, 3, "extra")]);
    let refusal = refused(&alice, wrong).await;
    assert_eq!(refusal.reason, Reason::StaleDevices);
    let difference = v1::StaleDevices { missing: vec![2], extra: vec![3], stale: vec![1] };
    assert_eq!(refusal.detail::<v1::StaleDevices>(), Some(difference));

    let right = to(&bob, &[(1, bob.index, "for the phone"), (2, second.index, "for the tablet")]);
    alice.client.send(&alice.identity, right).await.unwrap();
    let phone = first_inbox.message().await;
    // Whatever was sent while the list was still old came before.
    let phone = if phone == "too few" { first_inbox.message().await } else { phone };
    assert_eq!(phone, "for the phone", "nothing of the refused send");
    assert_eq!(second_inbox.message().await, "for the tablet");

    let note = to(&bob, &[(2, second.index, "note to self")]);
    bob.client.send(&bob.identity, note).await.unwrap();
    assert_eq!(second_inbox.message().await, "note to self");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_mailbox_of_one_device_does_not_keep_mail_from_the_other() {
    let node = Node::start("one-full", &[("MAILBOX__MESSAGES_MAX", "2")]).await;
    let [alice, bob] = node.people().await;
    let second = node.link(&bob).await;
    let mut inbox = bob.inbox().await;
    assert!(inbox.backlog().await.is_empty());
    for n in 1..=4 {
        let sent =
            alice.client.send(&alice.identity, to(&bob, &[(1, bob.index, "a"), (2, second.index, "b")]));
        let sent = sent.await.unwrap();
        assert_eq!(sent.full_devices, if n > 2 { vec![2] } else { vec![] }, "message {n}");
        assert_eq!(inbox.message().await, "a");
        eventually("the ack is written", || async {
            node.metric("spillway_mailbox_acknowledged_messages_total", "").await == f64::from(n)
        })
        .await;
    }
    assert_eq!(second.inbox().await.backlog().await, ["b", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_device_is_put_out_at_once() {
    let node = Node::start("remove-device", &[]).await;
    let [alice, bob] = node.people().await;
    let second = node.link(&bob).await;
    let mut inbox = second.inbox().await;
    let remove = v1::RemoveDeviceRequest { device_id: 2 };
    let by_other = alice.client.devices().remove(request(&alice.identity, remove)).await.unwrap_err();
    assert_eq!(refusal(&by_other).reason, Reason::DeviceNotFound, "another's device is none of hers");
    bob.client.devices().remove(request(&bob.identity, remove)).await.unwrap();
    assert_eq!(inbox.closing().await, closing::Reason::DeviceRemoved);

    let both = || to(&bob, &[(1, bob.index, "phone"), (2, second.index, "tablet")]);
    eventually("senders hear of it", || async { alice.client.send(&alice.identity, both()).await.is_err() })
        .await;
    let difference = v1::StaleDevices { extra: vec![2], ..Default::default() };
    assert_eq!(refused(&alice, both()).await.detail::<v1::StaleDevices>(), Some(difference));

    // Neither the token that it still holds nor its credential is good.
    let error = second.client.discover(&second.identity, vec![]).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().reason, Reason::Unauthenticated);
    let error = second.client.open_session(&second.identity).await.map(drop);
    let error = match error {
        Ok(()) => panic!("a removed device got a session"),
        Err(error) => error,
    };
    assert_eq!(error.refusal().unwrap().reason, Reason::Unauthenticated);
    alice.reaches(&bob).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_account_is_gone_for_everybody() {
    let node = Node::start("delete-account", &[]).await;
    let [alice, bob] = node.people().await;
    let number = population().person(bob.index).number;
    alice.send(&bob, "unread").await.unwrap();
    assert!(is_found(&alice.client, &alice.identity, &number).await);
    let mut inbox = bob.inbox().await;
    inbox.delivery().await;
    bob.client.account().delete(request(&bob.identity, v1::DeleteAccountRequest {})).await.unwrap();
    assert_eq!(inbox.closing().await, closing::Reason::DeviceRemoved);
    eventually("senders hear of it", || async {
        let sent = alice.send(&bob, "anybody?").await;
        sent.is_err_and(|error| error.refusal().is_some_and(|r| r.reason == Reason::AccountNotFound))
    })
    .await;
    assert!(!is_found(&alice.client, &alice.identity, &number).await);

    // Whoever gets the number next is somebody else, with an empty mailbox.
    let successor = node.person(bob.index).await;
    assert_ne!(successor.account(), bob.account());
    assert!(successor.inbox().await.backlog().await.is_empty());
    alice.reaches(&successor).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_is_changed_with_proof_and_not_taken_from_others() {
    let node = Node::start("change-number", &[]).await;
    let [alice, bob] = node.people().await;
    let (old, new) = (population().person(bob.index).number, population().person(50).number);
    let change = async |verification: &spillway_client::Verification| {
        let message = v1::ChangeNumberRequest { session_id: verification.session_id() };
        bob.client.account().change_number(request(&bob.identity, message)).await
    };
    let proof = node.verified(&bob.client, 50).await;
    for _ in 0..2 {
        change(&proof).await.expect("repeating it is harmless");
    }
    assert!(is_found(&alice.client, &alice.identity, &new).await);
    assert!(!is_found(&alice.client, &alice.identity, &old).await);
    alice.reaches(&bob).await;
    let of_alice = node.verified(&bob.client, alice.index).await;
    assert_eq!(refusal(&change(&of_alice).await.unwrap_err()).reason, Reason::NumberTaken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_want_to_be_found_is_not() {
    let node = Node::start("discoverable", &[]).await;
    let [alice, bob] = node.people().await;
    let number = population().person(bob.index).number;
    for discoverable in [false, true] {
        let message = v1::SetDiscoverableRequest { discoverable };
        bob.client.account().set_discoverable(request(&bob.identity, message)).await.unwrap();
        assert_eq!(is_found(&alice.client, &alice.identity, &number).await, discoverable);
    }
}
