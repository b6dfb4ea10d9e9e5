//! `cargo xtask check …`: checks that are too long, or need too much, for every test run.

mod deploy;
mod watch;

use anyhow::Result;
use clap::Subcommand;

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
