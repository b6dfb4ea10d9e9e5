//! `cargo xtask fault`: a fleet of real processes under load, whose parts are killed, frozen and cut off.
//!
//! A [`Case`] starts a steady load between people who are all online, does one thing to the fleet, undoes it, and waits
//! for recovery. Whatever was done, every message that was acknowledged arrives, none arrives twice, sends work again
//! soon, and neither memory nor subscriptions are left behind. Who is hit and when is drawn from the seed and the
//! case's name, so that a case can be repeated by itself.
//!
//! Not here: faults of the network between processes of one machine, and of disks. Tests of the crates have those.

mod case;
mod control;
mod footprint;
mod inject;
mod load;
mod options;
mod phone;
mod table;
mod trial;
mod world;

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use spillway_fleet::{Fleet, FleetSpec, Role};
use toml::Table;

use self::control::ControlWatch;
use self::footprint::Footprint;
use self::trial::{Scene, Trial};
use self::world::World;

pub use self::case::{Case, Kill, UnknownCase};
pub use self::table::{Row, print};

/// Limits that would bite where everybody comes from one address, or writes more than a person does.
const LIMITS_OFF: [&str; 5] =
    ["verification_start_network", "messages", "message_bytes", "session_open", "authenticate"];

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub fleet: FleetSpec,
    /// Where the fleet is; emptied before it starts.
    pub folder: PathBuf,
    pub cases: Vec<Case>,
    pub seed: u64,
    /// People who are online and write to each other.
    pub people: u64,
    /// People who are online and write to nobody.
    pub idle: u64,
    pub sends_per_s: f64,
    pub times: Times,
    /// A file to add credentials to, for a search of the logs.
    pub secrets: Option<PathBuf>,
}

/// How long faults last.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Between `kill -9` and the start of the next process.
    pub down: Duration,
    /// SIGSTOP of a worker; longer than the fence of 20 s.
    pub frozen: Duration,
    pub nats_gone: Duration,
    /// How often a node of the database stands still, 3 s each.
    pub stalls: u32,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            down: Duration::from_secs(10),
            frozen: Duration::from_secs(30),
            nats_gone: Duration::from_secs(20),
            stalls: 4,
        }
    }
}

impl Plan {
    /// A fleet without limits for people, and a load for two cores.
    pub fn new(mut fleet: FleetSpec, folder: PathBuf, cases: Vec<Case>, seed: u64) -> Self {
        let off = |limit: &str| {
            let mut switch = Table::new();
            switch.insert("enabled".to_owned(), false.into());
            (limit.to_owned(), switch.into())
        };
        let quotas: Table = LIMITS_OFF.into_iter().map(off).collect();
        fleet.role_settings.entry(Role::Gateway).or_default().insert("quotas".to_owned(), quotas.into());
        let times = Times::default();
        Self { fleet, folder, cases, seed, people: 60, idle: 0, sends_per_s: 50.0, times, secrets: None }
    }
}

/// Starts the fleet, runs each case, and stops what it started. A case that cannot be carried out is a failed row.
///
/// # Errors
///
/// When the fleet cannot be started or its people cannot sign up.
pub async fn run(plan: &Plan) -> Result<Vec<Row>> {
    println!("seed {}", plan.seed);
    Fleet::down(&plan.folder).await.context("cannot stop what the last run left")?;
    match fs::remove_dir_all(&plan.folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).context("cannot remove the data of the last run");
        }
        _ => {}
    }
    let mut fleet =
        Fleet::start(plan.fleet.clone(), &plan.folder).await.context("the fleet does not start")?;
    let rows = cases(plan, &mut fleet).await;
    let stopped = fleet.shutdown().await.context("the fleet cannot be stopped");
    let rows = rows?;
    stopped?;
    Ok(rows)
}

async fn cases(plan: &Plan, fleet: &mut Fleet) -> Result<Vec<Row>> {
    let mut world = World::new(fleet, plan.seed);
    // Without anybody online, to compare the end with.
    let empty = Footprint::take(fleet).await?;
    world.sign_up(plan.people, plan.idle).await?;
    if let Some(file) = &plan.secrets {
        fs::write(file, world.credentials()).context("cannot note the credentials")?;
    }
    let watch = ControlWatch::start(fleet);
    world.all_online().await?;
    println!("{} devices are online", world.devices());

    let subscriptions = empty.subscriptions + world.devices();
    let scene = Scene { plan, world: &world, watch: &watch, subscriptions };
    let mut rows = Vec::new();
    for case in &plan.cases {
        let row = Trial::run(*case, scene, fleet).await;
        println!("{}", row.line());
        rows.push(row);
    }
    let before = Footprint::take(fleet).await?;
    world.everybody_leaves().await;
    rows.push(trial::left_behind(fleet, before, empty).await?);
    Ok(rows)
}

/// The command line.
///
/// # Errors
///
/// When the matrix could not be run; a case that failed is exit status 1 instead.
pub async fn main() -> Result<ExitCode> {
    let options = options::Options::parse();
    let plan = options.plan()?;
    let _lock = options.lock()?;
    let rows = run(&plan).await?;
    print(&rows);
    println!("\nseed {}; logs: {}", plan.seed, plan.folder.join("logs").display());
    Ok(if rows.iter().all(Row::passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
