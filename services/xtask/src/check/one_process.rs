//! One process of Spillway with all roles, as what a check looks at.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use spillway_fleet::process::Launch;
use spillway_fleet::{Process, Signal, http_get};

use super::{eventually, free_ports};

const READY_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(90);

/// Ended when it is dropped.
#[derive(Debug)]
pub(super) struct OneProcess {
    launch: Launch,
    settings: PathBuf,
    process: Process,
    pub(super) public: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) codes: SocketAddr,
    pub(super) scaler: SocketAddr,
}

impl OneProcess {
    /// All that it keeps is in the folder; `settings` are those beside its folder and its addresses.
    pub(super) async fn start(spillway: &Path, folder: &Path, settings: &str) -> Result<Self> {
        let [public, admin, codes, scaler] =
            free_ports()?.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let file = folder.join("spillway.toml");
        let text = format!(
            "node.data = {:?}\nlisten.public = \"{public}\"\nlisten.sandbox_codes = \"{codes}\"\nadmin.listen = \"{admin}\"\n\
             control.scaler.listen = \"{scaler}\"\n{settings}",
            folder.join("data")
        );
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        let launch = Launch {
            program: spillway.to_owned(),
            arguments: vec!["--config".to_owned(), file.display().to_string()],
            environment: BTreeMap::new(),
            marker: file.display().to_string(),
            log: folder.join("spillway.log"),
            record: folder.join("spillway.json"),
            locked_memory_bytes_max: None,
        };
        let process = Process::start(&launch)?;
        let one = Self { launch, settings: file, process, public, admin, codes, scaler };
        one.until_ready().await?;
        Ok(one)
    }

    /// With other settings than before, as after an operator's edit and a restart.
    pub(super) async fn restart(&mut self, change: impl FnOnce(String) -> String) -> Result<()> {
        self.process.stop(STOP_MAX).await?;
        let text = fs::read_to_string(&self.settings)?;
        fs::write(&self.settings, change(text))?;
        self.start_again().await
    }

    /// On what it had on its disk.
    pub(super) async fn start_again(&mut self) -> Result<()> {
        self.process = Process::start(&self.launch)?;
        self.until_ready().await
    }

    /// `kill -9`.
    pub(super) async fn kill(&mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    pub(super) async fn freeze(&mut self) -> Result<()> {
        Ok(self.process.freeze().await?)
    }

    pub(super) fn thaw(&mut self) -> Result<()> {
        Ok(self.process.signal(Signal::CONT)?)
    }

    pub(super) async fn stop(&mut self) -> Result<()> {
        self.process.stop(STOP_MAX).await?;
        Ok(())
    }

    pub(super) fn folder(&self) -> &Path {
        self.settings.parent().unwrap_or(&self.settings)
    }

    async fn until_ready(&self) -> Result<()> {
        eventually("Spillway is ready", READY_MAX, async || {
            Ok(http_get(self.admin, "/health/ready").await?.0 == 200)
        })
        .await
        .with_context(|| format!("see {}", self.launch.log.display()))
    }
}
