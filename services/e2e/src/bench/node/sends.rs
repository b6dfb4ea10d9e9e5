//! Durable sends against a bare echo.

use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use spillway_client::Client;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tonic::transport::Endpoint;

use super::echo;
use super::process::Node;
use crate::bench::closed_loop::{Rate, measure};
use crate::bench::table::{Row, Target};
use crate::bench::{CALLERS, CONNECTIONS, Options, message};

/// Receivers that share the load, so that no mailbox fills up.
const RECEIVERS: u64 = 256;

impl Rate {
    pub(crate) fn rows(&self, floor: &Rate) -> [Row; 2] {
        [
            Row::ratio("durable sends", self.per_second, "1/s", floor.per_second, Target::AtLeast(0.30)),
            Row::ratio("server cpu per durable send", self.cpu_us, "us", floor.cpu_us, Target::AtMost(5.0)),
        ]
    }
}

/// The floor: a server that does nothing, in a process of its own, asked by the same client.
pub(crate) async fn echo(options: &Options, content: Bytes) -> Result<Rate> {
    let mut server = Command::new(std::env::current_exe()?)
        .arg("echo")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the echo server")?;
    let pid = server.id().context("the echo server has ended")?;
    let mut line = String::new();
    BufReader::new(server.stdout.take().context("no output")?).read_line(&mut line).await?;
    let address =
        line.trim().strip_prefix("listening ").context("the echo server did not say where it listens")?;

    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        channels.push(endpoint.connect().await?);
    }
    let rate = measure(pid, CALLERS, options.window(), move |caller, _| {
        let (channel, content) = (channels[caller % CONNECTIONS].clone(), content.clone());
        async move {
            echo::call(channel, content).await?;
            Ok(())
        }
    })
    .await?;
    eprintln!("bare echo: {:.0}/s, {:.1} us of server cpu each", rate.per_second, rate.cpu_us);
    server.kill().await?;
    Ok(rate)
}

/// 64 callers on 8 connections, each send answered after the sync.
pub(crate) async fn durable(options: &Options, floor: &Rate) -> Result<Rate> {
    let node = Node::start(options).await?;
    let senders = Arc::new(node.people.sign_up(0..CALLERS as u64).await?);
    let receivers = Arc::new(node.people.sign_up(1_000..1_000 + RECEIVERS).await?);
    let calls: Vec<_> = node.people.clients.iter().map(Client::messages).collect();
    let rate = measure(node.server.pid(), CALLERS, options.window(), move |caller, n| {
        let receiver = &receivers[(caller as u64 * 31 + n) as usize % receivers.len()];
        message::send(calls[caller % CONNECTIONS].clone(), &senders[caller].identity, message::to(receiver))
    })
    .await?;
    eprintln!(
        "durable sends: {:.0}/s ({:.2} of echo), {:.1} us of server cpu each",
        rate.per_second,
        rate.per_second / floor.per_second,
        rate.cpu_us
    );
    Ok(rate)
}
