//! Durable sends against a bare echo.

use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use spillway_api::v1;
use spillway_client::{Client, Identity, Outgoing};
use spillway_types::{AccountId, Guid};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tonic::Request;
use tonic::transport::Endpoint;

use super::closed_loop::{Rate, measure};
use super::population::Node;
use super::table::{Row, Target};
use super::{CALLERS, CONNECTIONS, ENVELOPE_BYTES, Options, echo};

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
pub(crate) async fn echo(options: &Options) -> Result<Rate> {
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
    let content = Bytes::from(vec![0x5A; ENVELOPE_BYTES]);
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
    let senders = Arc::new(node.people(0..CALLERS as u64).await?);
    let receivers = Arc::new(node.people(1_000..1_000 + RECEIVERS).await?);
    // The generated client, as for the echo: what the reference client adds is not the service's cost.
    let calls: Vec<_> = node.clients.iter().map(Client::messages).collect();
    let rate = measure(node.server.pid(), CALLERS, options.window(), move |caller, n| {
        let receiver = &receivers[(caller as u64 * 31 + n) as usize % receivers.len()];
        let mut request = Request::new(request(message(receiver.identity.account(), receiver.index)));
        senders[caller].identity.authorize(request.metadata_mut());
        let mut calls = calls[caller % CONNECTIONS].clone();
        async move {
            let sent = calls.send(request).await?.into_inner();
            ensure!(
                sent.full_devices.is_empty(),
                "a mailbox was full: the measurement is not of durable sends"
            );
            Ok(())
        }
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

pub(crate) fn message(to: AccountId, receiver_index: u64) -> Outgoing {
    let envelope = v1::DeviceEnvelope {
        device_id: 1,
        registration_id: surge::population::registration_id(receiver_index),
        content: Bytes::from_static(&[0x5A; ENVELOPE_BYTES]),
    };
    Outgoing { to, guid: Guid::random(), envelopes: vec![envelope], ephemeral: false, urgent: false }
}

fn request(message: Outgoing) -> v1::SendRequest {
    v1::SendRequest {
        account_id: Bytes::copy_from_slice(message.to.as_bytes()),
        guid: Bytes::copy_from_slice(message.guid.as_bytes()),
        envelopes: message.envelopes,
        ephemeral: message.ephemeral,
        urgent: message.urgent,
    }
}

pub(crate) async fn send(client: Client, identity: Arc<Identity>, message: Outgoing) -> Result<()> {
    let sent = client.send(&identity, message).await?;
    anyhow::ensure!(
        sent.full_devices.is_empty(),
        "a mailbox was full: the measurement is not of durable sends"
    );
    Ok(())
}
