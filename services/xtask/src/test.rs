//! `cargo xtask test`: everything that must hold, cheapest first.

mod back_ends;
mod grpc_go;

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::{bounded, cargo, deny, secrets};
use back_ends::BackEnds;

/// Several times what they take on two cores. Each has bounds of its own; this is for one whose bound was forgotten.
const TESTS_MAX: Duration = Duration::from_secs(40 * 60);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Leave out formatting, lints, dependency checks and documentation.
    #[arg(long)]
    tests_only: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    // What cannot be run is said before anything takes long.
    let back_ends = BackEnds::wanted()?;
    if !options.tests_only {
        static_checks()?;
    }
    secrets::forget_last_run()?;
    let fetched = back_ends.fetch_meanwhile(|| cargo::step("build the tests", tests().arg("--no-run")));
    let back_ends = fetched?.start()?;
    let outcome = bounded::step(
        "tests",
        tests().env("SPILLWAY_TEST_LOGS", secrets::folder()).envs(back_ends.environment()),
        TESTS_MAX,
    );
    back_ends.stop();
    outcome?;
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
            .args([
                "doc",
                "--workspace",
                "--all-features",
                "--no-deps",
                "--document-private-items",
                "--locked",
            ])
            // Nobody reads these pages without the private items, so links to them are wanted.
            .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links"),
    )
}

fn tests() -> Command {
    let mut tests = cargo::cargo();
    // All features, as in the lints, so that both use the same artefacts.
    tests.args(["test", "--workspace", "--all-features", "--locked", "--no-fail-fast"]);
    tests
}
