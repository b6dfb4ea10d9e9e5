//! What the driver's errors mean to callers.

use std::sync::Arc;

use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, PrepareError, RequestAttemptError,
};

use super::config::Config;
use crate::{OpenError, StoreError};

/// All places for requests were taken for as long as a request may wait.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too many requests to the database are under way")]
pub(super) struct Busy;

/// Nothing was written, or it is not known whether it was.
pub(super) fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Arc::new(error))
}

/// The database read the request and will not do it, whoever asks.
pub(super) fn is_refused(error: &StoreError) -> bool {
    let StoreError::Unavailable(source) = error else { return false };
    matches!(
        source.downcast_ref(),
        Some(ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Invalid, _)))
    )
}

/// A row is not what the schema says: damage, or a bug.
pub(super) fn corrupt(what: &'static str, problem: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what, problem: problem.to_string() }
}

pub(super) fn connect(config: &Config, error: NewSessionError) -> OpenError {
    let contact_points = config.contact_points.join(", ");
    if let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
        last_connection_error: ConnectionError::ConnectionSetupRequestError(error),
    })) = &error
        && is_about_credentials(error.get_error())
    {
        return OpenError::Credentials { contact_points, username: config.username.clone() };
    }
    OpenError::Unreachable { contact_points, source: Box::new(error) }
}

const fn is_about_credentials(error: &ConnectionSetupRequestErrorKind) -> bool {
    matches!(
        error,
        ConnectionSetupRequestErrorKind::MissingAuthentication
            | ConnectionSetupRequestErrorKind::DbError(
                DbError::AuthenticationError | DbError::Unauthorized,
                _
            )
    )
}

pub(super) fn prepare(cql: &str, error: PrepareError) -> OpenError {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt: RequestAttemptError::DbError(..) } => {
            OpenError::Statement { cql: cql.to_owned(), source: Box::new(error) }
        }
        error => OpenError::NoAnswer { source: Box::new(error) },
    }
}

pub(super) fn no_answer(error: impl std::error::Error + Send + Sync + 'static) -> OpenError {
    OpenError::NoAnswer { source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_database_will_never_do_is_refused() {
        let answer = |error| {
            let message = "Batch too large".to_owned();
            unavailable(ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, message)))
        };
        assert!(is_refused(&answer(DbError::Invalid)));
        assert!(!is_refused(&answer(DbError::Overloaded)));
        assert!(!is_refused(&unavailable(ExecutionError::EmptyPlan)));
        assert!(!is_refused(&unavailable(Busy)));
        assert!(!is_refused(&corrupt("message", "no id")));
    }
}
