//! The client of another make that tests call Spillway with: grpc-go, the library and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo;

/// Says what to do where it cannot be built.
pub(super) fn preflight() -> Result<()> {
    let version = Command::new("go").arg("version").output();
    ensure!(
        version.is_ok_and(|output| output.status.success()),
        "`go` is missing; it builds a client that tests call Spillway with. Install Go (https://go.dev/dl, or your system's package `golang`)"
    );
    Ok(())
}

/// Builds it; Go's own cache makes that a moment when it was built before.
pub(super) fn build(cache: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let program = std::path::absolute(cache.join("grpc-go-client")).context("no current folder")?;
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&program).arg(".").current_dir(cargo::root().join("services/e2e/grpc_go"));
    cargo::step("build a client with grpc-go", &mut go)?;
    Ok(program)
}
