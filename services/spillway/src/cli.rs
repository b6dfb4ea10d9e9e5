//! The command line of the binary.

mod admin;
mod ladder;
mod room;
mod schema;
mod secrets;
mod serve;
mod transfer;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use spillway_chassis::config as settings;

use crate::config::{Config, Role};
use crate::listeners::SandboxCodes;
use crate::{memory, metrics};

/// `EX_USAGE` of sysexits.h: the settings are wrong, and starting again will not help.
const EXIT_USAGE: u8 = 64;

#[derive(Debug, Parser)]
#[command(
    name = "spillway",
    version,
    about = "The messaging back end that stays up on the day everybody signs up"
)]
struct Arguments {
    /// Settings; also SPILLWAY_CONFIG. Single ones also SPILLWAY_SECTION__KEY. All have defaults
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// What this process does; without it, what the settings say: everything, unless they name roles
    #[arg(long, value_name = "ROLE,…", value_delimiter = ',', value_enum)]
    roles: Vec<Role>,
    /// Let anybody on this machine read the sandbox provider's codes although this is a fleet: for tests
    #[arg(long)]
    allow_sandbox_codes: bool,
    /// Check the settings and exit
    #[arg(long)]
    check_config: bool,
    /// Print the settings in force and exit
    #[arg(long)]
    print_config: bool,
    /// Print every limit on users, numbers and networks, with its reason, and exit
    #[arg(long)]
    print_limits: bool,
    /// Print every metric with its type, labels and meaning, in Markdown, and exit
    #[arg(long)]
    print_metrics: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The tables of a fleet's store
    #[command(subcommand)]
    Schema(schema::Action),
    /// Write the embedded store, whose server must not run, to a file
    Export(transfer::Export),
    /// Put what `export` wrote into the store of the settings, and compare
    Import(transfer::Import),
    /// What gateways have switched off so that the rest goes on
    #[command(subcommand)]
    Ladder(ladder::Action),
    /// The waiting room in front of sign-ups
    #[command(subcommand)]
    Room(room::Action),
    /// The secrets that all processes of a fleet share
    #[command(subcommand)]
    Secrets(secrets::Action),
}

/// Runs the process.
pub fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.print_metrics {
        print!("{}", metrics::page());
        return ExitCode::SUCCESS;
    }
    let config = match load(&arguments) {
        Ok(config) => config,
        Err(error) => return usage(&error),
    };
    match arguments.command.take() {
        Some(Command::Schema(action)) => finish(block_on(schema::run(&config.store.cql, action))),
        Some(Command::Export(export)) => finish(block_on(transfer::export(config, export))),
        Some(Command::Import(import)) => finish(block_on(transfer::import(config, import))),
        Some(Command::Ladder(action)) => {
            finish(block_on(ladder::run(action, config.admin.listen.to_string())))
        }
        Some(Command::Room(action)) => finish(block_on(room::run(action, config.admin.listen.to_string()))),
        Some(Command::Secrets(action)) => finish(secrets::run(action)),
        None => serve(arguments, config),
    }
}

fn serve(arguments: Arguments, config: Config) -> ExitCode {
    if let Err(problem) = config.check() {
        return usage(&problem.into());
    }
    if arguments.print_config {
        print!("{}", settings::to_toml(&config));
    }
    if arguments.print_limits {
        print!("{}", spillway_admission::render_table(&config.quotas));
    }
    if arguments.check_config && !arguments.print_config && !arguments.print_limits {
        println!("the settings can be used");
    }
    if arguments.check_config || arguments.print_config || arguments.print_limits {
        return ExitCode::SUCCESS;
    }
    memory::use_small_pages();
    let codes = match arguments.allow_sandbox_codes {
        true => SandboxCodes::AlsoInFleet,
        false => SandboxCodes::Alone,
    };
    let read_config = Box::new(move || load(&arguments));
    finish(block_on(serve::run(config, codes, read_config)).map(serve::exit_code))
}

fn load(arguments: &Arguments) -> Result<Config> {
    let environment = settings::process_environment();
    let file = arguments.config.clone().or_else(|| std::env::var_os("SPILLWAY_CONFIG").map(PathBuf::from));
    let mut config: Config = settings::load(file.as_deref(), environment, "SPILLWAY")?;
    if !arguments.roles.is_empty() {
        config.roles = arguments.roles.iter().copied().collect();
    }
    Ok(config)
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // What the drain could not end in its time is not waited for.
    runtime.shutdown_background();
    outcome
}

fn finish(outcome: Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("spillway: {error:#}");
        ExitCode::FAILURE
    })
}

fn usage(error: &anyhow::Error) -> ExitCode {
    eprintln!("spillway: {error:#}");
    ExitCode::from(EXIT_USAGE)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
