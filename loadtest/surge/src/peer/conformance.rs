//! What a run takes for granted of a peer, tried on a real one.

use std::collections::HashMap;
use std::time::Duration;

use rand::RngCore;
use spillway_types::Guid;
use tokio::time::timeout;

use super::fake::{Fake, Fault};
use super::{Address, Peer, Session, connect};

const SOON: Duration = Duration::from_secs(20);
const MESSAGES: usize = 20;

/// Two people, one of whom writes; in order, once, to somebody who is online and to somebody who comes later, and gone once acknowledged.
pub(super) async fn keeps_the_rules(target: &str, knows_ids: bool) {
    let address = Address::parse(target).unwrap().expect("the address of a peer");
    // Another one each time, so that what an earlier run left is not met.
    let run = rand::rng().next_u64();
    let peer = connect(&address, run, &[]).await;
    let peer = peer.unwrap_or_else(|error| panic!("{target}: {:#}", anyhow::Error::new(error)));
    tried(&*peer, target, knows_ids).await;
}

async fn tried(peer: &dyn Peer, target: &str, knows_ids: bool) {
    for entry in peer.terms().entries() {
        assert!(!entry.1.is_empty(), "{target} says nothing of {}", entry.0);
    }
    for index in [3, 7, 3] {
        peer.sign_up(index).await.unwrap();
    }
    let writer = peer.open(3).await.unwrap();
    let mut reader = peer.open(7).await.unwrap();

    let sent = write(&writer, 0).await;
    for (id, content) in &sent {
        let mail = received(&mut reader).await;
        assert_eq!(&mail.1, content, "{target}: in order and unchanged");
        assert_eq!(mail.0, Some(*id), "{target}");
    }
    nothing_more(&mut reader, target).await;

    // Kept for somebody who is away, and only what had not come.
    drop(reader);
    let kept = write(&writer, 1).await;
    if knows_ids {
        let (id, content) = kept[0].clone();
        writer.outgoing.send(7, id, content).await.unwrap();
    }
    let mut reader = peer.open(7).await.unwrap();
    // A system may have taken the first ones to the connection that was just dropped, and hands those over later.
    let mut come = HashMap::new();
    while come.len() < kept.len() {
        let (id, content) = received(&mut reader).await;
        assert_eq!(come.insert(id.unwrap(), content), None, "{target}: twice");
    }
    assert_eq!(come, kept.into_iter().collect(), "{target}: kept");
    nothing_more(&mut reader, target).await;
    drop(reader);
    nothing_more(&mut peer.open(7).await.unwrap(), target).await;
    drop(writer);
    peer.clear(8).await.unwrap();
}

async fn write(writer: &Session, round: u8) -> Vec<(Guid, Vec<u8>)> {
    let mut sent = Vec::new();
    for n in 0..MESSAGES {
        // All bytes that there are: nothing of it may be taken for text.
        let content: Vec<u8> = (0..=255).chain([round, n as u8]).collect();
        let id = Guid::random();
        timeout(SOON, writer.outgoing.send(7, id, content.clone())).await.unwrap().unwrap();
        sent.push((id, content));
    }
    sent
}

async fn received(reader: &mut Session) -> (Option<Guid>, Vec<u8>) {
    let mail = timeout(SOON, reader.incoming.next()).await.expect("nothing came").unwrap();
    reader.incoming.ack().await.unwrap();
    (mail.id, mail.content.to_vec())
}

/// A moment in which something could come that must not. What is asserted does not depend on how long it is.
async fn nothing_more(reader: &mut Session, target: &str) {
    let more = timeout(Duration::from_millis(500), reader.incoming.next()).await;
    assert!(more.is_err(), "{target}: {more:?} came again");
}

#[tokio::test(start_paused = true)]
async fn one_that_keeps_the_rules_passes() {
    tried(&Fake::new(Fault::None), "a fake", false).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "in order and unchanged")]
async fn one_that_changes_messages_does_not() {
    tried(&Fake::new(Fault::Changed), "a fake", false).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "in order and unchanged")]
async fn one_that_loses_messages_does_not() {
    tried(&Fake::new(Fault::Lost), "a fake", false).await;
}
