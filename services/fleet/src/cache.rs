//! Where the servers come from: `nats-server` built by Go, Cassandra's jars copied by Maven, each once, into a folder
//! that runs side by side share.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{cassandra, java, nats};

/// Servers that were obtained, or will be.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("the back ends cannot be obtained or run:\n{}", problems.join("\n"))]
    Preflight { problems: Vec<String> },
    #[error("{what} could not be obtained ({status}); the end of {}:\n{tail}", log.display())]
    Tool { what: String, status: String, log: PathBuf, tail: String },
    #[error("cannot read or write {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Cache {
    /// A folder, made when something is put into it.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder that `SPILLWAY_TEST_BACKENDS` names, or `backends` in the target folder.
    pub fn of_environment(target: &Path) -> Self {
        let named = std::env::var_os("SPILLWAY_TEST_BACKENDS").filter(|folder| !folder.is_empty());
        Self::at(named.map_or_else(|| target.join("backends"), PathBuf::from))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn nats_server(&self) -> PathBuf {
        self.folder.join(format!("nats-server-{}", nats::VERSION))
    }

    /// The folder of the jars.
    pub fn cassandra(&self) -> PathBuf {
        self.folder.join(format!("cassandra-{}", cassandra::VERSION))
    }

    fn has_nats(&self) -> bool {
        self.nats_server().exists()
    }

    fn has_cassandra(&self) -> bool {
        self.cassandra().join(format!("cassandra-all-{}.jar", cassandra::VERSION)).exists()
    }

    /// Looks whether what is asked for can be obtained and run on this machine, in a moment. A tool is not needed for
    /// what is here already.
    ///
    /// # Errors
    ///
    /// Names every tool that is missing or does not fit, and what to do about it.
    pub fn preflight(&self, nats: bool, cassandra: bool) -> Result<(), FetchError> {
        let mut problems = Vec::new();
        if nats && !self.has_nats() && !runs("go", "version") {
            problems.push(format!(
                "- `go` is missing; it builds nats-server {}, once. Install Go (https://go.dev/dl, or your system's \
                 package `golang`). For tests, SPILLWAY_TEST_NATS may name a server with JetStream instead",
                nats::VERSION
            ));
        }
        if cassandra {
            problems.extend(java_problem());
            if !self.has_cassandra() && !runs("mvn", "--version") {
                problems.push(format!(
                    "- `mvn` is missing; it fetches Cassandra {}, once. Install Apache Maven (your system's package \
                     `maven`). For tests, SPILLWAY_TEST_CQL may name the nodes of a cluster instead",
                    cassandra::VERSION
                ));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(FetchError::Preflight { problems }) }
    }

    /// Builds `nats-server` unless it is here. Blocks for some seconds, or a minute the first time.
    ///
    /// # Errors
    ///
    /// When Go fails, with the end of what it wrote.
    pub fn fetch_nats(&self) -> Result<PathBuf, FetchError> {
        let server = self.nats_server();
        self.once(
            &server,
            || self.has_nats(),
            |part, log| {
                let module = format!("{}@v{}", nats::MODULE, nats::VERSION);
                let mut go = Command::new("go");
                go.args(["install", &module]).env("GOBIN", part);
                run_tool("nats-server", &mut go, log)?;
                fs::rename(part.join("nats-server"), &server).map_err(file_error(&server))
            },
        )?;
        Ok(server)
    }

    /// Copies the jars of Cassandra unless they are here. Blocks for some seconds, or a minute the first time.
    ///
    /// # Errors
    ///
    /// When Maven fails, with the end of what it wrote.
    pub fn fetch_cassandra(&self) -> Result<PathBuf, FetchError> {
        let jars = self.cassandra();
        self.once(
            &jars,
            || self.has_cassandra(),
            |part, log| {
                let pom = part.join("pom.xml");
                let copied = part.join("jars");
                fs::write(&pom, cassandra::POM).map_err(file_error(&pom))?;
                let mut maven = Command::new("mvn");
                maven.args(["--quiet", "--batch-mode", "--file"]).arg(&pom);
                maven.arg("org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies");
                maven.args(["-Dstyle.color=never", "-DincludeScope=runtime"]);
                maven.arg(format!("-DoutputDirectory={}", copied.display()));
                run_tool("Cassandra", &mut maven, log)?;
                fs::rename(&copied, &jars).map_err(file_error(&jars))
            },
        )?;
        Ok(jars)
    }

    /// Makes `wanted` in a folder of its own and under a lock, so that nobody sees half of it or makes it twice.
    fn once(
        &self,
        wanted: &Path,
        is_here: impl Fn() -> bool,
        make: impl FnOnce(&Path, &Path) -> Result<(), FetchError>,
    ) -> Result<(), FetchError> {
        if is_here() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder).map_err(file_error(&self.folder))?;
        let beside = |ending: &str| {
            let mut name = wanted.file_name().unwrap_or_default().to_owned();
            name.push(ending);
            // Go and Maven run elsewhere and want whole paths.
            std::path::absolute(wanted.with_file_name(name))
        };
        let lock = beside(".lock").map_err(file_error(wanted))?;
        let part = beside(".part").map_err(file_error(wanted))?;
        let log = beside(".log").map_err(file_error(wanted))?;
        let locked = File::create(&lock).map_err(file_error(&lock))?;
        locked.lock().map_err(file_error(&lock))?;
        if is_here() {
            return Ok(());
        }
        // What somebody left who was interrupted.
        fs::remove_dir_all(&part).ok();
        fs::create_dir_all(&part).map_err(file_error(&part))?;
        make(&part, &log)?;
        fs::remove_dir_all(&part).map_err(file_error(&part))
    }
}

/// Whether a program can be run at all.
pub(crate) fn runs(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn java_problem() -> Option<String> {
    let advice = "Install a Java 17 (your system's package `openjdk-17-jre-headless` or similar) and let JAVA_HOME \
                  name its folder. For tests, SPILLWAY_TEST_CQL may name the nodes of a cluster instead";
    let java = java::program();
    let Ok(output) = Command::new(&java).arg("-version").output() else {
        return Some(format!("- `java` is missing; Cassandra runs on it. {advice}"));
    };
    let text = String::from_utf8_lossy(&output.stderr);
    match java::version(&text) {
        Some(version) if java::SUPPORTED.contains(&version) => None,
        Some(version) => Some(format!(
            "- `{}` is version {version}; Cassandra {} runs on {} to {} only. {advice}",
            java.display(),
            cassandra::VERSION,
            java::SUPPORTED.start(),
            java::SUPPORTED.end()
        )),
        None => Some(format!("- `{}` does not tell its version. {advice}", java.display())),
    }
}

fn run_tool(what: &str, command: &mut Command, log: &Path) -> Result<(), FetchError> {
    let out = File::create(log).map_err(file_error(log))?;
    let out_too = out.try_clone().map_err(file_error(log))?;
    let status = command.stdin(Stdio::null()).stdout(out).stderr(out_too).status();
    let status = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Err(FetchError::Tool { what: what.to_owned(), status, log: log.to_owned(), tail: tail(log) })
}

/// The last lines of a log, for a person.
pub(crate) fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().rev().take(12).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    move |source| FetchError::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn side_by_side_it_is_made_once_and_leftovers_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let wanted = folder.path().join("thing");
        fs::create_dir_all(folder.path().join("thing.part/half")).unwrap();
        let made = AtomicU32::new(0);
        let make = |part: &Path, _: &Path| {
            assert!(!part.join("half").exists());
            made.fetch_add(1, Ordering::Relaxed);
            fs::write(part.join("thing"), "whole").map_err(file_error(part))?;
            fs::rename(part.join("thing"), &wanted).map_err(file_error(part))
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| cache.once(&wanted, || wanted.exists(), make).unwrap());
            }
        });
        assert_eq!(made.load(Ordering::Relaxed), 1);
        assert!(!folder.path().join("thing.part").exists());
    }
}
