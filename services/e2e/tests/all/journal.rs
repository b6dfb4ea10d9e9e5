//! What a crash leaves in the store's journal.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use spillway_types::{Clock, SystemClock};

use super::support::{Node, Person};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_behind_the_last_write_costs_nothing_that_was_acknowledged() {
    let seed = SystemClock.now().as_micros();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut node = Node::start("journal-tail", &[]).await;
    let [alice, bob] = node.people().await;
    let mut sent = Vec::new();
    for round in 0..3 {
        sent.extend(send(&node, &alice, &bob, round).await);
        node.kill().await;
        let mut garbage = vec![0; 1 + (random.next_u32() % 20_000) as usize];
        random.fill_bytes(&mut garbage);
        // 1 begins a batch: a write that was cut short, not just noise.
        garbage[0] = if round == 1 { 1 } else { garbage[0] };
        let (journal, end) = newest_journal(&node);
        File::options().write(true).open(journal).unwrap().write_all_at(&garbage, end as u64).unwrap();
        node.start_again().await;
    }
    let bob = node.again(&bob).await;
    assert_eq!(bob.inbox().await.backlog().await, sent);
}

/// Whoever starts such a store would lose mail without knowing it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_before_the_last_write_is_reported_and_not_cut_off() {
    let mut node = Node::start("journal-middle", &[]).await;
    let [alice, bob] = node.people().await;
    send(&node, &alice, &bob, 0).await;
    node.kill().await;
    let (path, end) = newest_journal(&node);
    let journal = File::options().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    journal.read_exact_at(&mut byte, end as u64 / 2).unwrap();
    journal.write_all_at(&[byte[0] ^ 0x40], end as u64 / 2).unwrap();
    let error = node.try_start_again(&[]).await.unwrap_err().to_string();
    assert!(error.contains("is damaged at byte"), "{error}");
    assert!(error.contains(path.to_str().unwrap()), "{error}");

    journal.write_all_at(&byte, end as u64 / 2).unwrap();
    node.start_again().await;
    let bob = node.again(&bob).await;
    assert_eq!(bob.inbox().await.backlog().await.len(), 10, "the failed start changed nothing");
}

async fn send(node: &Node, alice: &Person, bob: &Person, round: usize) -> Vec<Bytes> {
    let alice = node.again(alice).await;
    let mut sent = Vec::new();
    for n in 0..10 {
        let content = Bytes::from(format!("message {n} of round {round}"));
        alice.send(bob, content.clone()).await.unwrap();
        sent.push(content);
    }
    sent
}

/// And where what has been written in it ends: journals are made larger than what is in them.
fn newest_journal(node: &Node) -> (PathBuf, usize) {
    let files = fs::read_dir(node.data().join("store/db")).unwrap().map(|entry| entry.unwrap().path());
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let journals = files.filter(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    let newest = journals.max_by_key(number).expect("a store has a journal");
    let end = fs::read(&newest).unwrap().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    assert!(end > 0, "nothing was written to {}", newest.display());
    (newest, end)
}
