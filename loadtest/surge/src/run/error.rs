//! Why a run did not take place.

use std::io;
use std::net::SocketAddr;

use crate::admin::AdminError;
use crate::cli::AskedError;
use crate::codes::CodesError;
use crate::cohorts::MembersError;
use crate::curve::HourlyError;
use crate::observe::ObserveError;
use crate::offer::OfferError;
use crate::peer::{AddressError, NotPlayable, PeerError};
use crate::run_folder::RunFolderError;
use crate::server::ServerError;
use crate::slo::ExitCode;
use crate::target::TargetError;
use crate::workers::WorkersError;

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("no Spillway answers at {0}; is it running, and is that its public address?")]
    Unreachable(String),
    #[error("nobody answers at the admin port {0}: is it `admin.listen` of the service?")]
    NoAdmin(String),
    #[error("interrupted before the load began: nothing was measured")]
    Interrupted,
    #[error("the run is over, and its folder does not have all of it")]
    Unwritten {
        /// What came of the run.
        code: ExitCode,
        #[source]
        source: RunFolderError,
    },
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Codes(#[from] CodesError),
    #[error(transparent)]
    Offer(#[from] OfferError),
    #[error("the curve cannot be replayed")]
    Curve(#[from] HourlyError),
    #[error("the curve cannot be scaled")]
    Scale(#[from] crate::curve::CurveError),
    #[error("only {signed_up} of {wanted} existing users could sign up: {reasons}")]
    People { signed_up: usize, wanted: u32, reasons: String },
    #[error(
        "nobody completed a sign-up during the probe: {reasons}. If the target has a waiting room that lets in few, name the peak with --peak-rate"
    )]
    Probe { reasons: String },
    #[error(
        "the load tool plays the provider of codes in this profile, so it must start the service itself: leave out --target"
    )]
    OwnServerNeeded,
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Asked(#[from] AskedError),
    #[error(transparent)]
    Members(#[from] MembersError),
    #[error(transparent)]
    Peer(#[from] AddressError),
    #[error(transparent)]
    NotPlayable(#[from] NotPlayable),
    #[error("{target} is of no use for this run")]
    NoPeer {
        target: String,
        #[source]
        source: PeerError,
    },
    #[error(
        "the part that was played had other cohorts ({before}) than what --cohorts, or the file with gates, says now ({now}): figures of a cohort would be \
         of different people. Say the first ones again, or begin anew"
    )]
    OtherCohorts { before: String, now: String },
    #[error("--harm compares a run with one without the rude, and nobody is rude: name some with --cohorts")]
    Harmless,
    #[error(transparent)]
    Workers(#[from] WorkersError),
    #[error("cannot listen as a provider of codes")]
    Carrier(#[source] io::Error),
    #[error("cannot listen at {address} for --metrics")]
    Metrics {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(
        "the fault `{0}` asks for SURGE_SERVER_PID, and nobody knows the processes of the target: name them with --server-pid $(pgrep -x spillway)"
    )]
    FaultWithoutPid(String),
    #[error("cannot make answers late")]
    Late(#[source] io::Error),
    #[error("the operating system gives no more threads")]
    Thread(#[source] io::Error),
    #[error("cannot listen for Ctrl-C")]
    Signal(#[source] io::Error),
}

impl RunError {
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Interrupted => ExitCode::Interrupted,
            // Whoever waits for the report must not take the run for a good one.
            Self::Unwritten { code: ExitCode::Pass, .. } => ExitCode::Usage,
            Self::Unwritten { code, .. } => *code,
            Self::Unreachable(_) | Self::NoAdmin(_) | Self::Codes(_) | Self::NoPeer { .. } => {
                ExitCode::Unreachable
            }
            Self::Workers(error) => error.exit_code(),
            _ => ExitCode::Usage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_cannot_be_kept_is_no_good_run_and_keeps_what_was_worse() {
        let unwritten = |code| {
            let source = RunFolderError::Write {
                path: "report.html".into(),
                source: io::ErrorKind::StorageFull.into(),
            };
            RunError::Unwritten { code, source }.exit_code()
        };
        assert_eq!(unwritten(ExitCode::Pass), ExitCode::Usage);
        assert_eq!(unwritten(ExitCode::Integrity), ExitCode::Integrity);
        assert_eq!(RunError::Interrupted.exit_code(), ExitCode::Interrupted);
        assert_eq!(RunError::NoAdmin(String::new()).exit_code(), ExitCode::Unreachable);
    }
}
