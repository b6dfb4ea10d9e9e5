use bytes::Bytes;
use spillway_client::{SessionEvent, SessionOpen};
use spillway_fleet::Ended;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::support::{Person, connect, metric};
use super::site::{Running, Site, http};

/// Sends before the first worker is told to end, while only the second is there, and after the first came back.
const SENDS_OF_A_STAGE: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_worker_that_is_told_to_end_loses_no_call() {
    let site = Site::new("fleet-drain").await;
    let mut spec = site.spec();
    spec.mailboxes = 2;
    let mut fleet = Running::start(site, spec).await;
    let desk = fleet.desk("fleet-drain").await;
    let bob = desk.person(&fleet.gateway(1), 0).await;
    let (acked, mut acks) = mpsc::channel(100_000);
    let mut senders = JoinSet::new();
    for index in 1..=8 {
        let alice = desk.person(&fleet.gateway(index as usize % 2), index).await;
        let (bob, acked) = (bob.clone(), acked.clone());
        senders.spawn(async move {
            for n in 0.. {
                let content = Bytes::from(format!("{n} from {index}"));
                alice.send(&bob, content.clone()).await.unwrap();
                if acked.send(content).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut kept = Vec::new();
    let mut stage = async |kept: &mut Vec<Bytes>| {
        let until = kept.len() + SENDS_OF_A_STAGE;
        while kept.len() < until {
            kept.push(acks.recv().await.expect("a send failed"));
        }
    };

    stage(&mut kept).await;
    for worker in ["mailbox-1", "mailbox-2"] {
        let admin = http(fleet.node(worker).unwrap().endpoint("admin").unwrap());
        assert!(metric(&admin, "spillway_mailbox_appends_total", "").await > 0.0, "{worker} is called");
    }
    let worker = fleet.node("mailbox-1").unwrap();
    assert_eq!(worker.stop().await.unwrap(), Ended::InTime);
    assert_eq!(worker.exit_code(), Some(0));
    stage(&mut kept).await;
    fleet.node("mailbox-1").unwrap().start().await.unwrap();
    let worker = fleet.node("mailbox-2").unwrap();
    assert_eq!(worker.stop().await.unwrap(), Ended::InTime);
    assert_eq!(worker.exit_code(), Some(0));
    stage(&mut kept).await;

    acks.close();
    while let Some(content) = acks.recv().await {
        kept.push(content);
    }
    while let Some(sender) = senders.join_next().await {
        sender.expect("no send failed while workers came and went");
    }
    println!("{} acked", kept.len());
    bob.inbox().await.until_all(&kept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_a_gateway_that_is_told_to_end_go_on_at_the_other() {
    let site = Site::new("gateway-drain").await;
    let spec = site.spec();
    let mut fleet = Running::start(site, spec).await;
    let desk = fleet.desk("gateway-drain").await;
    let alice = desk.person(&fleet.gateway(0), 0).await;
    let bob = desk.person(&fleet.gateway(1), 1).await;
    let mut older = bob.inbox().await;
    assert!(older.backlog().await.is_empty());
    let elsewhere = Person { client: connect(&fleet.gateway(0)).await, ..bob.clone() };

    let gateway = fleet.node("gateway-2").unwrap();
    let (ended, mut newer) = tokio::join!(gateway.stop(), async {
        assert!(matches!(older.event().await, SessionEvent::Migrate(_)));
        alice.send(&bob, "while it drains").await.unwrap();
        let mut newer = elsewhere.inbox().await;
        assert_eq!(newer.0.opened_with, SessionOpen::ResumeTicket);
        newer.until_all(&[Bytes::from_static(b"while it drains")]).await;
        // Its reason depends on which of the two ends it first.
        older.closing().await;
        newer
    });
    assert_eq!((ended.unwrap(), gateway.exit_code()), (Ended::InTime, Some(0)));
    alice.send(&bob, "afterwards").await.unwrap();
    newer.until_all(&[Bytes::from_static(b"afterwards")]).await;
}
