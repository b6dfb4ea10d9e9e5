//! A Spillway that runs as a child process, for runs and measurements that need one of their own.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// A service that does not serve after this long is not going to.
const START_MAX: Duration = Duration::from_secs(30);

/// How to start a service.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub binary: PathBuf,
    /// Where it keeps its data. Kept when the process ends.
    pub data: PathBuf,
    /// Where its standard error goes, appended.
    pub log: PathBuf,
    /// Settings as environment variables, such as `SPILLWAY_GATEWAY__...`.
    pub settings: Vec<(String, String)>,
    /// Further arguments.
    pub arguments: Vec<OsString>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot start {}", binary.display())]
    Spawn {
        binary: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {}", path.display())]
    Log {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the service ended before it served ({status}); the end of its log:\n{tail}")]
    Ended { status: String, tail: String },
    #[error("the service did not serve within {} s; see {}", START_MAX.as_secs(), log.display())]
    Slow { log: PathBuf },
    #[error("cannot wait for the service")]
    Wait(#[source] io::Error),
}

/// A running service. Dropping it kills the process.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    pid: u32,
    /// `http://` address of the public API.
    pub public: String,
    /// `http://` address of the admin port.
    pub admin: String,
    /// `http://` address of the sandbox provider's codes.
    pub codes: Option<String>,
    /// `http://` address of the autoscaler's port, where the settings open it.
    pub scaler: Option<String>,
    // Kept open: a closed pipe would fail a later write of the service.
    _stdout: BufReader<ChildStdout>,
}

impl ServerProcess {
    /// Starts a service on free loopback ports and waits until it serves.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends early (with the end of its log), or takes longer than 30 s.
    pub async fn start(options: &ServerOptions) -> Result<Self, ServerError> {
        let log_error = |source| ServerError::Log { path: options.log.clone(), source };
        let log = File::options().create(true).append(true).open(&options.log).map_err(log_error)?;
        let mut child = command(options)
            .stderr(Stdio::from(log))
            .spawn()
            .map_err(|source| ServerError::Spawn { binary: options.binary.clone(), source })?;
        let pid = child.id().unwrap_or_default();
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let mut line = String::new();
        match timeout(START_MAX, stdout.read_line(&mut line)).await {
            Err(_) => return Err(ServerError::Slow { log: options.log.clone() }),
            Ok(Ok(length)) if length > 0 => {}
            Ok(_) => {
                let status = child.wait().await.map_err(ServerError::Wait)?.to_string();
                return Err(ServerError::Ended { status, tail: tail(&options.log) });
            }
        }
        let address = |name| word(&line, name).map(|address| format!("http://{address}"));
        Ok(Self {
            child,
            pid,
            public: address("public").unwrap_or_default(),
            admin: address("admin").unwrap_or_default(),
            codes: address("sandbox_codes"),
            scaler: address("scaler"),
            _stdout: stdout,
        })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// `kill -9`.
    ///
    /// # Errors
    ///
    /// When the process cannot be waited for.
    pub async fn kill(mut self) -> Result<(), ServerError> {
        self.child.kill().await.map_err(ServerError::Wait)
    }

    /// Asks the process to drain and waits until it has ended.
    ///
    /// # Errors
    ///
    /// When it is still there after `bound`; it is killed then.
    pub async fn stop(mut self, bound: Duration) -> Result<ExitStatus, ServerError> {
        self.signal("TERM").await?;
        match timeout(bound, self.child.wait()).await {
            Ok(status) => status.map_err(ServerError::Wait),
            Err(late) => {
                self.child.kill().await.map_err(ServerError::Wait)?;
                Err(ServerError::Wait(late.into()))
            }
        }
    }

    /// Sends a signal by name, such as `TERM`, `STOP` or `HUP`.
    ///
    /// # Errors
    ///
    /// When `kill` cannot be run.
    pub async fn signal(&self, name: &str) -> Result<(), ServerError> {
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}")).arg(self.pid.to_string());
        kill.status().await.map(|_| ()).map_err(ServerError::Wait)
    }

    /// Whether the process has ended, and how.
    ///
    /// # Errors
    ///
    /// When the process cannot be waited for.
    pub async fn wait(&mut self) -> Result<ExitStatus, ServerError> {
        self.child.wait().await.map_err(ServerError::Wait)
    }
}

fn command(options: &ServerOptions) -> Command {
    let mut command = Command::new(&options.binary);
    command
        .env("SPILLWAY_NODE__DATA", &options.data)
        .env("SPILLWAY_LISTEN__PUBLIC", "127.0.0.1:0")
        .env("SPILLWAY_LISTEN__SANDBOX_CODES", "127.0.0.1:0")
        .env("SPILLWAY_ADMIN__LISTEN", "127.0.0.1:0")
        .envs(options.settings.iter().map(|(name, value)| (name, value)))
        .args(&options.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Ctrl-C is for whoever started it, who ends it in time.
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// `word("listening public=127.0.0.1:7700 admin=...", "public")` is `127.0.0.1:7700`.
fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_by_name() {
        let line = "spillway listening public=127.0.0.1:1 admin=127.0.0.1:2\n";
        assert_eq!(word(line, "admin"), Some("127.0.0.1:2"));
        assert_eq!(word(line, "sandbox_codes"), None);
    }
}
