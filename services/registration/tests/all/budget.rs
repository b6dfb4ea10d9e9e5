//! What codes may cost, at several processes that share a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use spillway_registration::{BudgetConfig, Config};
use spillway_store::leases::Lease;
use spillway_store::{Cas, Leases, StoreError};
use tokio::sync::mpsc;

use crate::providers::{Moody, lonely, metric, paid, quick};
use crate::world::{World, until};

/// Of a code.
const COST: u64 = 300;

/// A ledger that can be out of reach.
#[derive(Debug)]
struct Flaky {
    leases: Arc<dyn Leases>,
    is_away: AtomicBool,
}

#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("it is away")]
struct Away;

impl Flaky {
    fn reach(&self) -> Result<(), StoreError> {
        if self.is_away.load(Ordering::SeqCst) {
            Err(StoreError::Unavailable(Arc::new(Away)))
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Leases for Flaky {
    async fn get(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        self.reach()?;
        self.leases.get(name).await
    }

    async fn put(&self, name: &str, lease: Lease, expected: Option<Lease>) -> Result<Cas, StoreError> {
        self.reach()?;
        self.leases.put(name, lease, expected).await
    }
}

/// Sends are tried once, so that none of them is a second one of a code.
fn limited(day: u64) -> Config {
    let mut config = quick();
    config.guard.enabled = false;
    config.dispatch.attempts_max = 1.try_into().unwrap();
    config.verification.lifetime_max = Duration::from_secs(86_400);
    config.verification.idle_lifetime = Duration::from_secs(86_400);
    config.budget = BudgetConfig { day: Some(day), ..BudgetConfig::default() };
    config
}

/// The clock of the tests starts at 15:00 UTC, where the ledger begins: 9 of 24 parts of the day are left.
const fn day_for(codes: u64) -> u64 {
    codes * COST * 24 / 9
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_spend_no_more_than_one_and_nearly_all_of_it() {
    let world = World::new();
    let (sender, _delivered) = mpsc::channel(10_000);
    let provider = Moody::new(&sender);
    let node = || world.node_of(limited(day_for(60)), vec![paid("paid", &provider, COST)]);
    let nodes = [node(), node(), node()];
    for n in 0..120 {
        nodes[n % 3].start(&lonely(n)).await;
    }
    // What each has left pays for no code.
    until("it is spent", || async { provider.taken() >= 58 }).await;
    let waits = |node| metric(node, r#"spillway_verification_waits_total{reason="budget_day"}"#);
    until("the others wait", || async { nodes.iter().all(|node| waits(node) > 0) }).await;
    for node in nodes {
        node.stop().await;
    }
    assert!(provider.taken() <= 60, "{} at 300 each, whoever sends them", provider.taken());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_starts_anew_forgets_nothing_and_finds_what_the_one_before_gave_back() {
    let world = World::new();
    let (sender, _delivered) = mpsc::channel(10_000);
    let provider = Moody::new(&sender);
    let mut sent = 0;
    for _ in 0..4 {
        let node = world.node_of(limited(day_for(20)), vec![paid("paid", &provider, COST)]);
        for n in sent..sent + 5 {
            node.start(&lonely(n)).await;
        }
        sent += 5;
        until("they are sent", || async { provider.taken() == sent as u64 }).await;
        node.stop().await;
    }
    let node = world.node_of(limited(day_for(20)), vec![paid("paid", &provider, COST)]);
    node.start(&lonely(100)).await;
    until("it waits for the next day", || async {
        metric(&node, r#"spillway_verification_waits_total{reason="budget_day"}"#) > 0
    })
    .await;
    assert_eq!(provider.taken(), 20);
    assert_eq!(metric(&node, r#"spillway_verification_budget_left_micros{window="day"}"#), 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_ledger_only_what_was_borrowed_is_spent() {
    let mut world = World::new();
    let ledger = Arc::new(Flaky { leases: Arc::clone(&world.store.leases), is_away: AtomicBool::new(false) });
    world.leases = ledger.clone();
    let (sender, _delivered) = mpsc::channel(10_000);
    let provider = Moody::new(&sender);
    // A share is a sixty-fourth: 10 codes.
    let day = 64 * 10 * COST;
    let node = world.node_of(limited(day), vec![paid("paid", &provider, COST)]);
    node.start(&lonely(0)).await;
    until("it is sent", || async { provider.taken() == 1 }).await;
    ledger.is_away.store(true, Ordering::SeqCst);
    for n in 1..60 {
        node.start(&lonely(n)).await;
    }
    let waits = || metric(&node, r#"spillway_verification_waits_total{reason="borrowing"}"#);
    let before = waits();
    until("what is here is spent", || async { waits() > before + 5 }).await;
    let taken = provider.taken();
    assert!((10..=25).contains(&taken), "a share, or two: {taken}");
    ledger.is_away.store(false, Ordering::SeqCst);
    until("they are sent when it is there again", || async { provider.taken() == 60 }).await;
    node.stop().await;
}
