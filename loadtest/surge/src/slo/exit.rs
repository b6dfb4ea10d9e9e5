//! The exit status of the program.

use serde::{Deserialize, Serialize};

/// 4 and 6 are reserved for an abort by a gate and for a lost worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum ExitCode {
    Pass = 0,
    /// The command line or configuration is wrong; nothing ran.
    Usage = 1,
    /// The target did not answer; nothing ran.
    Unreachable = 2,
    ObjectiveMissed = 3,
    GeneratorOverloaded = 5,
    /// A message was lost, repeated or changed.
    Integrity = 7,
    /// By the user, as a shell reports SIGINT; the report is still written.
    Interrupted = 130,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an exit code of surge")]
pub struct UnknownExitCode(u8);

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> u8 {
        code as u8
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(u8::from(code))
    }
}

impl TryFrom<u8> for ExitCode {
    type Error = UnknownExitCode;

    fn try_from(code: u8) -> Result<Self, UnknownExitCode> {
        let all = [
            Self::Pass,
            Self::Usage,
            Self::Unreachable,
            Self::ObjectiveMissed,
            Self::GeneratorOverloaded,
            Self::Integrity,
            Self::Interrupted,
        ];
        all.into_iter().find(|known| u8::from(*known) == code).ok_or(UnknownExitCode(code))
    }
}
