//! The life of a process that serves.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use spillway_chassis::signals::{Hangups, StopSignals};
use spillway_chassis::traces::Attributes;
use spillway_chassis::{Exit, telemetry};
use spillway_types::SystemClock;

use crate::app::{App, ReadConfig};
use crate::config::Config;
use crate::descriptors;
use crate::listeners::{Listeners, SandboxCodes};

pub(super) async fn run(config: Config, codes: SandboxCodes, read_config: ReadConfig) -> Result<Exit> {
    let log_level = telemetry::init(&config.telemetry, attributes(&config))?;
    let mut stop = StopSignals::of_process().context("cannot listen for signals")?;
    // Before anything takes long: a hang-up would otherwise end the process.
    let hangups = Hangups::of_process().context("cannot listen for signals")?;
    let descriptors = descriptors::raise_limit();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), roles = %config.roles, descriptors, "starting");
    let listeners = Listeners::bind(&config, codes).await?;
    let building = App::build(config, listeners, Arc::new(SystemClock), log_level, hangups, read_config);
    let app = tokio::select! {
        app = building => app?,
        // It waits for a back end, perhaps for long, and nobody has been served yet.
        _ = stop.recv() => return Ok(Exit::Drained { overran: Vec::new() }),
    };
    // Scripts wait for this line; a closed standard output must not end the service.
    println!("{}", app.addresses());
    Ok(app.run(stop).await)
}

fn attributes(config: &Config) -> Attributes {
    Attributes { version: env!("CARGO_PKG_VERSION"), instance: config.node_name() }
}

pub(super) fn exit_code(exit: Exit) -> ExitCode {
    if let Exit::Fatal(reason) = &exit {
        eprintln!("spillway: stopped: {reason}");
        return ExitCode::FAILURE;
    }
    ExitCode::from(exit.code())
}
