//! One process of this machine: started here, or found again by the record that its start left.
//!
//! A record is a pid together with the time at which the kernel started it and an argument that must stand in its command
//! line. A pid alone is never trusted, because numbers are used again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::lifeline::Lifeline;

pub use rustix::process::Signal;

const POLL: Duration = Duration::from_millis(20);
/// The kernel needs a moment to take a big process apart; longer means that it hangs in the kernel.
const KILL_MAX: Duration = Duration::from_secs(20);

/// How a process is started, and started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// Added to the environment of the owner.
    pub environment: BTreeMap<String, String>,
    /// The argument by which its command line is recognised; a path that nobody else was given.
    pub marker: String,
    /// Standard output and error, appended.
    pub log: PathBuf,
    /// Where the record of the running process is kept.
    pub record: PathBuf,
    /// The most memory that it may lock, in bytes. Only lowers the limit.
    pub locked_memory_bytes_max: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("cannot start {}", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read or write {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot signal process {pid}")]
    Signal {
        pid: u32,
        #[source]
        source: rustix::io::Errno,
    },
    #[error("process {pid} has not stopped {} s after SIGSTOP", KILL_MAX.as_secs())]
    Unstoppable { pid: u32 },
    #[error("process {pid} is still there {} s after SIGKILL", KILL_MAX.as_secs())]
    Unkillable { pid: u32 },
}

/// How a process that was asked to end did so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    InTime,
    /// It was killed after its time.
    Killed,
}

/// A process that ran when this was made. Dropping kills it when it was started here and not [detached](Self::detach).
#[derive(Debug)]
pub struct Process {
    identity: Identity,
    record: PathBuf,
    child: Option<Child>,
    lifeline: Option<Lifeline>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    pid: u32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks since the machine started.
    started_ticks: u64,
    marker: String,
}

impl Process {
    /// Starts a process in a group of its own.
    ///
    /// # Errors
    ///
    /// When the program cannot be run, or the log or the record cannot be written.
    pub fn start(launch: &Launch) -> Result<Self, ProcessError> {
        let log = open_log(&launch.log).map_err(file_error(&launch.log))?;
        let log_twice = log.try_clone().map_err(file_error(&launch.log))?;
        let spawn_error = |source| ProcessError::Spawn { program: launch.program.clone(), source };
        let child = Command::new(&launch.program)
            .args(&launch.arguments)
            .envs(&launch.environment)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_twice)
            .process_group(0)
            .spawn()
            .map_err(spawn_error)?;
        let pid = child.id();
        let started_ticks = Stat::read(pid).map_or(0, |stat| stat.started_ticks);
        let mut process = Self {
            identity: Identity { pid, started_ticks, marker: launch.marker.clone() },
            record: launch.record.clone(),
            child: Some(child),
            lifeline: None,
        };
        process.lifeline = Some(Lifeline::tie(pid).map_err(spawn_error)?);
        if let Some(bytes) = launch.locked_memory_bytes_max {
            limit_locked_memory(pid, bytes);
        }
        write_record(&launch.record, &process.identity).map_err(file_error(&launch.record))?;
        Ok(process)
    }

    /// The process that a record speaks of, if it runs. A record of a process that is gone is removed.
    ///
    /// # Errors
    ///
    /// When the record cannot be read. One that makes no sense counts as none.
    pub fn find(record: &Path) -> Result<Option<Self>, ProcessError> {
        let text = match fs::read(record) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ProcessError::File { path: record.to_owned(), source }),
        };
        let identity = serde_json::from_slice::<Identity>(&text).ok().filter(Identity::runs);
        let Some(identity) = identity else {
            fs::remove_file(record).ok();
            return Ok(None);
        };
        Ok(Some(Self { identity, record: record.to_owned(), child: None, lifeline: None }))
    }

    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    pub fn runs(&mut self) -> bool {
        if let Some(child) = &mut self.child {
            // Takes the exit status, without which the kernel would keep the process as a zombie.
            return matches!(child.try_wait(), Ok(None));
        }
        self.identity.runs()
    }

    /// The status with which it ended. None while it runs, when a signal ended it, or when it was not started here.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.as_mut()?.try_wait().ok()??.code()
    }

    /// Sends a signal, unless the process has ended.
    ///
    /// # Errors
    ///
    /// When the process is somebody else's.
    pub fn signal(&mut self, signal: Signal) -> Result<(), ProcessError> {
        if !self.runs() {
            return Ok(());
        }
        let pid = self.identity.pid;
        let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        match rustix::process::kill_process(target, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(source) => Err(ProcessError::Signal { pid, source }),
        }
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it cannot be signalled, or hangs in the kernel.
    pub async fn kill(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::KILL)?;
        if !self.gone_within(KILL_MAX).await {
            return Err(ProcessError::Unkillable { pid: self.pid() });
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM; a frozen process is woken for it), and kills it when it is still there after `bound`.
    ///
    /// # Errors
    ///
    /// As for [`kill`](Self::kill).
    pub async fn stop(&mut self, bound: Duration) -> Result<Ended, ProcessError> {
        self.signal(Signal::TERM)?;
        self.signal(Signal::CONT)?;
        if self.gone_within(bound).await {
            return Ok(Ended::InTime);
        }
        self.kill().await?;
        Ok(Ended::Killed)
    }

    /// SIGSTOP, and waits until every thread stands still: the signal alone lets some of them answer once more.
    ///
    /// # Errors
    ///
    /// When it cannot be signalled, or has a thread that hangs in the kernel.
    pub async fn freeze(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::STOP)?;
        let until = Instant::now() + KILL_MAX;
        while self.runs() && !stands_still(self.pid()) {
            if Instant::now() >= until {
                return Err(ProcessError::Unstoppable { pid: self.pid() });
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits for its end, and tidies up after it. False when it still runs after `bound`.
    pub async fn gone_within(&mut self, bound: Duration) -> bool {
        let until = Instant::now() + bound;
        while self.runs() {
            if Instant::now() >= until {
                return false;
            }
            sleep(POLL).await;
        }
        self.forget();
        true
    }

    /// Memory that is resident, in bytes; none when the process has ended.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.identity.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    }

    /// Lets it outlive its owner.
    pub fn detach(&mut self) {
        self.child = None;
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.leave();
        }
    }

    fn forget(&mut self) {
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.leave();
        }
        fs::remove_file(&self.record).ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Both fail only when it has ended already.
        child.kill().ok();
        child.wait().ok();
        self.forget();
    }
}

impl Identity {
    fn runs(&self) -> bool {
        let same = Stat::read(self.pid)
            .is_some_and(|stat| stat.started_ticks == self.started_ticks && !matches!(stat.state, 'Z' | 'X'));
        same && has_argument(self.pid, &self.marker)
    }
}

struct Stat {
    state: char,
    started_ticks: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name in field 2 may hold spaces and parentheses, so fields are counted from its last parenthesis.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let started_ticks = fields.nth(18)?.parse().ok()?;
        Some(Self { state, started_ticks })
    }
}

fn stands_still(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    // A thread that ends meanwhile has no file any more.
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats.filter_map(|text| Stat::parse(&text)).all(|stat| stat.state == 'T')
}

/// Also true of an empty line, which a process has while the kernel is still loading its program.
fn has_argument(pid: u32, wanted: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.is_empty() || line.split(|byte| *byte == 0).any(|argument| argument == wanted.as_bytes())
}

fn open_log(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::options().create(true).append(true).open(path)
}

/// Whole or not at all: a reader never sees half of it.
fn write_record(path: &Path, identity: &Identity) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let part = path.with_extension("part");
    fs::write(&part, serde_json::to_vec(identity)?)?;
    fs::rename(part, path)
}

fn limit_locked_memory(pid: u32, bytes: u64) {
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // It fails when the limit is lower already, or the process has ended, which its owner notices anyway.
    rustix::process::prlimit(target, Resource::Memlock, limit).ok();
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> ProcessError {
    move |source| ProcessError::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> Launch {
        Launch {
            program: "sleep".into(),
            arguments: vec!["600.25".into()],
            environment: BTreeMap::new(),
            marker: "600.25".into(),
            log: folder.join("logs/sleeper.log"),
            record: folder.join("run/sleeper.json"),
            locked_memory_bytes_max: None,
        }
    }

    #[test]
    fn names_with_parentheses_do_not_move_the_fields() {
        let text = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.started_ticks), ('S', 98765));
    }

    #[tokio::test]
    async fn a_stranger_with_the_same_pid_is_not_taken_for_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let launch = sleeper(folder.path());
        let mut process = Process::start(&launch).unwrap();
        assert_eq!(Process::find(&launch.record).unwrap().unwrap().pid(), process.pid());

        for stranger in [
            Identity { started_ticks: process.identity.started_ticks + 1, ..process.identity.clone() },
            Identity { marker: "/another/fleet".into(), ..process.identity.clone() },
        ] {
            write_record(&launch.record, &stranger).unwrap();
            assert!(Process::find(&launch.record).unwrap().is_none());
            assert!(!launch.record.exists());
        }
        assert!(process.runs());
        process.kill().await.unwrap();
    }

    #[tokio::test]
    async fn a_frozen_process_ends_when_it_is_asked_to() {
        let folder = tempfile::tempdir().unwrap();
        let launch = sleeper(folder.path());
        let mut process = Process::start(&launch).unwrap();
        process.signal(Signal::STOP).unwrap();
        assert_eq!(process.stop(Duration::from_secs(10)).await.unwrap(), Ended::InTime);
        assert!(!launch.record.exists());
    }

    #[tokio::test]
    async fn dropping_kills_and_detaching_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let launch = sleeper(folder.path());
        drop(Process::start(&launch).unwrap());
        assert!(Process::find(&launch.record).unwrap().is_none());

        let mut process = Process::start(&launch).unwrap();
        process.detach();
        drop(process);
        let mut found = Process::find(&launch.record).unwrap().unwrap();
        assert!(found.runs());
        found.kill().await.unwrap();
    }
}
