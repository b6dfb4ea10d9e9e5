//! `cargo surge`: build the service and the load tool, then hand over to the load tool.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::cargo;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Passed to the load tool; `cargo surge --help` prints its help.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    cargo::build_release(&[("spillway", "spillway"), ("surge", "surge")])?;
    let mut surge = Command::new(cargo::release_binary("surge"));
    surge.args(&options.arguments).current_dir(cargo::root());
    cargo::hand_over(&mut surge)
}
