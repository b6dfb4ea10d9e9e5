//! Why a run of several workers did not take place.

use spillway_fleet::FetchError;
use spillway_fleet::process::ProcessError;

use super::LinkError;
use crate::slo::ExitCode;

#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("--workers needs a NATS server that all of them reach: name it with --nats nats://host:4222")]
    NoNats,
    #[error(
        "there is no nats-server for local workers: name one with --nats nats://host:4222, or install one where PATH finds it \
         (https://github.com/nats-io/nats-server/releases), or Go, which builds one"
    )]
    NoServer(#[source] FetchError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("the nats-server for local workers did not start within 10 s; see {log}")]
    ServerStart { log: String },
    #[error("the nats-server for local workers cannot be prepared")]
    ServerFiles(#[source] std::io::Error),
    #[error(
        "what the service takes cannot be probed by several workers: say how high the sign-ups go, with --peak-rate 200 or --base-rate signup=50/s"
    )]
    Probe,
    #[error(
        "--metrics tells what one process sees, and several play this run: leave it out, the panel has the figures of all of them"
    )]
    Metrics,
    #[error("{0} is not played by several workers")]
    NotShared(&'static str),
    #[error(
        "{workers} workers have {existing} people between them: each needs two to write to each other, so --existing must be {least} or more"
    )]
    FewPeople { workers: usize, existing: u32, least: u32 },
    #[error("worker {number} ({host}) cannot play its part: {reason}")]
    Refused { number: u32, host: String, reason: String },
    #[error(
        "worker {number} ({host}) was not heard of for {silent_s} s while it prepared; see its own output"
    )]
    Gone { number: u32, host: String, silent_s: u64 },
    #[error("local worker {number} ended before the run; the end of its log:\n{tail}")]
    LocalEnded { number: usize, tail: String },
    #[error("the coordinator does not take this worker: {0}")]
    NotTaken(String),
    #[error("the run was called off: {0}")]
    CalledOff(String),
    #[error("the coordinator has not been heard of for {0} s, and the run had not begun")]
    NoCoordinator(u64),
    #[error(
        "the coordinator's command line is not understood here: {0}; do both have the same version of surge?"
    )]
    Arguments(String),
    #[error("the trace {path} is not the coordinator's: copy that file to the same place on this machine")]
    OtherTrace { path: String },
    #[error("interrupted before the run began")]
    Interrupted,
}

impl WorkersError {
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Link(LinkError::Unreachable { .. }) => ExitCode::Unreachable,
            Self::Interrupted => ExitCode::Interrupted,
            _ => ExitCode::Usage,
        }
    }
}
