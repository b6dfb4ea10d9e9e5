//! `cargo xtask test`: everything that must hold, cheapest first.

use std::process::Command;

use anyhow::Result;

use crate::{cargo, deny, secrets};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Leave out formatting, lints, dependency checks and documentation.
    #[arg(long)]
    tests_only: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !options.tests_only {
        static_checks()?;
    }
    secrets::forget_last_run()?;
    cargo::step("tests", tests().env("SPILLWAY_TEST_LOGS", secrets::folder()))?;
    secrets::check()
}

fn static_checks() -> Result<()> {
    cargo::step("format", cargo::cargo().args(["fmt", "--all", "--check"]))?;
    cargo::step(
        "lints",
        cargo::cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    deny::check()?;
    cargo::step(
        "documentation",
        cargo::cargo()
            .args(["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn tests() -> Command {
    let mut tests = cargo::cargo();
    // All features, as in the lints, so that both use the same artefacts.
    tests.args(["test", "--workspace", "--all-features", "--locked", "--no-fail-fast"]);
    tests
}
