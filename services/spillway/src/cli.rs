//! The command line of the binary, and the life of the process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use spillway_chassis::signals::{Hangups, StopSignals};
use spillway_chassis::{Exit, config as settings, telemetry};
use spillway_types::SystemClock;

use crate::app::App;
use crate::config::Config;
use crate::listeners::Listeners;
use crate::{descriptors, memory};

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
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the settings and exit
    #[arg(long)]
    check_config: bool,
    /// Print the settings in force and exit
    #[arg(long)]
    print_config: bool,
    /// Print every limit on users, numbers and networks, with its reason, and exit
    #[arg(long)]
    print_limits: bool,
}

/// Runs the process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match load(&arguments) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("spillway: {error:#}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
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
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("spillway: no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit = runtime.block_on(serve(config));
    // What the drain could not end in its time is not waited for.
    runtime.shutdown_background();
    match exit {
        Ok(Exit::Fatal(reason)) => {
            eprintln!("spillway: stopped: {reason}");
            ExitCode::FAILURE
        }
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            eprintln!("spillway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn load(arguments: &Arguments) -> Result<Config> {
    let environment = settings::process_environment();
    let file = arguments.config.clone().or_else(|| std::env::var_os("SPILLWAY_CONFIG").map(PathBuf::from));
    let config: Config = settings::load(file.as_deref(), environment, "SPILLWAY")?;
    config.check()?;
    Ok(config)
}

async fn serve(config: Config) -> Result<Exit> {
    let log_level = telemetry::init(&config.telemetry)?;
    let stop = StopSignals::of_process().context("cannot listen for signals")?;
    // Before anything takes long: a hang-up would otherwise end the process.
    let hangups = Hangups::of_process().context("cannot listen for signals")?;
    let descriptors = descriptors::raise_limit();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), descriptors, "starting");
    let listeners = Listeners::bind(&config).await?;
    let app = App::build(config, listeners, Arc::new(SystemClock), log_level, hangups).await?;
    // Scripts wait for this line; a closed standard output must not end the service.
    println!("{}", app.addresses());
    Ok(app.run(stop).await)
}
