//! `spillway secrets`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::secrets;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Make new secrets in a file that does not exist yet
    New { file: PathBuf },
}

pub(super) fn run(action: Action) -> Result<ExitCode> {
    let Action::New { file } = action;
    secrets::create(&file)?;
    println!(
        "{} holds new secrets. Back it up: without it no account can be used. Give it to every process of the fleet \
         as secrets.file, and to nobody else.",
        file.display()
    );
    Ok(ExitCode::SUCCESS)
}
