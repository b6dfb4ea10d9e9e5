//! What a send costs the load tool, against the cheapest client that does the same: generated code and nothing else sends when it is due, on a
//! few connections for all; sessions receive, and acknowledge several deliveries together.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use hdrhistogram::Histogram;
use surge::observe::Proc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::play::{Load, play};
use crate::bench::Options;
use crate::bench::node::deliver::{Due, offer, receive};
use crate::bench::node::process::Node;
use crate::bench::table::{Row, Target};

pub(crate) const ROW: &str = "processor time of the load tool per send";
pub(crate) const LAG: &str = "p99 of the lag at half of its capacity";

const PEOPLE: u64 = 128;
/// Low enough that nothing queues on two processors, service included.
const PER_SECOND: f64 = 500.0;

pub(crate) async fn of_a_send(options: &Options, surge: &Path) -> Result<[Row; 2]> {
    let node = Node::start(options).await?;
    let seconds = options.seconds.max(1) * 4;
    let load = Load { people: PEOPLE, per_second: PER_SECOND, seconds };
    let floor = cheapest(options, &node).await?;
    let played = play(surge, &node, load).await?;
    let cost = played.figure("/generator/cpu_us")? / played.figure("/ledger/acked")?;
    // Of one processor: the service has the others.
    let capacity = 1e6 / cost;
    eprintln!(
        "a send costs the load tool {cost:.0} us, {capacity:.0}/s for each processor; the cheapest client {floor:.0} us"
    );
    let half = play(surge, &node, Load { per_second: capacity / 2.0, ..load }).await?;
    Ok([
        Row::ratio(ROW, cost, "us", floor, Target::AtMost(1.5)),
        Row::value(LAG, half.figure("/generator/lag_p99_ms")?, "ms", Target::AtMost(5.0)),
    ])
}

/// Processor time of this process for each send, in microseconds, while it does nothing else.
async fn cheapest(options: &Options, node: &Node) -> Result<f64> {
    let people = node.people.sign_up(1_000_000..1_000_000 + PEOPLE).await?;
    let due = Due::default();
    let times = Arc::new(Mutex::new(Histogram::new_with_bounds(1, 600_000_000, 3)?));
    let mut sessions = JoinSet::new();
    for (n, user) in people.iter().enumerate() {
        let client = node.people.client(n).clone();
        sessions.spawn(receive(client, user.clone(), due.clone(), times.clone(), Instant::now()));
    }
    // Nobody writes to himself.
    let (senders, receivers) = people.split_at(people.len() / 2);
    // Sessions open, and memory is asked for the first time.
    offer(node, senders, receivers, &due, PER_SECOND, options.window()).await?;
    let cpu_us = || Proc::default().process(std::process::id()).map(|sample| sample.cpu_us);
    let before = cpu_us()?;
    let sent = offer(node, senders, receivers, &due, PER_SECOND, options.window() * 4).await?;
    Ok((cpu_us()? - before) as f64 / sent.max(1) as f64)
}
