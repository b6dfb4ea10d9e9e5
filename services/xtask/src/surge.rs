//! `cargo surge`: build the service and the load tool, then hand over to the load tool. With `--fleet`, a fleet is
//! started for the run and stopped after it.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use spillway_fleet::{Fleet, FleetSpec, Role};

use crate::{cargo, fleet};

/// Everybody comes from one address here, so limits of networks would see one very busy network; and through the waiting room, where a place costs
/// no work, because this machine would have to do it for every phone.
const GATEWAY_SETTINGS: &str = "quotas.verification_start_network.enabled = false\nquotas.authenticate.enabled = false\n\
    gateway.room.required = true\ngateway.room.proof_of_work = false";

/// Of the capacity that the probe finds, when nobody says. Less than for one process: a fleet on one machine shares its
/// processors with the database, and conditional writes of newcomers come before the mail of existing users there until
/// there is overload control.
const PEAK: &str = "0.4";
/// Of that peak, what the waiting room lets in.
const ADMIT: &str = "0.25";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Replay against a fleet of processes over NATS and Cassandra, two of each role
    #[arg(long)]
    fleet: bool,
    /// Passed to the load tool; `cargo surge --help` prints its help.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.fleet {
        // Before the build, which takes long.
        fleet::cache().preflight(true, true)?;
    }
    cargo::build_release(&[("spillway", "spillway"), ("surge", "surge")])?;
    let mut surge = Command::new(cargo::release_binary("surge"));
    surge.current_dir(cargo::root());
    if options.fleet {
        return against_fleet(surge, &options.arguments);
    }
    cargo::hand_over(surge.args(&options.arguments))
}

fn against_fleet(mut surge: Command, arguments: &[OsString]) -> Result<ExitCode> {
    let folder = cargo::target().join("surge-fleet");
    let runtime = fleet::runtime()?;
    // Left by a run that was killed.
    runtime.block_on(Fleet::down(&folder))?;
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    eprintln!("\n=== fleet (servers are obtained the first time, which takes a minute)");
    let binary = cargo::release_binary("spillway");
    let mut spec = FleetSpec::each(&binary, fleet::cache().folder(), 2, 1, 1);
    spec.role_settings.insert(Role::Gateway, toml::from_str(GATEWAY_SETTINGS)?);
    let mut fleet = runtime.block_on(Fleet::start(spec, &folder))?;
    let pids: Vec<_> =
        fleet.nodes().iter().filter_map(|node| node.pid()).map(|pid| pid.to_string()).collect();
    surge
        .args(["run", "--target", &urls(&fleet.public_addresses())])
        .args(["--codes", &urls(&fleet.codes_addresses())])
        .args(["--admin", &urls(&fleet.admin_addresses())])
        .args(["--server-pid", &pids.join(",")])
        .args(arguments.iter().filter(|argument| *argument != "run"));
    let has = |option: &str| {
        arguments.iter().any(|argument| argument.to_str().is_some_and(|text| text.starts_with(option)))
    };
    if !has("--peak") {
        surge.args(["--peak", PEAK]);
    }
    if !has("--admit") {
        surge.args(["--admit", ADMIT]);
    }
    let code = cargo::hand_over(&mut surge);
    runtime.block_on(fleet.shutdown())?;
    eprintln!("the fleet's logs are in {}", folder.display());
    code
}

fn urls(addresses: &[SocketAddr]) -> String {
    let urls: Vec<_> = addresses.iter().map(|address| format!("http://{address}")).collect();
    urls.join(",")
}
