use bytes::Bytes;
use spillway_fleet::Ended;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::site::{Running, Site};

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
    let worker = fleet.node("mailbox-1").unwrap();
    assert_eq!(worker.stop().await.unwrap(), Ended::InTime);
    assert_eq!(worker.exit_code(), Some(0));
    stage(&mut kept).await;
    fleet.node("mailbox-1").unwrap().start().await.unwrap();
    let worker = fleet.node("mailbox-2").unwrap();
    assert_eq!(worker.stop().await.unwrap(), Ended::InTime);
    assert_eq!(worker.exit_code(), Some(0));
    stage(&mut kept).await;

    drop(stage);
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
