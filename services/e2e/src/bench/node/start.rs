//! From the start of the process to the first answer.

use std::time::Duration;

use anyhow::Result;
use surge::server::ServerProcess;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::process::{Node, server_options};
use crate::bench::table::{Row, Target};
use crate::bench::{CALLERS, CONNECTIONS, Options, message};

const MESSAGES: u64 = 1_000_000;
/// As many as fit: a mailbox holds 10,000.
const RECEIVERS: u64 = 200;

pub(crate) async fn empty(options: &Options) -> Result<Row> {
    let folder = tempfile::tempdir()?;
    let seconds = start(options, folder.path().join("data")).await?;
    Ok(Row::value("start to serving, empty store", seconds, "s", Target::AtMost(0.3)))
}

pub(crate) async fn with_a_million(options: &Options) -> Result<Row> {
    let mut node = Node::start(options).await?;
    fill(&node).await?;
    // Not a clean stop: the journal must be replayed.
    node.server.signal("KILL").await?;
    node.server.wait().await?;
    let seconds = start(options, node.data()).await?;
    Ok(Row::value("start to serving, 1 M messages, after kill -9", seconds, "s", Target::AtMost(2.0)))
}

async fn start(options: &Options, data: std::path::PathBuf) -> Result<f64> {
    let from = Instant::now();
    let server = ServerProcess::start(&server_options(options, data)).await?;
    let seconds = from.elapsed().as_secs_f64();
    server.stop(Duration::from_secs(30)).await?;
    eprintln!("start to serving: {seconds:.3} s");
    Ok(seconds)
}

async fn fill(node: &Node) -> Result<()> {
    let senders = node.people.sign_up(0..CALLERS as u64).await?;
    let receivers = node.people.sign_up(1_000..1_000 + RECEIVERS).await?;
    let mut callers = JoinSet::new();
    for (caller, sender) in senders.into_iter().enumerate() {
        let (calls, receivers) = (node.people.clients[caller % CONNECTIONS].messages(), receivers.clone());
        callers.spawn(async move {
            for n in (caller as u64..MESSAGES).step_by(CALLERS) {
                let receiver = &receivers[(n % RECEIVERS) as usize];
                message::send(calls.clone(), &sender.identity, message::to(receiver)).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}
