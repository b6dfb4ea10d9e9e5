//! `cargo xtask metrics [--write]`: the page of all metrics, which is made from what the code registers.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::{cargo, root};
use crate::tools::quietly;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Write the page anew, instead of saying whether it is stale.
    #[arg(long)]
    write: bool,
    /// The executable that is asked. Default: `spillway` of a debug build.
    #[arg(long, value_name = "FILE")]
    spillway: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut print = match &options.spillway {
        Some(spillway) => Command::new(spillway),
        None => {
            let mut run = cargo();
            run.args(["run", "--quiet", "--locked", "--package", "spillway", "--bin", "spillway", "--"]);
            run
        }
    };
    let made = quietly("spillway --print-metrics", print.arg("--print-metrics"))?;
    let page = root().join("deploy/metrics.md");
    if fs::read_to_string(&page).is_ok_and(|there| there == made) {
        println!("{} is what the code registers", page.display());
        return Ok(());
    }
    if !options.write {
        bail!(
            "{} is not what the code registers; `cargo xtask metrics --write` writes it anew",
            page.display()
        );
    }
    fs::write(&page, made).with_context(|| format!("cannot write {}", page.display()))?;
    println!("wrote {}", page.display());
    Ok(())
}
