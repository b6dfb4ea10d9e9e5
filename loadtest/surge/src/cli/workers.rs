//! Options of runs that several workers play, and `surge worker`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// Who plays a run.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct WorkersOptions {
    /// Have that many workers play it, which are started as `surge worker`, on any machine (loadtest/surge/docs/workers.md)
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=256), conflicts_with = "local_workers")]
    pub workers: Option<u32>,
    /// The same with that many worker processes on this machine, which are started for the run
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub local_workers: Option<u32>,
    /// NATS server over which workers are told what to do. Never the bus of the service under test. Without it, local workers get one of their own. The
    /// password of a user in it (nats://USER@HOST:PORT) may be in NATS_PASSWORD instead of here, a token in NATS_TOKEN
    #[arg(long, value_name = "nats://HOST:PORT,…", value_delimiter = ',')]
    pub nats: Vec<String>,
    /// Credentials for it, as nsc writes them; also in NATS_CREDS
    #[arg(long, value_name = "FILE", requires = "nats")]
    pub nats_creds: Option<PathBuf>,
    /// Name by which workers find the run. Default: drawn, and shown
    #[arg(long, value_name = "NAME")]
    pub run: Option<String>,
    /// What becomes of the run when a worker is not heard of any more
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    pub lost_worker: LostWorker,
    /// After that long a worker counts as lost
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = super::load::time)]
    pub lost_after: Duration,
}

impl Default for WorkersOptions {
    fn default() -> Self {
        Self {
            workers: None,
            local_workers: None,
            nats: Vec::new(),
            nats_creds: None,
            run: None,
            lost_worker: LostWorker::default(),
            lost_after: Duration::from_secs(5),
        }
    }
}

impl WorkersOptions {
    /// `None`: this process plays everything itself.
    pub fn count(&self) -> Option<u32> {
        self.workers.or(self.local_workers)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LostWorker {
    /// The run ends, with status 6
    #[default]
    Fail,
    /// The others offer what it would have offered from then on
    Redistribute,
    /// The run goes on with less load
    Continue,
}

/// What a worker is told.
#[derive(Clone, Debug, Args)]
pub struct WorkerOptions {
    /// NATS server over which the coordinator is heard. The password of a user in it (nats://USER@HOST:PORT) may be in NATS_PASSWORD instead of here,
    /// a token in NATS_TOKEN
    #[arg(long, value_name = "nats://HOST:PORT,…", value_delimiter = ',', required = true)]
    pub nats: Vec<String>,
    /// Credentials for it, as nsc writes them; also in NATS_CREDS
    #[arg(long, value_name = "FILE")]
    pub nats_creds: Option<PathBuf>,
    /// Name of the run, as the coordinator has it
    #[arg(long, value_name = "NAME")]
    pub run: String,
    /// Where the worker's folder goes
    #[arg(long, value_name = "FOLDER", default_value = "target/surge")]
    pub out: PathBuf,
}
