//! `cargo xtask check deploy`: what can be said of the chart without a cluster, cheapest first; with `--cluster` also what an API server
//! says of it, and with `--keda` what KEDA does with it.

mod chart;
mod cluster;
mod rules;
mod settings;
mod suites;
mod value_sets;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::chart as made;
use crate::{cargo, tools};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Also install, upgrade and roll back each set of values on a control plane of its own with nodes that run nothing.
    #[arg(long)]
    cluster: bool,
    /// Also let KEDA's own operator and adapter, on that control plane, scale a Deployment by the demand of a real process, up and back. They
    /// are built through Go first, which takes some minutes.
    #[arg(long)]
    keda: bool,
    /// Only the sets of values whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// The executable that is asked whether it accepts the settings that the chart writes, and whose demand scales. Default: it is built.
    #[arg(long, value_name = "FILE")]
    spillway: Option<PathBuf>,
    /// The load tool, which makes the demand. Default: it is built.
    #[arg(long, value_name = "FILE", requires = "keda")]
    surge: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    made::check_drift()?;
    suites::check()?;
    let with_cluster = options.cluster || options.keda;
    // What is missing is said, and made, before anything long starts.
    let mut wanted = vec![&tools::HELM, &tools::KUBECONFORM, &tools::HELM_UNITTEST, &tools::PROMTOOL];
    if with_cluster {
        wanted.extend(cluster::TOOLS);
    }
    if options.keda {
        wanted.extend(cluster::KEDA_TOOLS);
    }
    tools::obtain(&wanted)?;
    let schemas = tools::schemas::obtain()?;
    let sets = value_sets::all(options.only.as_deref())?;
    let rendered = chart::lint_and_render(&sets)?;
    chart::unit_tests()?;
    chart::conform(&rendered, &schemas)?;
    let spillway = executable("spillway", options.spillway.as_deref())?;
    settings::check(&rendered, &spillway)?;
    rules::check()?;
    if with_cluster {
        let mut plane = cluster::start(&schemas)?;
        if options.cluster {
            cluster::try_all(&plane, &sets)?;
        }
        if options.keda {
            let surge = executable("surge", options.surge.as_deref())?;
            cluster::scale(&mut plane, &spillway, &surge)?;
        }
    }
    Ok(())
}

fn executable(name: &str, named: Option<&Path>) -> Result<PathBuf> {
    match named {
        // Those that are run in another folder want the whole path.
        Some(named) => std::path::absolute(named).with_context(|| format!("{}", named.display())),
        None => {
            cargo::build_release(&[(name, name)])?;
            Ok(cargo::release_binary(name))
        }
    }
}
