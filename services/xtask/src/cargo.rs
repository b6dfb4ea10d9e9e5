//! Running cargo and what it built.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

/// The checkout.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The executable of a release build.
pub(crate) fn release_binary(name: &str) -> PathBuf {
    target().join("release").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// `cargo` as the one that runs this.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a step to its end; an exit status other than 0 is an error that names the step.
pub(crate) fn step(name: &str, command: &mut Command) -> Result<()> {
    eprintln!("\n=== {name}");
    let status = command.status().with_context(|| format!("{name}: cannot start {}", program(command)))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}

/// Builds executables in release mode: each its package and its name.
pub(crate) fn build_release(binaries: &[(&str, &str)]) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--release", "--locked"]);
    for (package, binary) in binaries {
        build.args(["--package", package, "--bin", binary]);
    }
    step("build (release)", &mut build)
}

/// Hands the terminal to a program and passes its exit status on.
pub(crate) fn hand_over(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().with_context(|| format!("cannot start {}", program(command)))?;
    // No code: it was ended by a signal, which a shell shows as 128 and more.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::from(130), ExitCode::from))
}

fn program(command: &Command) -> String {
    OsStr::to_string_lossy(command.get_program()).into_owned()
}
