//! Workers on this machine, and a NATS server for them: the same processes that would run elsewhere. They end with the run, whatever ends it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spillway_fleet::Cache;
use spillway_fleet::process::{Launch, Process};
use tokio::time::{Instant, sleep};

use super::{Login, WorkersError};

const STARTS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(30);
/// Lines of a log for a person.
const TAIL: usize = 8;

/// A nats-server of the run's own. Ends when dropped.
#[derive(Debug)]
pub(crate) struct OwnNats {
    pub(crate) address: String,
    _process: Process,
}

/// Processes that play a part each. They end when dropped.
#[derive(Debug)]
pub(crate) struct LocalWorkers {
    processes: Vec<(Process, PathBuf)>,
}

impl OwnNats {
    /// Starts the server that PATH has, or the one that `cargo xtask fleet` uses, which Go builds once.
    ///
    /// # Errors
    ///
    /// When there is none and Go cannot build it, or it does not start.
    pub(crate) async fn start(folder: &Path) -> Result<Self, WorkersError> {
        let program = match on_path("nats-server") {
            Some(program) => program,
            None => built().await?,
        };
        let folder = folder.join("nats");
        fs::create_dir_all(&folder).map_err(WorkersError::ServerFiles)?;
        let folder = folder.canonicalize().map_err(WorkersError::ServerFiles)?;
        let marker = folder.display().to_string();
        let log = folder.join("nats.log");
        // A free port, told in a file; no JetStream, because every worker keeps what it says in its own folder.
        let arguments = ["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir", &marker];
        let process = Process::start(&Launch {
            program,
            arguments: arguments.map(str::to_owned).to_vec(),
            environment: BTreeMap::new(),
            marker: marker.clone(),
            log: log.clone(),
            record: folder.join("process.json"),
            locked_memory_bytes_max: None,
        })?;
        let until = Instant::now() + STARTS_WITHIN;
        loop {
            if let Some(address) = address_in(&folder) {
                return Ok(Self { address, _process: process });
            }
            if Instant::now() >= until {
                return Err(WorkersError::ServerStart { log: log.display().to_string() });
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

impl LocalWorkers {
    /// Starts `count` workers for a run; each has a folder and a log in `folder`.
    ///
    /// # Errors
    ///
    /// When this program cannot be started again.
    pub(crate) fn start(count: u32, run: &str, login: &Login, folder: &Path) -> Result<Self, WorkersError> {
        let program = std::env::current_exe().map_err(WorkersError::ServerFiles)?;
        let folder = folder.join("workers");
        fs::create_dir_all(&folder).map_err(WorkersError::ServerFiles)?;
        let folder = folder.canonicalize().map_err(WorkersError::ServerFiles)?;
        let mut processes = Vec::new();
        for number in 1..=count {
            // Of its own, so that its command line is like no other's.
            let out = folder.join(number.to_string()).display().to_string();
            let log = folder.join(format!("{number}.log"));
            let mut arguments = ["worker", "--run", run, "--out", &out].map(str::to_owned).to_vec();
            let (of_login, environment) = login.for_child();
            arguments.extend(of_login);
            let process = Process::start(&Launch {
                program: program.clone(),
                arguments,
                environment: environment.into_iter().collect(),
                marker: out,
                log: log.clone(),
                record: folder.join(format!("{number}.json")),
                locked_memory_bytes_max: None,
            })?;
            processes.push((process, log));
        }
        Ok(Self { processes })
    }

    /// Whether all of them run.
    ///
    /// # Errors
    ///
    /// When one has ended, with the end of its log.
    pub(crate) fn check(&mut self) -> Result<(), WorkersError> {
        for (number, (process, log)) in (1..).zip(&mut self.processes) {
            if !process.runs() {
                return Err(WorkersError::LocalEnded { number, tail: tail(log) });
            }
        }
        Ok(())
    }

    /// Waits until they have ended by themselves, for at most so long.
    pub(crate) async fn end(mut self, within: Duration) {
        let until = Instant::now() + within;
        while Instant::now() < until && self.processes.iter_mut().any(|(process, _)| process.runs()) {
            sleep(LOOK_EVERY).await;
        }
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

async fn built() -> Result<PathBuf, WorkersError> {
    let cache = Cache::of_environment(Path::new("target"));
    let made = tokio::task::spawn_blocking(move || {
        cache.preflight(true, false)?;
        cache.fetch_nats()
    });
    match made.await {
        Ok(made) => made.map_err(WorkersError::NoServer),
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}

/// The file may be half written.
fn address_in(folder: &Path) -> Option<String> {
    let mut files = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let file = files.find(|path| path.extension().is_some_and(|ending| ending == "ports"))?;
    let ports: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    Some(ports.get("nats")?.get(0)?.as_str()?.to_owned())
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(TAIL).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
