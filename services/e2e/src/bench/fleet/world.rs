//! The fleet of a run, in a temporary folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use prometheus::Registry;
use spillway_bus::nats::{Nats, NatsConfig};
use spillway_chassis::Tasks;
use spillway_fleet::{Fleet, FleetSpec, Node, NodeKind, Role};
use surge::observe::{Proc, ProcessSample};
use tempfile::TempDir;
use toml::Table;

use crate::bench::Options;
use crate::bench::people::{People, SHADOWED_LIMITS};

/// Everything of it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) people: People,
    fleet: Fleet,
    /// What this process runs on the bus.
    tasks: Tasks,
    folder: TempDir,
}

impl World {
    pub(crate) async fn start(options: &Options, back_ends: &Path) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let mut spec = FleetSpec::each(&options.server, back_ends, 1, 1, 1);
        spec.settings = settings()?;
        let fleet = Fleet::start(spec, folder.path()).await.context("the fleet does not start")?;
        let public = fleet.public_addresses();
        let public = public.first().context("the fleet has no gateway")?;
        let codes: Vec<_> = fleet.codes_addresses().iter().map(|at| format!("http://{at}")).collect();
        let people = People::reach(&format!("http://{public}"), &codes).await?;
        Ok(Self { people, fleet, tasks: Tasks::new(), folder })
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// For connections of this process, apart from the fleet's subjects.
    pub(crate) fn nats(&self) -> Result<Nats> {
        let config = NatsConfig {
            servers: self.fleet.nats_addresses().iter().map(|at| format!("nats://{at}")).collect(),
            prefix: "bench".to_owned(),
            ..NatsConfig::default()
        };
        Ok(Nats::new(config, "bench", &Registry::new(), &self.tasks)?)
    }

    pub(crate) fn cql(&self) -> Vec<String> {
        self.fleet.cql_addresses().iter().map(ToString::to_string).collect()
    }

    /// The admin ports of its gateways.
    pub(crate) fn gateway_admin(&self) -> Vec<String> {
        let gateways = self.fleet.nodes().iter().filter(|node| node.kind() == NodeKind::Role(Role::Gateway));
        gateways.filter_map(|node| node.endpoint("admin")).map(|at| at.to_string()).collect()
    }

    /// All processes of Spillway together.
    pub(crate) fn spillway(&self) -> Result<ProcessSample> {
        let roles = self.fleet.nodes().iter().filter(|node| matches!(node.kind(), NodeKind::Role(_)));
        let pids: Vec<_> = roles.filter_map(Node::pid).collect();
        Ok(Proc::default().processes(&pids)?)
    }

    /// Of the members of these kinds.
    pub(crate) fn pids(&self, wanted: impl Fn(NodeKind) -> bool) -> Vec<u32> {
        self.fleet.nodes().iter().filter(|node| wanted(node.kind())).filter_map(Node::pid).collect()
    }

    pub(crate) async fn end(mut self) -> Result<()> {
        self.tasks.cancel();
        self.fleet.shutdown().await?;
        Ok(())
    }

    /// Ends it now and leaves its folder.
    pub(crate) fn keep(self) -> PathBuf {
        drop(self.fleet);
        self.folder.keep()
    }
}

fn settings() -> Result<Table> {
    let limits = SHADOWED_LIMITS.map(|limit| format!("{}.shadow = true\n", limit.to_lowercase())).concat();
    Ok(toml::from_str(&format!("telemetry.level = 'warn'\n[quotas]\n{limits}"))?)
}
