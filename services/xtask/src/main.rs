//! What a person types: `cargo xtask test`, `cargo xtask bench`, `cargo surge`.

mod bench;
mod bounded;
mod cargo;
mod chart;
mod check;
mod deny;
mod fault;
mod fleet;
mod metrics;
mod secrets;
mod surge;
mod test;
mod tools;
mod yaml;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and measures Spillway")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run every check and every test, as CI does.
    Test(test::Options),
    /// Measure and print the table of a suite; exit status 1 when a row misses its target.
    Bench(bench::Options),
    /// Replay January 2021 against a Spillway of this machine (also `cargo surge`).
    #[command(disable_help_flag = true)]
    Surge(surge::Options),
    /// A fleet on this machine: NATS, Cassandra, and processes for each role.
    #[command(subcommand)]
    Fleet(fleet::Action),
    /// Kill, freeze and cut off parts of a fleet under load; exit status 1 when a case fails.
    #[command(disable_help_flag = true)]
    Fault(fault::Options),
    /// Checks beside the tests: the Helm chart, its rules, its settings.
    #[command(subcommand)]
    Check(check::What),
    /// What is made from the Helm chart's values.
    #[command(subcommand)]
    Chart(chart::Action),
    /// The page of all metrics, deploy/metrics.md: is it what the code registers?
    Metrics(metrics::Options),
    /// Check the dependencies against the advisory database, which needs the internet.
    Audit,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Test(options) => test::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Bench(options) => bench::run(&options),
        Task::Surge(options) => surge::run(&options),
        Task::Fleet(action) => fleet::run(&action).map(|()| ExitCode::SUCCESS),
        Task::Fault(options) => fault::run(&options),
        Task::Check(what) => check::run(&what).map(|()| ExitCode::SUCCESS),
        Task::Chart(action) => chart::run(&action).map(|()| ExitCode::SUCCESS),
        Task::Metrics(options) => metrics::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Audit => deny::audit().map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
