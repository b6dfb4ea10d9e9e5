//! `cargo xtask bench [suite]`: ratios to floors measured in the same run.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{cargo, fleet};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which suite.
    #[arg(default_value = "node", value_parser = ["node", "fleet", "overload", "door", "surge"])]
    suite: String,
    /// Only rows whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let cache = fleet::cache();
    let with_back_ends = !["node", "surge"].contains(&options.suite.as_str());
    let with_load_tool = options.suite == "surge";
    if with_back_ends {
        // Before the build, which takes long.
        cache.preflight(true, true)?;
    }
    let mut binaries = vec![("spillway", "spillway"), ("spillway-e2e", "spillway-bench")];
    if with_load_tool {
        binaries.push(("surge", "surge"));
    }
    cargo::build_release(&binaries)?;
    let mut bench = Command::new(cargo::release_binary("spillway-bench"));
    bench.arg(&options.suite).arg("--server").arg(cargo::release_binary("spillway"));
    bench.arg("--out").arg(cargo::target().join("bench"));
    if with_back_ends {
        bench.arg("--back-ends").arg(cache.folder());
    }
    if with_load_tool {
        bench.arg("--surge").arg(cargo::release_binary("surge"));
    }
    if let Some(only) = &options.only {
        bench.args(["--only", only]);
    }
    cargo::hand_over(bench.current_dir(cargo::root()))
}
