//! `cargo xtask check watch`: a real Prometheus, with the rules that are shipped, scrapes a real Spillway during a surge. Each expression of the
//! dashboards has to be answered with data, alerts fire and resolve as their pages say, and whoever watches can be killed without loss.
//!
//! Windows are sixty times as short as they are in the files, so that an alert of five minutes takes five seconds ([`shorten`]).

mod alerts;
mod dashboards;
mod prometheus;
mod shorten;
mod target;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::{Instant, sleep};

use super::POLL;
use crate::{cargo, fleet, tools};
use prometheus::Prometheus;
use target::Target;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Watch a fleet of processes over NATS and Cassandra, two of each role, instead of one process.
    #[arg(long)]
    fleet: bool,
    /// Seconds of the surge.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(10..=600))]
    seconds: u64,
    /// The executable of the service. Default: that of a release build, which is built.
    #[arg(long, value_name = "FILE", requires = "surge")]
    spillway: Option<PathBuf>,
    /// The executable of the load tool. Default: that of a release build, which is built.
    #[arg(long, value_name = "FILE", requires = "spillway")]
    surge: Option<PathBuf>,
}

/// Sign-ups a second at the peak: few, because it is not Spillway that is measured here.
const PEAK_RATE: &str = "8";
/// Of that peak, what the waiting room lets in, so that people wait.
const ADMIT: &str = "0.5";

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.fleet {
        // Before what takes long.
        fleet::cache().preflight(true, true)?;
    }
    tools::obtain(&[&tools::PROMETHEUS])?;
    let (spillway, surge) = match (&options.spillway, &options.surge) {
        (Some(spillway), Some(surge)) => (spillway.clone(), surge.clone()),
        _ => {
            cargo::build_release(&[("spillway", "spillway"), ("surge", "surge")])?;
            (cargo::release_binary("spillway"), cargo::release_binary("surge"))
        }
    };
    let folder = std::path::absolute(cargo::target().join("check/watch"))?;
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fleet::runtime()?.block_on(watch(options, &spillway, &surge, &folder))
}

async fn watch(options: &Options, spillway: &Path, surge: &Path, folder: &Path) -> Result<()> {
    eprintln!("\n=== what is watched, and Prometheus (logs are in {})", folder.display());
    let mut target = match options.fleet {
        true => Target::fleet(spillway, folder).await?,
        false => Target::one_process(spillway, folder).await?,
    };
    let mut prometheus = Prometheus::start(folder, &target.admins()).await?;
    prometheus.until_all_are_up(target.admins().len()).await?;

    eprintln!("\n=== a surge, during which Prometheus is killed and comes back");
    let began = prometheus.now().await?;
    surge_under_a_killed_watcher(options, surge, folder, &target, &mut prometheus).await?;
    prometheus.until_all_are_up(target.admins().len()).await?;

    eprintln!("\n=== what dashboards ask");
    dashboards::check(&prometheus, began, options.fleet).await?;

    eprintln!("\n=== alerts");
    alerts::check(&prometheus, &mut target, surge).await?;

    prometheus.stop().await?;
    target.stop().await?;
    eprintln!("\nall was answered, and alerts fired and resolved");
    Ok(())
}

/// The load tool's own verdict includes that no message was lost.
async fn surge_under_a_killed_watcher(
    options: &Options,
    surge: &Path,
    folder: &Path,
    target: &Target,
    prometheus: &mut Prometheus,
) -> Result<()> {
    let mut command = Command::new(surge);
    command.current_dir(cargo::root()).arg("run").args(["--existing", "40", "--sends", "20", "--calm", "5"]);
    command.args(["--peak-rate", PEAK_RATE, "--admit", ADMIT, "--seconds", &options.seconds.to_string()]);
    command.arg("--out").arg(folder.join("surge"));
    command.args(["--target", &urls(&target.publics()), "--codes", &urls(&target.codes())]);
    command.args(["--admin", &target.admins().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")]);
    let log = fs::File::create(folder.join("surge.log")).context("cannot make surge.log")?;
    let twice = log.try_clone().context("cannot share surge.log")?;
    let mut child = command.stdout(log).stderr(twice).spawn().context("cannot start the load tool")?;
    let halfway = Instant::now() + Duration::from_secs(5 + options.seconds / 2);
    let mut killed = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if !killed && Instant::now() > halfway {
            prometheus.kill().await?;
            sleep(Duration::from_secs(3)).await;
            prometheus.start_again().await?;
            killed = true;
        }
        sleep(POLL).await;
    };
    ensure!(killed, "the surge ended before its middle; {}", folder.join("surge.log").display());
    // What an overloaded machine does to objectives is not judged here; what is lost is.
    match status.code() {
        Some(0 | 3 | 5) => Ok(()),
        _ => bail!("the load tool says no ({status}); see {}", folder.join("surge.log").display()),
    }
}

fn urls(addresses: &[std::net::SocketAddr]) -> String {
    let urls: Vec<_> = addresses.iter().map(|address| format!("http://{address}")).collect();
    urls.join(",")
}
