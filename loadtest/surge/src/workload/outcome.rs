//! What an answer counts as.

use spillway_api::Fault;
use spillway_client::CallError;
use tonic::Code;

use crate::stats::{Outcome, Timer};

/// Ends a timer with what came of it, and keeps the answer when there is one.
pub(super) fn finish<T>(timer: Timer, result: Result<T, CallError>) -> Option<T> {
    match result {
        Ok(answer) => {
            timer.finish(Outcome::Ok);
            Some(answer)
        }
        Err(error) => {
            timer.finish(of(&error));
            None
        }
    }
}

/// A refusal on purpose (too often, too much to do, not your turn) is told apart from a failure.
pub(crate) fn of(error: &CallError) -> Outcome {
    match error {
        CallError::Refused(refusal) => {
            let reason = refusal.reason.as_str();
            let overload = refusal.reason.code() == Code::ResourceExhausted;
            match refusal.fault() {
                Fault::You | Fault::Queue => Outcome::Refused(reason),
                Fault::We if overload => Outcome::Refused(reason),
                Fault::We | Fault::Provider | Fault::Caller => Outcome::Failed(reason),
            }
        }
        CallError::Transport(status) => Outcome::Failed(code_name(status.code())),
        CallError::HeldBack { .. } => Outcome::Refused("HELD_BACK"),
    }
}

/// A code as it is written in the gRPC specification, in small letters to tell it from Spillway's own reasons.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}
