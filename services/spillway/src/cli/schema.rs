//! `spillway schema`: the tables of a fleet's store.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use spillway_store::cql::Config;
use spillway_store::cql::schema::{self, Plan};

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum Action {
    /// Print what `apply` would do, as CQL
    Plan,
    /// Make the tables, or bring them to this version; may run several times, and in several processes at once
    Apply,
    /// Print which steps have been applied; exit status 1 when some are missing
    Status,
}

pub(super) async fn run(config: &Config, action: Action) -> Result<ExitCode> {
    config.check()?;
    match action {
        Action::Plan => plan(config).await,
        Action::Apply => apply(config).await,
        Action::Status => status(config).await,
    }
}

async fn plan(config: &Config) -> Result<ExitCode> {
    let plan = schema::plan(config).await?;
    print_head(&plan);
    for step in &plan.steps {
        println!("-- {}: {}", step.number, step.what);
        for statement in &step.statements {
            println!("{statement};\n");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn apply(config: &Config) -> Result<ExitCode> {
    let plan = schema::apply(config).await?;
    print_head(&plan);
    for step in &plan.steps {
        println!("applied {}: {}", step.number, step.what);
    }
    Ok(ExitCode::SUCCESS)
}

/// As a comment, so that what `plan` prints can be given to `cqlsh`.
fn print_head(plan: &Plan) {
    let found = plan.found.map_or("no schema".to_owned(), |version| format!("version {version}"));
    let to_do = if plan.steps.is_empty() { "nothing to do" } else { "to do:" };
    println!("-- {:?}, {found}, {to_do}", plan.flavour);
}

async fn status(config: &Config) -> Result<ExitCode> {
    let status = schema::status(config).await?;
    for step in &status.applied {
        println!("{} {} ({} ms since 1970)", step.number, step.what, step.at.as_micros() / 1_000);
    }
    let found = status.found().unwrap_or(0);
    println!("{:?}, version {found}, this program needs {}", status.flavour, status.needed);
    Ok(if found == status.needed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
