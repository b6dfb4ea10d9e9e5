//! `cargo xtask chart docs`: what is made from the chart's `values.yaml` and from files elsewhere in the checkout.

mod readme;
mod schema;
mod values;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::cargo;

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Write values.schema.json, the table of values in the chart's README, and copies of what deploy/ has, anew.
    Docs,
}

/// A file and what it should hold.
struct Made {
    file: PathBuf,
    text: String,
}

pub(crate) fn run(action: &Action) -> Result<()> {
    let Action::Docs = action;
    for Made { file, text } in made()? {
        if read(&file).is_ok_and(|there| there == text) {
            continue;
        }
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("wrote {}", file.display());
    }
    Ok(())
}

/// Fails when one of the files is not what it would be made into.
pub(crate) fn check_drift() -> Result<()> {
    let stale: Vec<_> = made()?
        .into_iter()
        .filter(|made| !read(&made.file).is_ok_and(|there| there == made.text))
        .map(|made| made.file.display().to_string())
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    bail!("not what it is made from says: {}; `cargo xtask chart docs` writes it anew", stale.join(", "))
}

/// The chart.
pub(crate) fn folder() -> PathBuf {
    cargo::root().join("helm/spillway")
}

fn made() -> Result<Vec<Made>> {
    let chart = folder();
    let values = values::parse(&read(&chart.join("values.yaml"))?).context("helm/spillway/values.yaml")?;
    let readme = chart.join("README.md");
    let mut made = vec![
        Made { file: chart.join("values.schema.json"), text: schema::of(&values)? },
        Made { text: readme::with_table(&read(&readme)?, &values)?, file: readme },
    ];
    // A chart can hold files from its own folder only.
    let permissions = "nats/permissions.conf";
    made.push(Made {
        file: chart.join("files").join(permissions),
        text: read(&cargo::root().join("deploy").join(permissions))?,
    });
    Ok(made)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
