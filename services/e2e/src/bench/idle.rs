//! What an idle session costs: the slope of the server's resident memory over sessions, each with a connection.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::stream::{self, StreamExt, TryStreamExt};
use spillway_client::{Client, ClientConfig, Session, SessionEvent};
use surge::observe::Proc;

use super::Options;
use super::population::{Node, User};
use super::table::{Row, Target};

const FEW: u64 = 1_000;
const MANY: u64 = 5_000;
/// Sweeps 2 s and 10 s after the hello belong to opening a session; they are over by then.
const SETTLE: Duration = Duration::from_secs(12);

pub(crate) async fn memory(options: &Options) -> Result<Row> {
    let node = Node::start(options).await?;
    let people = node.people(0..MANY).await?;
    let (few, rest) = people.split_at(FEW as usize);
    let mut held = open(&node, few).await?;
    let at_few = settled(&node).await?;
    held.extend(open(&node, rest).await?);
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

async fn open(node: &Node, people: &[User]) -> Result<Vec<Session>> {
    stream::iter(people)
        .map(|user| async {
            let client = Client::connect(&node.server.public, ClientConfig::default()).await?;
            let mut session = client.open_session(&user.identity).await?;
            match session.next().await?.context("the session ended")? {
                SessionEvent::QueueEmpty => Ok(session),
                other => anyhow::bail!("an empty mailbox gave {other:?}"),
            }
        })
        .buffer_unordered(32)
        .try_collect()
        .await
}

async fn settled(node: &Node) -> Result<u64> {
    tokio::time::sleep(SETTLE).await;
    Ok(Proc::default().process(node.server.pid())?.rss_bytes)
}
