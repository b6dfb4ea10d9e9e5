//! `cargo xtask fleet up | down | status`: a fleet on this machine, in `target/fleet`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use spillway_fleet::{Cache, Down, Ended, Fleet, FleetError, FleetSpec, Node, Readiness};

use crate::cargo;

/// Where ports are looked for, away from those of a Spillway in one process.
const FIRST_PORT: u16 = 17_700;

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Build Spillway and start a fleet that stays after this command. What runs already is left as it is.
    Up(Shape),
    /// Stop everything of the fleet.
    Down {
        /// Remove its data, settings and logs too.
        #[arg(long)]
        wipe: bool,
    },
    /// Show each process: whether it serves, or why not.
    Status,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Shape {
    /// Processes of each role.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
    each: u8,
    /// Nodes of Cassandra: 1 or 3.
    #[arg(long, default_value_t = 1, value_parser = one_or_three)]
    cassandra: u8,
    /// Servers of NATS: 1 or 3.
    #[arg(long, default_value_t = 1, value_parser = one_or_three)]
    nats: u8,
}

pub(crate) fn run(action: &Action) -> Result<()> {
    match action {
        Action::Up(shape) => {
            let cache = cache();
            // Before the build, which takes long.
            cache.preflight(true, true)?;
            cargo::build_release(&[("spillway", "spillway")])?;
            runtime()?.block_on(up(shape, &cache))
        }
        Action::Down { wipe } => runtime()?.block_on(down(*wipe)),
        Action::Status => runtime()?.block_on(status()),
    }
}

pub(crate) fn cache() -> Cache {
    Cache::of_environment(&cargo::target())
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")
}

async fn up(shape: &Shape, cache: &Cache) -> Result<()> {
    let binary = cargo::release_binary("spillway");
    let mut spec = FleetSpec::each(&binary, cache.folder(), shape.each, shape.nats, shape.cassandra);
    spec.first_port = Some(FIRST_PORT);
    eprintln!("\n=== fleet (servers are obtained the first time, which takes a minute)");
    let mut fleet = match Fleet::start(spec, &folder()).await {
        Err(error @ FleetError::Another { .. }) => {
            return Err(error).context("`cargo xtask fleet down --wipe` removes it");
        }
        outcome => outcome?,
    };
    fleet.detach();
    table(&mut fleet).await;
    println!("\nlogs, settings and data: {}", fleet.folder().display());
    Ok(())
}

async fn down(wipe: bool) -> Result<()> {
    let folder = folder();
    for Down { name, pid, ended } in Fleet::down(&folder).await? {
        let how = if ended == Ended::Killed { "killed, because it did not end in time" } else { "stopped" };
        println!("{name:16} {pid:>8}  {how}");
    }
    if wipe && folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

async fn status() -> Result<()> {
    let Some(mut fleet) = Fleet::open(&folder())? else {
        bail!("there is no fleet in {}; start one with `cargo xtask fleet up`", folder().display());
    };
    if table(&mut fleet).await {
        return Ok(());
    }
    bail!("not all of the fleet serves");
}

/// True when all serve.
async fn table(fleet: &mut Fleet) -> bool {
    println!("{:16} {:>8} {:>8}  {:60} state", "", "pid", "resident", "addresses");
    let mut all = true;
    for node in fleet.nodes_mut() {
        let readiness = node.readiness().await;
        all &= readiness == Readiness::Ready;
        println!("{}", row(node, &readiness));
    }
    all
}

fn row(node: &Node, readiness: &Readiness) -> String {
    let pid = node.pid().map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    let resident =
        node.resident_bytes().map_or_else(|| "-".to_owned(), |bytes| format!("{} MB", bytes >> 20));
    let addresses: Vec<_> = node.plan().endpoints.iter().map(|(name, at)| format!("{name}={at}")).collect();
    format!("{:16} {pid:>8} {resident:>8}  {:60} {readiness}", node.name(), addresses.join(" "))
}

fn folder() -> PathBuf {
    cargo::target().join("fleet")
}

fn one_or_three(text: &str) -> Result<u8, &'static str> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("1 or 3"),
    }
}
