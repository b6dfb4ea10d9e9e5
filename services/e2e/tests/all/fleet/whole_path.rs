use std::sync::{Arc, Weak};

use bytes::Bytes;
use spillway_api::{Reason, v1, v1::closing};
use spillway_client::{DeviceSecret, Place, SessionEvent, SessionOpen, Standing};
use spillway_types::{Guid, PhoneNumber};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::super::desk::{Desk, population};
use super::super::inbox::Inbox;
use super::super::multi_device::{is_found, to};
use super::super::raw::{refusal, request};
use super::super::support::{PATIENCE, Person, connect, eventually};
use super::site::{Running, Site};

/// For the tests that run at the same time; the last one ends it.
static SHARED: Mutex<Weak<Running>> = Mutex::const_new(Weak::new());

async fn fleet() -> Arc<Running> {
    let mut shared = SHARED.lock().await;
    if let Some(running) = shared.upgrade() {
        return running;
    }
    let site = Site::new("fleet-whole").await;
    let spec = site.spec();
    let running = Arc::new(Running::start(site, spec).await);
    *shared = Arc::downgrade(&running);
    running
}

/// Somebody at each gateway. `first` is the first one's place in the population, which each test has for itself.
pub(super) struct Pair {
    pub(super) fleet: Arc<Running>,
    desk: Desk,
    pub(super) alice: Person,
    pub(super) bob: Person,
}

impl Pair {
    pub(super) async fn at_two_gateways(name: &'static str, first: u64) -> Self {
        let fleet = fleet().await;
        let desk = fleet.desk(name).await;
        let alice = desk.person(&fleet.gateway(0), first).await;
        let bob = desk.person(&fleet.gateway(1), first + 1).await;
        Self { fleet, desk, alice, bob }
    }

    /// The same person on a connection to that gateway.
    async fn at(&self, gateway: usize, person: &Person) -> Person {
        Person { client: connect(&self.fleet.gateway(gateway)).await, ..person.clone() }
    }
}

async fn online(person: &Person) -> Inbox {
    let mut inbox = person.inbox().await;
    assert!(inbox.backlog().await.is_empty());
    inbox
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_goes_from_gateway_to_gateway_and_waits_for_who_is_away() {
    let pair = Pair::at_two_gateways("fleet-mail", 100).await;
    let Pair { alice, bob, .. } = &pair;
    let night: Vec<Bytes> = (0..120).map(|n| Bytes::from(format!("night {n}"))).collect();
    for content in &night {
        alice.send(bob, content.clone()).await.unwrap();
    }
    let mut inbox = bob.inbox().await;
    assert_eq!(inbox.backlog().await, night, "more than a page, in order");
    alice.send(bob, "day").await.unwrap();
    assert_eq!(inbox.message().await, "day");
    bob.reaches(alice).await;
    // What is acked stays away, also from a session at the other gateway.
    eventually("the acks are written", || async {
        let again = pair.at(0, bob).await;
        again.inbox().await.backlog().await.is_empty()
    })
    .await;
}

/// The largest envelope: with headers it must fit into one message of the bus.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_envelope_goes_through() {
    let Pair { alice, bob, .. } = &Pair::at_two_gateways("fleet-largest", 200).await;
    let mut inbox = online(bob).await;
    let largest = Bytes::from(vec![7; 256 << 10]);
    alice.send(bob, largest.clone()).await.unwrap();
    assert_eq!(inbox.message().await, largest);
    let error = alice.send(bob, vec![7; (256 << 10) + 1]).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().reason, Reason::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_of_one_account_are_at_different_gateways() {
    let pair = Pair::at_two_gateways("fleet-devices", 300).await;
    let Pair { alice, bob, .. } = &pair;
    // Fills the cache of Alice's gateway, which must hear of the second device from the other.
    alice.send(bob, "only one device yet").await.unwrap();
    let second = pair.desk.link(bob, connect(&pair.fleet.gateway(0)).await).await;
    let (mut phone, mut tablet) = (bob.inbox().await, online(&second).await);
    assert_eq!(phone.backlog().await, ["only one device yet"]);
    let both = || to(bob, &[(1, bob.index, "for the phone"), (2, second.index, "for the tablet")]);
    eventually("the sender's gateway hears of the device", || async {
        alice.client.send(&alice.identity, both()).await.is_ok()
    })
    .await;
    assert_eq!(phone.message().await, "for the phone");
    assert_eq!(tablet.message().await, "for the tablet");

    let remove = v1::RemoveDeviceRequest { device_id: 2 };
    bob.client.devices().remove(request(&bob.identity, remove)).await.unwrap();
    assert_eq!(tablet.closing().await, closing::Reason::DeviceRemoved);
    let error = second.client.discover(&second.identity, vec![]).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().reason, Reason::Unauthenticated, "its token is no longer good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_or_hides_himself_is_found_or_not_whichever_gateway_is_asked() {
    let pair = Pair::at_two_gateways("fleet-contacts", 900).await;
    let Pair { alice, bob, .. } = &pair;
    let number = population().person(bob.index).number;
    for discoverable in [false, true, false, true] {
        let set = v1::SetDiscoverableRequest { discoverable };
        bob.client.account().set_discoverable(request(&bob.identity, set)).await.unwrap();
        for gateway in [0, 1] {
            let alice = pair.at(gateway, alice).await;
            // The hint of a registration process may be a little slower than its answer.
            eventually("the directory follows", || async {
                is_found(&alice.client, &alice.identity, &number).await == discoverable
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_session_wins_wherever_the_older_one_is() {
    let pair = Pair::at_two_gateways("fleet-newest", 400).await;
    let Pair { alice, bob, .. } = &pair;
    let mut older = online(bob).await;
    for gateway in [0, 1, 0] {
        let mut newer = pair.at(gateway, bob).await.inbox().await;
        assert_eq!(older.closing().await, closing::Reason::Replaced);
        let content = Bytes::from(format!("to gateway {gateway}"));
        alice.send(bob, content.clone()).await.unwrap();
        newer.until_all(&[content]).await;
        older = newer;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_of_one_gateway_opens_a_session_at_the_other() {
    let pair = Pair::at_two_gateways("fleet-ticket", 500).await;
    let Pair { alice, bob, .. } = &pair;
    assert_eq!(online(bob).await.0.opened_with, SessionOpen::Credential);
    let mut inbox = pair.at(0, bob).await.inbox().await;
    assert_eq!(inbox.0.opened_with, SessionOpen::ResumeTicket);
    alice.send(bob, "hello").await.unwrap();
    inbox.until_all(&[Bytes::from_static(b"hello")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whisper_reaches_who_is_at_the_other_gateway_and_is_stored_for_nobody() {
    let pair = Pair::at_two_gateways("fleet-whisper", 600).await;
    let Pair { alice, bob, .. } = &pair;
    let carol = pair.desk.person(&pair.fleet.gateway(1), 602).await;
    let mut inbox = online(bob).await;
    for receiver in [bob, &carol] {
        let mut typing = receiver.message(Guid::random(), "typing");
        typing.ephemeral = true;
        alice.client.send(&alice.identity, typing).await.unwrap();
    }
    let delivery = inbox.delivery().await;
    assert_eq!((delivery.id, &delivery.envelope.content[..]), (None, &b"typing"[..]));
    alice.send(&carol, "kept").await.unwrap();
    assert_eq!(carol.inbox().await.backlog().await, ["kept"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_found_by_its_number_until_it_is_deleted() {
    let pair = Pair::at_two_gateways("fleet-delete", 700).await;
    let Pair { alice, bob, .. } = &pair;
    let number = population().person(bob.index).number;
    eventually("he is found", || is_found(&alice.client, &alice.identity, &number)).await;
    let keys = alice.client.fetch_keys(&alice.identity, bob.account()).await.unwrap();
    assert_eq!(keys.devices.len(), 1);
    alice.send(bob, "unread").await.unwrap();
    let mut inbox = bob.inbox().await;
    assert!(matches!(inbox.event().await, SessionEvent::Delivery(_)));

    // Deleted at one gateway, and known at both.
    let elsewhere = pair.at(0, bob).await;
    elsewhere.client.account().delete(request(&bob.identity, v1::DeleteAccountRequest {})).await.unwrap();
    assert_eq!(inbox.closing().await, closing::Reason::DeviceRemoved);
    for gateway in [0, 1] {
        let alice = pair.at(gateway, alice).await;
        eventually("senders hear of it", || async {
            let sent = alice.send(bob, "anybody?").await;
            sent.is_err_and(|error| error.refusal().is_some_and(|r| r.reason == Reason::AccountNotFound))
        })
        .await;
        assert!(!is_found(&alice.client, &alice.identity, &number).await);
        let list = alice.client.devices().list(request(&bob.identity, v1::ListDevicesRequest {})).await;
        assert_eq!(refusal(&list.unwrap_err()).reason, Reason::Unauthenticated);
    }

    let successor = pair.desk.person(&pair.fleet.gateway(0), bob.index).await;
    assert_ne!(successor.account(), bob.account());
    assert!(
        successor.inbox().await.backlog().await.is_empty(),
        "whoever has the number next gets none of it"
    );
    alice.reaches(&successor).await;
}

/// Numbers come from whichever of the control processes holds the lease, and what one gateway gives the other knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_taken_at_one_gateway_is_good_at_the_other() {
    let fleet = fleet().await;
    let desk = fleet.desk("fleet-room").await;
    let (one, other) = (connect(&fleet.gateway(0)).await, connect(&fleet.gateway(1)).await);
    let secret = DeviceSecret::from_bytes(&[7; 32]);
    let mut place = None;
    eventually("somebody gives out places", || async { one.enter(&secret).await.is_ok() }).await;
    let admission = {
        let mut shown = 0;
        let waiting = one.wait_for_admission(&secret, &mut place, |_| shown += 1);
        timeout(PATIENCE, waiting).await.expect("an empty room lets everybody in").unwrap()
    };
    let ticket = place.unwrap().ticket().clone();
    let mut place = Place::from_ticket(ticket);
    assert!(matches!(other.poll(&secret, &mut place).await.unwrap(), Standing::Admitted(_)));

    let number = |index| PhoneNumber::parse(&population().person(index).number).unwrap();
    desk.keep_secret(number(650).as_e164());
    let sms = v1::Transport::Sms;
    let session = other.start_admitted_verification(&number(650), sms, &admission).await.unwrap();
    let again = one.start_admitted_verification(&number(650), sms, &admission).await.unwrap();
    assert_eq!(session.session_id(), again.session_id());
    let used = one.start_admitted_verification(&number(651), sms, &admission).await.unwrap_err();
    assert_eq!(used.refusal().unwrap().reason, Reason::AdmissionUsed);
}
