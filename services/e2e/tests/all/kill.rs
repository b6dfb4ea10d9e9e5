//! kill -9 while messages are sent: what was acknowledged is delivered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use spillway_client::{Client, ClientConfig, Dedup, SessionEvent};
use spillway_types::{Clock, Guid, SystemClock};
use surge::ledger::{Conversation, Ledger};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::support::{NO_SEND_QUOTA, Node, Person, eventually, impatient};

const ROUNDS: usize = 10;
const SENDERS: usize = 8;
const PEOPLE: usize = SENDERS + 4;

/// Ten times, at random moments, under load; one receiver is online all the time, the others come at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_kills_lose_nothing_that_was_acknowledged() {
    let seed = SystemClock.now().as_micros();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut node = Node::start("kill", &[NO_SEND_QUOTA]).await;
    let people: [Person; PEOPLE] = node.people().await;
    let receivers = &people[SENDERS..];
    let ledger = Arc::new(Ledger::new(seed));
    let (address, addresses) = watch::channel(node.server.public.clone());
    let mut online = JoinSet::new();
    online.spawn(receive(addresses.clone(), receivers[0].clone(), ledger.clone()));

    for _ in 0..ROUNDS {
        let stop = Arc::new(AtomicBool::new(false));
        let mut senders = JoinSet::new();
        for sender in &people[..SENDERS] {
            senders.spawn(send_until(
                node.server.public.clone(),
                sender.clone(),
                receivers.to_vec(),
                ledger.clone(),
                stop.clone(),
            ));
        }
        let acked = ledger.counts().acked;
        eventually("sends are acknowledged", || async { ledger.counts().acked > acked + 20 }).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        node.kill().await;
        stop.store(true, Ordering::Relaxed);
        while let Some(sender) = senders.join_next().await {
            sender.unwrap();
        }
        node.start_again().await;
        address.send(node.server.public.clone()).unwrap();
    }

    for receiver in &receivers[1..] {
        online.spawn(receive(addresses.clone(), receiver.clone(), ledger.clone()));
    }
    println!("before the rest is read: {:?}", ledger.counts());
    eventually("everything acknowledged is delivered", || async {
        assert!(online.len() == receivers.len(), "a receiver gave up");
        ledger.counts().lost == 0
    })
    .await;
    let counts = ledger.counts();
    println!("{counts:?}");
    assert!(counts.acked > 200, "too few to prove anything: {counts:?}");
    assert_eq!((counts.lost, counts.duplicated), (0, 0), "{counts:?}");
    assert_eq!((counts.corrupted, counts.unexpected, counts.foreign), (0, 0, 0), "{counts:?}");
}

async fn send_until(
    address: String,
    sender: Person,
    receivers: Vec<Person>,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
) {
    let client = Client::lazy(&address, impatient()).unwrap();
    let mut n = sender.index as usize;
    while !stop.load(Ordering::Relaxed) {
        let receiver = &receivers[n % receivers.len()];
        n += 1;
        let conversation =
            Conversation { sender: sender.index as u32, receiver: receiver.index as u32, device: 1 };
        let ticket = ledger.send(conversation);
        let content = ledger.encode(ticket, SystemClock.now(), 512);
        match client.send(&sender.identity, receiver.message(Guid::random(), content)).await {
            Ok(sent) => {
                assert!(sent.full_devices.is_empty());
                ledger.acked(ticket);
            }
            Err(_) => {
                ledger.gave_up(ticket);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// A device that comes back whenever the service does. What it has seen it remembers, as a phone does in its database.
async fn receive(mut addresses: watch::Receiver<String>, person: Person, ledger: Arc<Ledger>) {
    let mut seen = Dedup::new(100_000);
    loop {
        let address = addresses.borrow_and_update().clone();
        if let Ok(client) = Client::connect(&address, ClientConfig::default()).await {
            listen(&client, &person, &mut seen, &ledger).await;
        }
        if addresses.changed().await.is_err() {
            return;
        }
    }
}

/// Until the process dies.
async fn listen(client: &Client, person: &Person, seen: &mut Dedup, ledger: &Ledger) {
    let Ok(mut session) = client.open_session(&person.identity).await else { return };
    let acks = session.handle();
    while let Ok(Some(event)) = session.next().await {
        let SessionEvent::Delivery(delivery) = event else { continue };
        if seen.is_new(delivery.guid) {
            ledger.delivered(&delivery.envelope.content);
        }
        if let Some(id) = delivery.id {
            acks.ack([id]).await;
        }
    }
}
