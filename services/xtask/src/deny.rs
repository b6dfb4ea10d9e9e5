//! `cargo deny`, obtained when it is missing.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo;

const VERSION: &str = "0.20.2";

/// Bans, licences and sources: needs no network beyond the registry.
pub(crate) fn check() -> Result<()> {
    let tool = obtain()?;
    cargo::step(
        "cargo deny",
        Command::new(tool)
            .current_dir(cargo::root())
            .args(["--locked", "check", "bans", "licenses", "sources"]),
    )
}

pub(crate) fn audit() -> Result<()> {
    let tool = obtain()?;
    cargo::step(
        "cargo deny advisories",
        Command::new(tool).current_dir(cargo::root()).args(["--locked", "check", "advisories"]),
    )
}

/// The tool in the target folder, or the one on the path, or a fresh one built from the registry.
fn obtain() -> Result<PathBuf> {
    let folder = cargo::target().join("tools");
    let own = folder.join("bin").join(format!("cargo-deny{}", std::env::consts::EXE_SUFFIX));
    if own.exists() {
        return Ok(own);
    }
    let on_path = Command::new("cargo-deny").arg("--version").output();
    if on_path.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(VERSION)) {
        return Ok(PathBuf::from("cargo-deny"));
    }
    let mut install = cargo::cargo();
    install.args([
        "install",
        "cargo-deny",
        "--locked",
        "--no-default-features",
        "--version",
        VERSION,
        "--root",
    ]);
    cargo::step("build cargo-deny (once)", install.arg(&folder))
        .context("cargo-deny could not be built; the registry must be reachable once")?;
    Ok(own)
}
