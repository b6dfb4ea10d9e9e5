//! `cargo xtask bench`: each figure beside a floor measured in the same run.

mod closed_loop;
mod door;
mod fleet;
mod message;
mod node;
mod open_loop;
mod overload;
pub(crate) mod people;
mod sessions;
mod steal;
mod surge;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "spillway-bench", about = "Measures Spillway against floors in the same run")]
struct Arguments {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Debug, clap::Subcommand)]
enum Suite {
    /// One process with the embedded store.
    Node(Options),
    /// A process for each role, over NATS and Cassandra.
    Fleet {
        #[command(flatten)]
        options: Options,
        /// The folder of the back ends' executables; what it lacks is obtained.
        #[arg(long)]
        back_ends: PathBuf,
    },
    /// Fleets and one process that are offered many times what they can do.
    Overload {
        #[command(flatten)]
        options: Options,
        /// The folder of the back ends' executables; what it lacks is obtained.
        #[arg(long)]
        back_ends: PathBuf,
    },
    /// What people who have no account yet cost a gateway.
    Door {
        #[command(flatten)]
        options: Options,
        /// The folder of the back ends' executables; what it lacks is obtained.
        #[arg(long)]
        back_ends: PathBuf,
    },
    /// The load tool itself.
    Surge {
        #[command(flatten)]
        options: Options,
        /// The load tool's executable.
        #[arg(long)]
        surge: PathBuf,
    },
    /// The floor's server; started by the suite.
    #[command(hide = true)]
    Echo,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The service's executable.
    #[arg(long)]
    server: PathBuf,
    /// Where the result goes.
    #[arg(long)]
    out: PathBuf,
    /// Only rows whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// How long each rate is measured, in seconds; the median of three runs counts.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    fn window(&self) -> Duration {
        Duration::from_secs(self.seconds.max(1))
    }
}

/// Size of an envelope's content, in bytes: a short text message after padding.
pub(crate) const ENVELOPE_BYTES: usize = 512;
pub(crate) const CALLERS: usize = 64;
pub(crate) const CONNECTIONS: usize = 8;

/// Runs the suite named on the command line.
///
/// # Errors
///
/// When something could not be measured; a row that misses its target is exit status 1 instead.
pub async fn main() -> Result<ExitCode> {
    match Arguments::parse().suite {
        Suite::Echo => node::echo::serve().await.map(|()| ExitCode::SUCCESS),
        Suite::Node(options) => node::run(&options).await,
        Suite::Door { options, back_ends } => door::run(&options, &back_ends).await,
        Suite::Overload { options, back_ends } => overload::run(&options, &back_ends).await,
        Suite::Surge { options, surge } => surge::run(&options, &surge).await,
        Suite::Fleet { options, back_ends } => fleet::run(&options, &back_ends).await,
    }
}
