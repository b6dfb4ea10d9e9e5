//! The command line of the binary.

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
use crate::memory;

/// `EX_USAGE` of sysexits.h: the settings are wrong, and starting again will not help.
const EXIT_USAGE: u8 = 64;

#[derive(Debug, Parser)]
#[command(
    name = "spillway",
    version,
    about = "The messaging back end that stays up on the day everybody signs up",
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,
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
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Args)]
struct SettingsArguments {
    /// Settings; also SPILLWAY_CONFIG. Single ones also SPILLWAY_SECTION__KEY. All have defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The tables of a fleet's store
    Schema {
        #[command(flatten)]
        settings: SettingsArguments,
        #[command(subcommand)]
        action: schema::Action,
    },
    /// Write the embedded store, whose server must not run, to a file
    Export {
        #[command(flatten)]
        settings: SettingsArguments,
        #[command(flatten)]
        export: transfer::Export,
    },
    /// Put what `export` wrote into the store of the settings, and compare
    Import {
        #[command(flatten)]
        settings: SettingsArguments,
        #[command(flatten)]
        import: transfer::Import,
    },
    /// The secrets that all processes of a fleet share
    Secrets {
        #[command(subcommand)]
        action: secrets::Action,
    },
}

/// Runs the process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Schema { settings, action }) => {
            with_settings(&settings, &[], |config| finish(block_on(schema::run(&config.store.cql, action))))
        }
        Some(Command::Export { settings, export }) => {
            with_settings(&settings, &[], |config| finish(block_on(transfer::export(config, export))))
        }
        Some(Command::Import { settings, import }) => {
            with_settings(&settings, &[], |config| finish(block_on(transfer::import(config, import))))
        }
        Some(Command::Secrets { action }) => finish(secrets::run(action)),
        None => with_settings(&arguments.settings, &arguments.roles, |config| serve(&arguments, config)),
    }
}

fn serve(arguments: &Arguments, config: Config) -> ExitCode {
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
    finish(block_on(serve::run(config, codes)).map(serve::exit_code))
}

fn with_settings(
    arguments: &SettingsArguments,
    roles: &[Role],
    run: impl FnOnce(Config) -> ExitCode,
) -> ExitCode {
    let environment = settings::process_environment();
    let file = arguments.config.clone().or_else(|| std::env::var_os("SPILLWAY_CONFIG").map(PathBuf::from));
    match settings::load::<Config>(file.as_deref(), environment, "SPILLWAY") {
        Ok(mut config) => {
            if !roles.is_empty() {
                config.roles = roles.iter().copied().collect();
            }
            run(config)
        }
        Err(error) => usage(&error.into()),
    }
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
