//! `cargo xtask check …`: checks that are too long, or need too much, for every test run.

mod deploy;
mod one_process;
mod watch;

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use tokio::time::{Instant, sleep};

const POLL: Duration = Duration::from_millis(250);

#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// The Helm chart and what it ships: rendered with all its values, tested, held against schemas, its rules tested.
    Deploy(deploy::Options),
    /// A real Prometheus watches a real surge: dashboards are answered with data, alerts fire and resolve.
    Watch(watch::Options),
}

pub(crate) fn run(what: &What) -> Result<()> {
    match what {
        What::Deploy(options) => deploy::run(options),
        What::Watch(options) => watch::run(options),
    }
}

/// Asks again until it holds.
async fn eventually(what: &str, bound: Duration, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + bound;
    loop {
        match holds().await {
            Ok(true) => return Ok(()),
            Ok(false) if Instant::now() < until => {}
            Err(error) if Instant::now() < until => drop(error),
            Ok(false) => bail!("{what}: not within {} s", bound.as_secs()),
            Err(error) => {
                return Err(error).with_context(|| format!("{what}: not within {} s", bound.as_secs()));
            }
        }
        sleep(POLL).await;
    }
}

/// Free a moment ago; bound at the same time, so that no two are the same.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        let listener = listener.as_ref().map_err(|error| anyhow::anyhow!("no port is free: {error}"))?;
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
