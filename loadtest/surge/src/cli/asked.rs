//! Gates and faults of a run.

use std::path::PathBuf;

use clap::Args;

use crate::faults::{Fault, FaultError};
use crate::gates::{GateFile, GateFileError, ParseError, Rule};
use crate::observe::Source;

/// What must hold, and what is done to the service meanwhile.
#[derive(Clone, Debug, Default, Args)]
pub struct AskedOptions {
    /// File with gates, and faults: see loadtest/surge/docs/gates.md
    #[arg(long, value_name = "FILE")]
    pub gates: Option<PathBuf>,
    /// Gate, such as 'send.response.p99 < 250ms any 10s after warmup abort'; may be repeated
    #[arg(long = "gate", value_name = "CHECK")]
    pub gate: Vec<String>,
    /// Something done to the service at a time of the measured part, such as '30s run "kill -9 $SURGE_SERVER_PID"'; may be repeated
    #[arg(long, value_name = "WHEN run COMMAND")]
    pub at: Vec<String>,
    /// Where the cost of the service is read beside --server-pid: pid:1234, cgroup:/sys/fs/cgroup/x or http://127.0.0.1:9464/metrics; may be repeated
    #[arg(long, value_name = "SOURCE")]
    pub observe: Vec<Source>,
}

#[derive(Debug, thiserror::Error)]
pub enum AskedError {
    #[error(transparent)]
    File(#[from] GateFileError),
    #[error("--gate is not understood")]
    Gate(#[from] ParseError),
    #[error("--at is not understood")]
    Fault(#[from] FaultError),
}

impl AskedOptions {
    /// All of it, before anything runs.
    ///
    /// # Errors
    ///
    /// When something is not understood.
    pub fn read(&self) -> Result<GateFile, AskedError> {
        let mut all = match &self.gates {
            Some(path) => GateFile::read(path)?,
            None => GateFile { defaults: true, ..GateFile::default() },
        };
        for check in &self.gate {
            all.rules.push(Rule::parse(check)?);
        }
        for fault in &self.at {
            all.faults.push(Fault::parse(fault)?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_once() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("gates.toml");
        std::fs::write(&file, "gate = 1").unwrap();
        let gate = AskedOptions { gate: vec!["send.respons.p99 < 1s".to_owned()], ..AskedOptions::default() };
        let at = AskedOptions { at: vec!["30x run \"true\"".to_owned()], ..AskedOptions::default() };
        let gates = AskedOptions { gates: Some(file), ..AskedOptions::default() };
        for (asked, wrong) in [(gate, "no figure `respons`"), (at, "`30x`"), (gates, "TOML parse error")] {
            let said = format!("{:#}", anyhow::Error::new(asked.read().unwrap_err()));
            assert_eq!(said.matches(wrong).count(), 1, "{said}");
        }
    }
}
