//! `cargo xtask fault`: build the service and the fault matrix, then hand over to the matrix.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{cargo, fleet};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Passed on; `cargo xtask fault --help` prints its help.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let cache = fleet::cache();
    // Before the build, which takes long.
    cache.preflight(true, true)?;
    cargo::build_release(&[("spillway", "spillway"), ("spillway-e2e", "spillway-fault")])?;
    let mut matrix = Command::new(cargo::release_binary("spillway-fault"));
    matrix.arg("--server").arg(cargo::release_binary("spillway"));
    matrix.arg("--backends").arg(cache.folder());
    matrix.arg("--folder").arg(cargo::target().join("fault"));
    matrix.args(&options.arguments).current_dir(cargo::root());
    cargo::hand_over(&mut matrix)
}
