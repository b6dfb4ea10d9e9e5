//! Whether a link is up, for readiness and for those who wait.

use std::error::Error;
use std::fmt::{self, Write};
use std::sync::Arc;

use tokio::sync::watch;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    Connected,
    Disconnected {
        /// For a person: the last error, or that there has been no try yet.
        why: Arc<str>,
    },
}

/// One of the bus's connections.
#[derive(Clone, Debug)]
pub struct LinkWatch {
    /// Such as `hints in, cell 0`.
    pub name: String,
    pub state: watch::Receiver<LinkState>,
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected to NATS"),
            Self::Disconnected { why } => write!(f, "not connected to NATS: {why}"),
        }
    }
}

impl LinkState {
    pub fn is_connected(&self) -> bool {
        *self == Self::Connected
    }

    pub(super) fn initial() -> Self {
        Self::Disconnected { why: "not connected yet".into() }
    }

    /// With the sources of the error, because that is where the server's words are.
    pub(super) fn because(address: &str, error: &dyn Error) -> Self {
        let mut why = format!("{address}: {error}");
        let mut source = error.source();
        while let Some(error) = source {
            write!(why, ": {error}").expect("a string grows");
            source = error.source();
        }
        Self::Disconnected { why: why.into() }
    }
}
