//! What a device that is online and idle costs a gateway's memory in subscriptions.
//!
//! ```text
//! cargo run --release -p spillway-bus --example interest_memory -- 127.0.0.1:4222 [devices]
//! ```
//!
//! Compares the resident memory before and after subscribing, with the allocator of the binary, and the same for the
//! general client.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use prometheus::Registry;
use spillway_bus::nats::{NatsBus, NatsConfig};
use spillway_bus::{Bus, Subject};
use spillway_chassis::Tasks;
use spillway_types::MailboxId;
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sessions that open at the same time.
const CONCURRENCY: usize = 256;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().ok_or("the address of a NATS server is missing")?;
    let devices = arguments.next().map_or(Ok(200_000), |count| count.parse())?;

    let tasks = Tasks::new();
    let prefix = format!("memory-{}", std::process::id());
    let config =
        NatsConfig { servers: vec![server.clone()], prefix: prefix.clone(), ..NatsConfig::default() };
    let bus = NatsBus::start(&config, "interest_memory", &tasks, &Registry::new())?;
    for mut link in bus.links() {
        link.state.wait_for(|state| state.is_connected()).await?;
    }
    // What the first ones bring into being, such as the runtime's and the connection's buffers, is not theirs.
    let warm_up = bus.subscribe(Subject::Load).await?;

    let mut subscriptions = Vec::with_capacity(devices);
    let (before, began) = (resident_bytes()?, Instant::now());
    let mut subscribing = stream::iter(0..devices)
        .map(|_| bus.subscribe(Subject::Mailbox(MailboxId::random())))
        .buffer_unordered(CONCURRENCY);
    while let Some(subscription) = subscribing.next().await {
        subscriptions.push(subscription?);
    }
    drop(subscribing);
    report("hints", devices, before, began)?;
    drop((subscriptions, warm_up, bus));
    tasks.close_and_wait(Duration::from_secs(5)).await?;

    let client = async_nats::connect(&server).await?;
    let devices = devices / 10;
    let mut subscribers = Vec::with_capacity(devices);
    let (before, began) = (resident_bytes()?, Instant::now());
    for _ in 0..devices {
        let mailbox = MailboxId::random();
        subscribers.push(client.subscribe(format!("{prefix}.d.0.{mailbox}")).await?);
    }
    client.flush().await?;
    report("async-nats", devices, before, began)
}

fn report(
    what: &str,
    devices: usize,
    before: usize,
    began: Instant,
) -> Result<(), Box<dyn std::error::Error>> {
    let took = began.elapsed();
    let bytes = resident_bytes()?.saturating_sub(before) / devices;
    println!("{what}: {bytes} bytes for each of {devices} devices, subscribed in {} ms", took.as_millis());
    Ok(())
}

fn resident_bytes() -> Result<usize, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kibibytes: usize = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}
