//! The command line of the matrix.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use spillway_fleet::FleetSpec;
use spillway_types::{Clock, SystemClock};
use toml::Table;

use super::{Case, Plan};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask fault", about = "Kills, freezes and cuts off parts of a fleet under load")]
pub(super) struct Options {
    /// Cases to run, such as kill-mailbox, nats-gone or kill-gateway+kill-nats.
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<Case>,
    /// Run every case, and some pairs that the seed draws.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Repeats the draws of an earlier run. Without it, one is drawn and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Servers of NATS and nodes of Cassandra: 1 or 3.
    #[arg(long, default_value_t = 3, value_parser = one_or_three)]
    nodes: u8,
    /// How many pairs `--all` runs, of fifteen.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Sends a second: half of what two cores take.
    #[arg(long, default_value_t = 100.0)]
    sends: f64,
    /// People who write to each other.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(2..=1_000))]
    people: u64,
    /// More people who are online. Without it, 5000 when the case `reconnect` is among those that run.
    #[arg(long)]
    idle: Option<u64>,
    /// The service's executable.
    #[arg(long, hide = true)]
    server: PathBuf,
    /// The folder of servers.
    #[arg(long, hide = true)]
    backends: PathBuf,
    /// Where the fleet is.
    #[arg(long, hide = true)]
    folder: PathBuf,
}

/// Processes of each role: one goes and one stays.
const EACH: u8 = 2;
const IDLE: u64 = 5_000;

impl Options {
    pub(super) fn plan(&self) -> Result<Plan> {
        let seed = self.seed.unwrap_or_else(|| SystemClock.now().as_micros());
        let cases = if self.all { Case::all(seed, self.pairs) } else { self.names.clone() };
        if self.sends.is_nan() || self.sends < 1.0 {
            bail!("--sends must be at least 1");
        }
        let mut fleet = FleetSpec::each(&self.server, &self.backends, EACH, self.nodes, self.nodes);
        fleet.settings = Table::from_iter([("bus".to_owned(), work_on(self.nodes).into())]);
        let mut plan = Plan::new(fleet, self.folder.clone(), cases, seed);
        plan.people = self.people;
        plan.sends_per_s = self.sends;
        let idle = if plan.cases.contains(&Case::Reconnect) { IDLE } else { 0 };
        plan.idle = self.idle.unwrap_or(idle);
        Ok(plan)
    }

    /// Two runs of one checkout would stop each other's fleet.
    pub(super) fn lock(&self) -> Result<File> {
        if let Some(parent) = self.folder.parent() {
            fs::create_dir_all(parent).context("cannot make the target folder")?;
        }
        let lock = File::create(self.folder.with_extension("lock"))?;
        lock.try_lock().context("another fault matrix of this checkout is under way")?;
        Ok(lock)
    }
}

/// The queue of codes is on as many servers as there are.
fn work_on(servers: u8) -> Table {
    let mut work = Table::new();
    work.insert("replicas".to_owned(), i64::from(servers).into());
    Table::from_iter([("work".to_owned(), work.into())])
}

fn one_or_three(text: &str) -> Result<u8, &'static str> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("1 or 3"),
    }
}
