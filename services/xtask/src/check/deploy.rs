//! `cargo xtask check deploy`: what can be said of the chart without a cluster, cheapest first; with `--cluster` also what an API server
//! says of it.

mod chart;
mod cluster;
mod rules;
mod settings;
mod suites;
mod value_sets;

use std::path::PathBuf;

use anyhow::Result;

use crate::chart as made;
use crate::tools;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Also install, upgrade and roll back each set of values on a control plane of its own with nodes that run nothing.
    #[arg(long)]
    cluster: bool,
    /// Only the sets of values whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// The executable that is asked whether it accepts the settings that the chart writes. Default: it is built.
    #[arg(long, value_name = "FILE")]
    spillway: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    made::check_drift()?;
    suites::check()?;
    tools::obtain(&[&tools::HELM, &tools::KUBECONFORM, &tools::HELM_UNITTEST, &tools::PROMTOOL])?;
    let schemas = tools::schemas::obtain()?;
    let sets = value_sets::all(options.only.as_deref())?;
    let rendered = chart::lint_and_render(&sets)?;
    chart::unit_tests()?;
    chart::conform(&rendered, &schemas)?;
    settings::check(&rendered, options.spillway.as_deref())?;
    rules::check()?;
    if options.cluster {
        cluster::check(&schemas, &sets)?;
    }
    Ok(())
}
