//! Durable puts a second of the embedded store, beside the floor: a bare group-commit append to a file.
//!
//! `cargo run --release -p spillway-store --example append_rate [callers] [seconds]`

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use spillway_store::embedded;
use spillway_store::mailboxes::{Capacity, StoredMessage};
use spillway_types::{Guid, MailboxId, MessageIdGenerator, SystemClock};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

const ENVELOPE_BYTES: usize = 512;
const ROOMY: Capacity = Capacity { messages: u64::MAX, bytes: u64::MAX };
const GROUP_MAX: usize = 1_024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let callers = arguments.next().transpose()?.unwrap_or(64);
    let run = Duration::from_secs(arguments.next().transpose()?.unwrap_or(5));
    // In the current folder, because the usual place for temporary files may be in memory.
    let folder = tempfile::tempdir_in(".")?;

    let floor = bare_append(&folder.path().join("floor"), callers, run).await?;
    report("bare append", callers, run, &floor);
    let puts = store_put(&folder.path().join("store"), callers, run).await?;
    report("store put", callers, run, &puts);
    println!(
        "{:<12} {:.2} of the floor",
        "ratio",
        puts.latencies.len() as f64 / floor.latencies.len() as f64
    );
    Ok(())
}

struct Measured {
    latencies: Vec<Duration>,
    cpu: Duration,
}

fn report(name: &str, callers: u64, run: Duration, measured: &Measured) {
    let mut latencies = measured.latencies.clone();
    latencies.sort_unstable();
    let count = latencies.len();
    let at = |share: f64| latencies.get((count as f64 * share) as usize).copied().unwrap_or_default();
    println!(
        "{name:<12} {callers} callers, {:.0} a second, p50 {:.2?}, p99 {:.2?}, max {:.2?}, CPU {:.1} us each",
        count as f64 / run.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0 - f64::EPSILON),
        measured.cpu.as_secs_f64() * 1e6 / count as f64,
    );
}

/// Waits for the callers' latencies and counts the processor time they took.
async fn collect(mut callers: JoinSet<Vec<Duration>>) -> std::io::Result<Measured> {
    let before = cpu_time()?;
    let mut latencies = Vec::new();
    while let Some(caller) = callers.join_next().await {
        latencies.extend(caller?);
    }
    Ok(Measured { latencies, cpu: cpu_time()?.saturating_sub(before) })
}

async fn store_put(path: &std::path::Path, callers: u64, run: Duration) -> Result<Measured, Box<dyn Error>> {
    let config = embedded::Config { path: path.to_owned(), ..embedded::Config::default() };
    let registry = Registry::new();
    let (store, handle) = embedded::open(&config, &registry, Arc::new(SystemClock))?;
    let ids = Arc::new(MessageIdGenerator::new(Arc::new(SystemClock)));
    let end = Instant::now() + run;
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (mailboxes, ids) = (Arc::clone(&store.mailboxes), Arc::clone(&ids));
        let owned: Vec<_> = (0..100).map(|_| MailboxId::random()).collect();
        tasks.spawn(async move {
            let envelope = Bytes::from(vec![7; ENVELOPE_BYTES]);
            let mut latencies = Vec::new();
            for mailbox in owned.iter().cycle() {
                let began = Instant::now();
                if began >= end {
                    break;
                }
                let message =
                    StoredMessage { id: ids.mint(), guid: Guid::random(), envelope: envelope.clone() };
                let _stored =
                    mailboxes.put(*mailbox, message, ROOMY).await.expect("the disk takes the message");
                latencies.push(began.elapsed());
            }
            latencies
        });
    }
    let measured = collect(tasks).await?;
    handle.close().await;
    for family in registry.gather().iter().filter(|family| family.name() == "spillway_store_group_operations")
    {
        let groups = family.get_metric()[0].get_histogram();
        let mean = groups.get_sample_sum() / groups.get_sample_count() as f64;
        println!("{:<12} {mean:.1} puts share one fsync", "");
    }
    Ok(measured)
}

/// The least that group commit can do: gather, append, fdatasync, answer.
async fn bare_append(
    path: &std::path::Path,
    callers: u64,
    run: Duration,
) -> Result<Measured, Box<dyn Error>> {
    let (queue, mut writes) = mpsc::channel::<(Bytes, oneshot::Sender<()>)>(GROUP_MAX);
    let mut file = File::create(path)?;
    let thread = std::thread::spawn(move || -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let mut waiting = Vec::new();
        while let Some(first) = writes.blocking_recv() {
            let mut next = Some(first);
            while let Some((write, answer)) = next {
                bytes.extend_from_slice(&write);
                waiting.push(answer);
                next = if waiting.len() < GROUP_MAX { writes.try_recv().ok() } else { None };
            }
            file.write_all(&bytes)?;
            file.sync_data()?;
            bytes.clear();
            waiting.drain(..).for_each(|answer| answer.send(()).unwrap_or_default());
        }
        Ok(())
    });
    let end = Instant::now() + run;
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let queue = queue.clone();
        tasks.spawn(async move {
            let envelope = Bytes::from(vec![7; ENVELOPE_BYTES]);
            let mut latencies = Vec::new();
            loop {
                let began = Instant::now();
                if began >= end {
                    return latencies;
                }
                let (answer, answered) = oneshot::channel();
                queue.send((envelope.clone(), answer)).await.expect("the thread runs");
                answered.await.expect("the disk takes the bytes");
                latencies.push(began.elapsed());
            }
        });
    }
    drop(queue);
    let measured = collect(tasks).await?;
    thread.join().expect("the thread does not panic")?;
    Ok(measured)
}

/// User and system time of the process, in Linux's ticks of 10 ms.
fn cpu_time() -> std::io::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(10 * ticks))
}
