mod mailboxes;
mod opening;
mod schema;
mod transfer;
mod verifications;

use std::num::NonZeroU8;
use std::panic::resume_unwind;
use std::sync::Arc;

use prometheus::Registry;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use spillway_store::conformance::{self, Counting};
use spillway_store::cql::{self, Config};
use spillway_store::{OpenError, Store};
use spillway_types::SystemClock;
use tokio::task::LocalSet;

/// Who races for one row. Conditional writes of one row wait for each other, and on three nodes of one machine each takes
/// tens of milliseconds: more racers than these and the last ones meet Cassandra's `cas_contention_timeout`.
fn racers() -> usize {
    if contact_points().len() >= 3 { 8 } else { 32 }
}

/// Making keyspaces takes seconds, so everything that needs a store shares one pair.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_keeps_its_promises() {
    with_keyspaces(|config| async move {
        cql::schema::apply(&config).await.unwrap();
        let store = open(&config).await.unwrap();
        conformance::run_all(async || store.clone(), Counting::Estimated, racers()).await;
        mailboxes::all(&config, &store).await;
        verifications::all(&config, &store).await;
        transfer::all(&store).await;
    })
    .await;
}

/// Gives a test keyspaces that nobody else has, which are not there yet, and drops them when it has ended or failed.
async fn with_keyspaces<F>(test: impl FnOnce(Config) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let contact_points = contact_points();
    let factor = if contact_points.len() >= 3 { 3 } else { 1 };
    let config = Config {
        contact_points,
        keyspace_prefix: format!("spillway_test_{:016x}", rand::random::<u64>()),
        replication_factor: NonZeroU8::new(factor).unwrap(),
        ..Config::default()
    };
    println!("keyspaces {}_*", config.keyspace_prefix);
    // A task of its own, so that its panic ends here.
    let local = LocalSet::new();
    let outcome = local.run_until(local.spawn_local(test(config.clone()))).await;
    let session = session().await;
    for ending in ["identity", "mailbox"] {
        let drop = format!("DROP KEYSPACE IF EXISTS {}_{ending}", config.keyspace_prefix);
        session.query_unpaged(drop, ()).await.unwrap();
    }
    if let Err(error) = outcome {
        resume_unwind(error.into_panic());
    }
}

fn contact_points() -> Vec<String> {
    let Ok(points) = std::env::var("SPILLWAY_TEST_CQL") else {
        panic!("SPILLWAY_TEST_CQL is not set: run `cargo xtask test`, which starts what the tests need");
    };
    points.split(',').map(str::to_owned).collect()
}

async fn session() -> Session {
    SessionBuilder::new().known_nodes(contact_points()).build().await.unwrap()
}

async fn open(config: &Config) -> Result<Store, OpenError> {
    let (store, _handle) = cql::open(config, &Registry::new(), Arc::new(SystemClock)).await?;
    Ok(store)
}
