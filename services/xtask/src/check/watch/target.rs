//! What is watched: one process of Spillway with all roles, or a fleet.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use spillway_fleet::{Fleet, FleetSpec, Role, http_get, http_put};

use crate::check::one_process::OneProcess;
use crate::fleet;

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
    One(Box<OneProcess>),
    Fleet(Box<Fleet>),
}

impl Target {
    pub(super) async fn one_process(spillway: &Path, folder: &Path) -> Result<Self> {
        let settings = format!("{GATEWAY_SETTINGS}{SETTINGS}{RICH}");
        Ok(Self::One(Box::new(OneProcess::start(spillway, folder, &settings).await?)))
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
                one.freeze().await?;
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
            Self::One(one) => one.thaw(),
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
            Self::One(mut one) => one.stop().await?,
            Self::Fleet(mut fleet) => drop(fleet.shutdown().await?),
        }
        Ok(())
    }
}
