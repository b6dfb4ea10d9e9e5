//! One process of a fleet that may have to wait, or to end.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::super::desk::logs;
use super::super::support::{PATIENCE, binary, eventually, get};
use super::site::Site;

/// Killed when dropped.
pub(crate) struct Member {
    process: Child,
    admin: String,
    log: PathBuf,
}

impl Member {
    /// Starts a process and does not wait until it serves. `settings` win over those of the site.
    pub(crate) fn start(site: &Site, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let admin = free_address();
        let log = logs().join(format!("{}.log", site.name));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(binary());
        command.args(arguments).env("SPILLWAY_ADMIN__LISTEN", &admin);
        for port in ["LISTEN__PUBLIC", "LISTEN__SANDBOX_CODES"] {
            command.env(format!("SPILLWAY_{port}"), "127.0.0.1:0");
        }
        for (key, value) in site.settings() {
            command.env(format!("SPILLWAY_{key}"), value);
        }
        for (key, value) in settings {
            command.env(format!("SPILLWAY_{key}"), value);
        }
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).kill_on_drop(true);
        Self { process: command.spawn().unwrap(), admin, log }
    }

    /// The status and the body of its readiness; none while it has no admin port.
    async fn readiness(&self) -> Option<(u16, String)> {
        TcpStream::connect(&self.admin).await.ok()?;
        Some(get(&format!("http://{}", self.admin), "/health/ready").await)
    }

    pub(crate) async fn until_ready(&self) {
        eventually("it is ready", || async {
            self.readiness().await.is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// Waits until it says that it is not ready and one component gives a reason with all of these words.
    pub(crate) async fn until_it_says(&self, component: &str, words: &[&str]) {
        let what = format!("{component} says {words:?}, see {}", self.log.display());
        eventually(&what, || async {
            let Some((503, body)) = self.readiness().await else { return false };
            let report: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(report["live"], true, "it waits and does not fail");
            let reason = report["components"][component]["reason"].as_str().unwrap_or_default();
            words.iter().all(|word| reason.contains(word))
        })
        .await;
    }

    /// SIGTERM, and how it ended then.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        let pid = self.process.id().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        self.end().await
    }

    pub(crate) async fn end(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.process.wait()).await.expect("it does not end").unwrap()
    }
}

/// Free a moment ago, and not in the range from which the kernel takes ports for connections.
pub(crate) fn free_address() -> String {
    loop {
        let address = format!("127.0.0.1:{}", rand::random_range(10_000..18_000));
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}
