//! What is watched: one process of Spillway with all roles, or a fleet.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use spillway_fleet::process::Launch;
use spillway_fleet::{Fleet, FleetSpec, Process, Role, Signal, http_get, http_put};

use super::eventually;
use super::prometheus::free_address;
use crate::fleet;

const READY_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(90);

/// Everybody comes from one address here; through the waiting room, where a place costs no work; and with a budget, so that there are figures of it.
const SETTINGS: &str = "quotas.verification_start_network.enabled = false\n\
    quotas.authenticate.enabled = false\n\
    registration.providers = [{ name = \"sandbox\", kind = \"sandbox\", cost = { default = 50_000 } }]\n";
pub(super) const RICH: &str = "registration.budget = { hour = 10_000_000_000, day = 100_000_000_000 }\n";
const GATEWAY_SETTINGS: &str = "gateway.room.required = true\ngateway.room.proof_of_work = false\n";
/// Nothing that costs anything can be bought with it.
pub(super) const POOR: &str = "registration.budget = { hour = 1, day = 1 }\n";

#[derive(Debug)]
pub(super) enum Target {
    One(Box<One>),
    Fleet(Box<Fleet>),
}

/// One process with all roles.
#[derive(Debug)]
pub(super) struct One {
    launch: Launch,
    settings: PathBuf,
    process: Process,
    public: SocketAddr,
    admin: SocketAddr,
    codes: SocketAddr,
}

impl Target {
    pub(super) async fn one_process(spillway: &Path, folder: &Path) -> Result<Self> {
        let (public, admin, codes, scaler) =
            (free_address()?, free_address()?, free_address()?, free_address()?);
        let settings = folder.join("spillway.toml");
        let text = format!(
            "node.data = {:?}\nlisten.public = \"{public}\"\nlisten.sandbox_codes = \"{codes}\"\nadmin.listen = \"{admin}\"\n\
             control.scaler.listen = \"{scaler}\"\n{GATEWAY_SETTINGS}",
            folder.join("data")
        );
        fs::write(&settings, format!("{text}{SETTINGS}{RICH}"))?;
        let launch = Launch {
            program: spillway.to_owned(),
            arguments: vec!["--config".to_owned(), settings.display().to_string()],
            environment: BTreeMap::new(),
            marker: settings.display().to_string(),
            log: folder.join("spillway.log"),
            record: folder.join("spillway.json"),
            locked_memory_bytes_max: None,
        };
        let process = Process::start(&launch)?;
        let one = One { launch, settings, process, public, admin, codes };
        one.until_ready().await?;
        Ok(Self::One(Box::new(one)))
    }

    pub(super) async fn fleet(spillway: &Path, folder: &Path) -> Result<Self> {
        let mut spec = FleetSpec::each(spillway, fleet::cache().folder(), 2, 1, 1);
        spec.settings = toml::from_str(&format!("{SETTINGS}{RICH}"))?;
        spec.role_settings.insert(Role::Gateway, toml::from_str(GATEWAY_SETTINGS)?);
        Ok(Self::Fleet(Box::new(Fleet::start(spec, &folder.join("fleet")).await?)))
    }

    pub(super) fn publics(&self) -> Vec<SocketAddr> {
        match self {
            Self::One(one) => vec![one.public],
            Self::Fleet(fleet) => fleet.public_addresses(),
        }
    }

    pub(super) fn admins(&self) -> Vec<SocketAddr> {
        match self {
            Self::One(one) => vec![one.admin],
            Self::Fleet(fleet) => fleet.admin_addresses(),
        }
    }

    pub(super) fn codes(&self) -> Vec<SocketAddr> {
        match self {
            Self::One(one) => vec![one.codes],
            Self::Fleet(fleet) => fleet.codes_addresses(),
        }
    }

    /// Stops a process without ending it: the only one, or a mailbox worker. Returns its admin port.
    pub(super) async fn freeze(&mut self) -> Result<SocketAddr> {
        match self {
            Self::One(one) => {
                one.process.freeze().await?;
                Ok(one.admin)
            }
            Self::Fleet(fleet) => {
                let node = fleet.node("mailbox-2").context("no mailbox-2")?;
                node.freeze().await?;
                node.endpoint("admin").context("it has no admin port")
            }
        }
    }

    pub(super) fn thaw(&mut self) -> Result<()> {
        match self {
            Self::One(one) => Ok(one.process.signal(Signal::CONT)?),
            Self::Fleet(fleet) => Ok(fleet.node("mailbox-2").context("no mailbox-2")?.thaw()?),
        }
    }

    /// Tells each gateway.
    pub(super) async fn ladder(&self, order: &str) -> Result<()> {
        for admin in self.admins() {
            // Who has no gateway says so.
            let (status, text) = http_put(admin, "/ladder", order).await?;
            ensure!(status == 200 || status == 404, "the ladder of {admin}: {status} {text}");
        }
        Ok(())
    }

    /// How many processes of a role are silent, as the status page of a control process says.
    pub(super) async fn silent(&self, role: &str) -> Result<u64> {
        for admin in self.admins() {
            let Ok((200, text)) = http_get(admin, "/status").await else { continue };
            let page: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
            // Only control knows who is silent.
            if page["acting"].is_null() {
                continue;
            }
            let mut roles = page["demand"].as_array().into_iter().flatten();
            if let Some(silent) =
                roles.find(|shown| shown["role"] == role).and_then(|shown| shown["silent"].as_u64())
            {
                return Ok(silent);
            }
        }
        bail!("no status page shows the role {role}")
    }

    pub(super) async fn stop(self) -> Result<()> {
        match self {
            Self::One(mut one) => drop(one.process.stop(STOP_MAX).await?),
            Self::Fleet(mut fleet) => drop(fleet.shutdown().await?),
        }
        Ok(())
    }
}

impl One {
    /// With other settings than before, as after an operator's edit and a restart.
    pub(super) async fn restart(&mut self, change: impl FnOnce(String) -> String) -> Result<()> {
        self.process.stop(STOP_MAX).await?;
        let text = fs::read_to_string(&self.settings)?;
        fs::write(&self.settings, change(text))?;
        self.process = Process::start(&self.launch)?;
        self.until_ready().await
    }

    pub(super) fn public(&self) -> SocketAddr {
        self.public
    }

    pub(super) fn codes(&self) -> SocketAddr {
        self.codes
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
