//! What an idle session costs: the slope of the server's resident memory over sessions, each with a connection.

use anyhow::Result;
use surge::observe::Proc;

use super::process::Node;
use crate::bench::table::{Row, Target};
use crate::bench::{Options, sessions};

const FEW: u64 = 1_000;
const MANY: u64 = 5_000;

pub(crate) async fn memory(options: &Options) -> Result<Row> {
    let node = Node::start(options).await?;
    let people = node.people.sign_up(0..MANY).await?;
    let (few, rest) = people.split_at(FEW as usize);
    let mut held = sessions::open(&node.people.address, few).await?;
    let at_few = settled(&node).await?;
    held.extend(sessions::open(&node.people.address, rest).await?);
    let at_many = settled(&node).await?;
    let bytes = at_many.saturating_sub(at_few) as f64 / (MANY - FEW) as f64;
    eprintln!(
        "resident memory: {} MB with {FEW} sessions, {} MB with {MANY}; {bytes:.0} bytes a session",
        at_few >> 20,
        at_many >> 20
    );
    drop(held);
    Ok(Row::value("resident memory per idle session", bytes / 1_000.0, "kB", Target::AtMost(35.0)))
}

async fn settled(node: &Node) -> Result<u64> {
    tokio::time::sleep(sessions::SETTLE).await;
    Ok(Proc::default().process(node.server.pid())?.rss_bytes)
}
