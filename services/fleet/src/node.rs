//! One member of a fleet: how it is started, how one sees that it serves, and the process if it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::cache::tail;
use crate::probe;
use crate::process::{Ended, Launch, Process, ProcessError, Signal};
use crate::roles::Role;

const POLL: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    Nats,
    Cassandra,
    Role(Role),
}

/// What `fleet.json` keeps of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// Such as `mailbox-2`.
    pub name: String,
    pub kind: NodeKind,
    pub launch: Launch,
    pub probe: Probe,
    /// Where it listens, by purpose: `public`, `admin`, `codes`, `nats`, `monitor`, `cql`.
    pub endpoints: BTreeMap<String, SocketAddr>,
    /// How long a start may take.
    pub ready_max_s: u64,
    /// How long an end may take before it is killed.
    pub stop_max_s: u64,
}

/// The question that a member answers when it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Answers 200.
    Http { address: SocketAddr, path: String },
    /// Answers OPTIONS.
    Cql(SocketAddr),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// It runs; why it does not serve.
    NotReady(String),
    NotRunning,
}

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("{name} cannot be started or stopped")]
    Process {
        name: String,
        #[source]
        source: ProcessError,
    },
    #[error("{name} cannot start: another process serves at its address {address}")]
    Taken { name: String, address: SocketAddr },
    #[error("{name} ended before it served; the end of {log}:\n{tail}")]
    Ended { name: String, log: String, tail: String },
    #[error("{name} does not serve after {seconds} s ({last}); the end of {log}:\n{tail}")]
    Slow { name: String, seconds: u64, last: String, log: String, tail: String },
}

/// A member of a fleet. Dropping it kills the process that it started, unless the fleet was detached.
#[derive(Debug)]
pub struct Node {
    plan: NodePlan,
    process: Option<Process>,
}

impl Node {
    /// Finds the process if it runs.
    pub(crate) fn attach(plan: NodePlan) -> Result<Self, NodeError> {
        let process = Process::find(&plan.launch.record)
            .map_err(|source| NodeError::Process { name: plan.name.clone(), source })?;
        Ok(Self { plan, process })
    }

    pub fn name(&self) -> &str {
        &self.plan.name
    }

    pub fn kind(&self) -> NodeKind {
        self.plan.kind
    }

    pub fn plan(&self) -> &NodePlan {
        &self.plan
    }

    pub fn log(&self) -> &Path {
        &self.plan.launch.log
    }

    pub fn endpoint(&self, purpose: &str) -> Option<SocketAddr> {
        self.plan.endpoints.get(purpose).copied()
    }

    /// Of the last process that ran, if it was started or found here.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::runs)
    }

    /// The status with which the process that was started here ended, unless a signal ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.process.as_mut()?.exit_code()
    }

    pub fn resident_bytes(&self) -> Option<u64> {
        self.process.as_ref().and_then(Process::resident_bytes)
    }

    /// Starts the process, on the data of the last one, and waits until it serves. Does nothing when it runs.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends early, or does not serve in its time. It is left running in that case.
    pub async fn start(&mut self) -> Result<(), NodeError> {
        self.launch().await?;
        self.wait_ready().await
    }

    /// Starts the process and does not wait until it serves. Does nothing when it runs.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or something else answers at its address.
    pub async fn launch(&mut self) -> Result<(), NodeError> {
        if self.runs() {
            return Ok(());
        }
        if let Some(address) = self.plan.probe.taken().await {
            return Err(NodeError::Taken { name: self.plan.name.clone(), address });
        }
        // Before the next one is there: letting go of the last one removes the record, which they share.
        self.process = None;
        let process = Process::start(&self.plan.launch).map_err(|source| self.failed(source))?;
        self.process = Some(process);
        Ok(())
    }

    /// # Errors
    ///
    /// When it ends before, or does not serve within the time of its plan; with what it said last.
    pub async fn wait_ready(&mut self) -> Result<(), NodeError> {
        let seconds = self.plan.ready_max_s;
        let until = Instant::now() + Duration::from_secs(seconds);
        let (name, log) = (self.plan.name.clone(), self.log().display().to_string());
        loop {
            let readiness = self.readiness().await;
            match readiness {
                Readiness::Ready => return Ok(()),
                Readiness::NotRunning => {
                    return Err(NodeError::Ended { name, log, tail: tail(self.log()) });
                }
                Readiness::NotReady(last) if Instant::now() >= until => {
                    return Err(NodeError::Slow { name, seconds, last, log, tail: tail(self.log()) });
                }
                Readiness::NotReady(_) => sleep(POLL).await,
            }
        }
    }

    /// Whether it serves now, and why not. A frozen process takes two seconds to be noticed.
    pub async fn readiness(&mut self) -> Readiness {
        if !self.runs() {
            return Readiness::NotRunning;
        }
        self.plan.probe.ask().await
    }

    /// # Errors
    ///
    /// When the process is somebody else's. None when it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<(), NodeError> {
        let sent = self.process.as_mut().map_or(Ok(()), |process| process.signal(signal));
        sent.map_err(|source| self.failed(source))
    }

    /// SIGSTOP: it is there, holds its connections, and does nothing.
    ///
    /// # Errors
    ///
    /// When it cannot be signalled, or has a thread that hangs in the kernel.
    pub async fn freeze(&mut self) -> Result<(), NodeError> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let outcome = process.freeze().await;
        outcome.map_err(|source| self.failed(source))
    }

    /// SIGCONT.
    ///
    /// # Errors
    ///
    /// As for [`signal`](Self::signal).
    pub fn thaw(&mut self) -> Result<(), NodeError> {
        self.signal(Signal::CONT)
    }

    /// `kill -9`, and waits until it is gone. Its data stays.
    ///
    /// # Errors
    ///
    /// When it cannot be signalled, or hangs in the kernel.
    pub async fn kill(&mut self) -> Result<(), NodeError> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let outcome = process.kill().await;
        outcome.map_err(|source| self.failed(source))
    }

    /// SIGTERM, and `kill -9` after the time of its plan. Its data stays.
    ///
    /// # Errors
    ///
    /// As for [`kill`](Self::kill).
    pub async fn stop(&mut self) -> Result<Ended, NodeError> {
        let bound = Duration::from_secs(self.plan.stop_max_s);
        let Some(process) = &mut self.process else { return Ok(Ended::InTime) };
        let outcome = process.stop(bound).await;
        outcome.map_err(|source| self.failed(source))
    }

    pub(crate) fn detach(&mut self) {
        if let Some(process) = &mut self.process {
            process.detach();
        }
    }

    fn failed(&self, source: ProcessError) -> NodeError {
        NodeError::Process { name: self.plan.name.clone(), source }
    }
}

impl Probe {
    async fn ask(&self) -> Readiness {
        match self {
            Self::Cql(address) => match probe::speaks_cql(*address).await {
                Ok(()) => Readiness::Ready,
                Err(error) => Readiness::NotReady(format!("CQL: {error}")),
            },
            Self::Http { address, path } => match probe::get(*address, path).await {
                Ok((200, _)) => Readiness::Ready,
                Ok((status, body)) => {
                    Readiness::NotReady(reasons(&body).unwrap_or(format!("status {status}")))
                }
                Err(error) => Readiness::NotReady(error.to_string()),
            },
        }
    }

    /// Its address, when somebody serves there.
    async fn taken(&self) -> Option<SocketAddr> {
        let (Self::Cql(address) | Self::Http { address, .. }) = self;
        tokio::net::TcpStream::connect(address).await.is_ok().then_some(*address)
    }
}

/// What is not ready, and why: of a health report of Spillway, or the error that NATS names.
fn reasons(body: &str) -> Option<String> {
    let report: serde_json::Value = serde_json::from_str(body).ok()?;
    if let Some(error) = report.get("error").and_then(|error| error.as_str()) {
        return Some(error.to_owned());
    }
    let components = report.get("components")?.as_object()?.iter();
    let waiting = components.filter(|(_, condition)| condition["state"] != "ready");
    let reasons: Vec<_> = waiting
        .map(|(name, condition)| format!("{name}: {}", condition["reason"].as_str().unwrap_or("not ready")))
        .collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nats => "nats",
            Self::Cassandra => "cassandra",
            Self::Role(role) => role.name(),
        })
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::NotReady(why) => write!(f, "not ready: {why}"),
            Self::NotRunning => f.write_str("not running"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_ready_is_named() {
        let report = r#"{"live":true,"ready":false,"components":{
            "bus":{"state":"ready"},"store":{"state":"starting","reason":"waiting for 127.0.0.1:9042"}}}"#;
        assert_eq!(reasons(report).unwrap(), "store: waiting for 127.0.0.1:9042");
        assert_eq!(reasons(r#"{"status":"unavailable","error":"no leader"}"#).unwrap(), "no leader");
        assert_eq!(reasons("starting"), None);
    }
}
