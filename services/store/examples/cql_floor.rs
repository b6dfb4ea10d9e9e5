//! How much of what the database and its driver can do is left after `put`: the same row inserted by a prepared
//! statement, and through the store, by 64 callers each, in turns.
//!
//! ```text
//! cargo run --release -p spillway-store --example cql_floor -- 127.0.0.1:9042 [SECONDS]
//! ```

use std::error::Error;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use spillway_store::Store;
use spillway_store::cql::floor::RawInserts;
use spillway_store::cql::{self, Config};
use spillway_store::mailboxes::{Capacity, StoredMessage};
use spillway_types::{Guid, MailboxId, MessageIdGenerator, SystemClock};
use tokio::task::JoinSet;
use tokio::time::Instant;

const CALLERS: usize = 64;
const ENVELOPE: &[u8] = &[7; 512];
const ROUNDS: u32 = 3;
const CAPACITY: Capacity = Capacity { messages: 10_000, bytes: 64_000_000 };

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let contact_points = arguments.next().ok_or("which database? give it as host:port")?;
    let run = Duration::from_secs(arguments.next().map_or(Ok(5), |seconds| seconds.parse())?);
    let config = Config {
        contact_points: contact_points.split(',').map(str::to_owned).collect(),
        keyspace_prefix: format!("spillway_floor_{:08x}", rand::random::<u32>()),
        replication_factor: NonZeroU8::MIN,
        ..Config::default()
    };
    cql::schema::apply(&config).await?;
    let inserts = RawInserts::open(&config).await?;
    let measured = measure(&config, &inserts, run).await;
    inserts.drop_keyspaces(&config).await?;
    measured
}

async fn measure(config: &Config, inserts: &RawInserts, run: Duration) -> Result<(), Box<dyn Error>> {
    let (store, _handle) = cql::open(config, &Registry::new(), Arc::new(SystemClock)).await?;
    // The first second of each warms up the database and the driver.
    raw(inserts, Duration::from_secs(1)).await?;
    through_the_store(&store, Duration::from_secs(1)).await?;
    let (mut floor, mut reached) = (0.0, 0.0);
    for _ in 0..ROUNDS {
        floor += raw(inserts, run).await?;
        reached += through_the_store(&store, run).await?;
    }
    let rounds = f64::from(ROUNDS);
    println!("driver  {:>8.0} inserts/s", floor / rounds);
    println!("store   {:>8.0} puts/s", reached / rounds);
    println!("ratio   {:>8.2}", reached / floor);
    Ok(())
}

/// Inserts a second.
async fn raw(inserts: &RawInserts, run: Duration) -> Result<f64, Box<dyn Error>> {
    let ids = Arc::new(MessageIdGenerator::new(Arc::new(SystemClock)));
    per_second(run, move || {
        let (inserts, message) = (inserts.clone(), message(&ids));
        async move { inserts.insert(MailboxId::random(), &message).await.expect("the database takes the row") }
    })
    .await
}

/// Puts a second.
async fn through_the_store(store: &Store, run: Duration) -> Result<f64, Box<dyn Error>> {
    let ids = Arc::new(MessageIdGenerator::new(Arc::new(SystemClock)));
    per_second(run, move || {
        let (mailboxes, message) = (Arc::clone(&store.mailboxes), message(&ids));
        async move {
            let put = mailboxes.put(MailboxId::random(), message, CAPACITY).await;
            let _stored = put.expect("the database takes the message");
        }
    })
    .await
}

fn message(ids: &MessageIdGenerator) -> StoredMessage {
    StoredMessage { id: ids.mint(), guid: Guid::random(), envelope: Bytes::from_static(ENVELOPE) }
}

/// Makes and runs one future after the other, in each of the callers.
async fn per_second<F>(run: Duration, make: impl Fn() -> F) -> Result<f64, Box<dyn Error>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let end = Instant::now() + run;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(make());
    }
    let mut done = 0_u32;
    while let Some(ended) = callers.join_next().await {
        ended?;
        done += 1;
        if Instant::now() < end {
            callers.spawn(make());
        }
    }
    Ok(f64::from(done) / run.as_secs_f64())
}
