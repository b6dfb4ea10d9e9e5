//! The exit status of the program.

use serde::{Deserialize, Serialize};

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
    /// A gate ended the run.
    Aborted = 4,
    GeneratorOverloaded = 5,
    /// Some of what should have been merged is missing: a run that was killed, or has not ended.
    Partial = 6,
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
            Self::Aborted,
            Self::GeneratorOverloaded,
            Self::Partial,
            Self::Integrity,
            Self::Interrupted,
        ];
        all.into_iter().find(|known| u8::from(*known) == code).ok_or(UnknownExitCode(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feature 13. docs/gates.md has the same.
    #[test]
    fn each_status_is_what_scripts_were_promised() {
        let promised = [
            (0, ExitCode::Pass),
            (1, ExitCode::Usage),
            (2, ExitCode::Unreachable),
            (3, ExitCode::ObjectiveMissed),
            (4, ExitCode::Aborted),
            (5, ExitCode::GeneratorOverloaded),
            (6, ExitCode::Partial),
            (7, ExitCode::Integrity),
            (130, ExitCode::Interrupted),
        ];
        let page = include_str!("../../docs/gates.md");
        for (number, code) in promised {
            assert_eq!(u8::from(code), number);
            assert_eq!(ExitCode::try_from(number), Ok(code));
            assert!(page.contains(&format!("| {number} | ")), "{number} is not in docs/gates.md");
        }
        assert!(ExitCode::try_from(8).is_err());
    }
}
