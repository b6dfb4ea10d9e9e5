//! `nats-server` with JetStream, one or a cluster of three, all on 127.0.0.1.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fleet::Folder;
use crate::node::{NodeKind, NodePlan, Probe};
use crate::ports::Ports;
use crate::process::Launch;

pub(crate) const VERSION: &str = "2.14.5";
pub(crate) const MODULE: &str = "github.com/nats-io/nats-server/v2";

/// JetStream of a cluster is healthy once it has a leader.
const READY_MAX_S: u64 = 60;
/// TERM ends it at once; it writes what JetStream has in memory.
const STOP_MAX_S: u64 = 15;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatsSpec {
    /// 1 or 3.
    pub nodes: u8,
    /// A file of settings to add, such as users and their permissions. Copied.
    pub include: Option<PathBuf>,
    pub max_payload_bytes: u32,
}

impl Default for NatsSpec {
    fn default() -> Self {
        // As in deploy/nats/nats-server.conf.
        Self { nodes: 1, include: None, max_payload_bytes: 512 * 1024 }
    }
}

struct Addresses {
    clients: SocketAddr,
    monitor: SocketAddr,
    cluster: SocketAddr,
}

impl NatsSpec {
    pub(crate) fn plan(
        &self,
        folder: &Folder,
        binary: &Path,
        ports: &mut Ports,
    ) -> io::Result<Vec<NodePlan>> {
        let mut port = || ports.take().map_err(io::Error::other);
        let addresses = (0..self.nodes)
            .map(|_| Ok(Addresses { clients: port()?, monitor: port()?, cluster: port()? }))
            .collect::<io::Result<Vec<_>>>()?;
        let routes: Vec<_> = addresses.iter().map(|node| node.cluster).collect();
        (1..).zip(&addresses).map(|(number, at)| self.node(folder, binary, number, at, &routes)).collect()
    }

    fn node(
        &self,
        folder: &Folder,
        binary: &Path,
        number: u8,
        at: &Addresses,
        routes: &[SocketAddr],
    ) -> io::Result<NodePlan> {
        let name = format!("nats-{number}");
        let settings = folder.settings(&format!("{name}.conf"));
        fs::write(&settings, self.settings(&name, at, routes, &folder.data(&name)))?;
        if let Some(include) = &self.include {
            // The server looks for it beside its own file.
            fs::copy(include, folder.settings(INCLUDED))?;
        }
        let marker = settings.display().to_string();
        Ok(NodePlan {
            kind: NodeKind::Nats,
            launch: Launch {
                program: binary.to_owned(),
                arguments: vec!["-c".to_owned(), marker.clone()],
                environment: [].into(),
                marker,
                log: folder.log(&name),
                record: folder.record(&name),
                locked_memory_bytes_max: None,
            },
            probe: Probe::Http { address: at.monitor, path: "/healthz".to_owned() },
            endpoints: [("nats".to_owned(), at.clients), ("monitor".to_owned(), at.monitor)].into(),
            ready_max_s: READY_MAX_S,
            stop_max_s: STOP_MAX_S,
            name,
        })
    }

    fn settings(&self, name: &str, at: &Addresses, routes: &[SocketAddr], data: &Path) -> String {
        let mut text = format!(
            r#"server_name: "{name}"
listen: "{}"
http: "{}"
max_payload: {}
max_pending: 64MB
write_deadline: "5s"
ping_interval: "20s"
ping_max: 2
lame_duck_duration: "30s"
lame_duck_grace_period: "2s"
jetstream {{
  store_dir: "{}"
  max_mem: 256MB
  max_file: 4GB
}}
"#,
            at.clients,
            at.monitor,
            self.max_payload_bytes,
            data.display()
        );
        if routes.len() > 1 {
            let routes: Vec<_> = routes.iter().map(|route| format!("\"nats://{route}\"")).collect();
            let (listen, routes) = (at.cluster, routes.join(", "));
            writeln!(text, "cluster {{\n  name: spillway\n  listen: \"{listen}\"\n  routes: [{routes}]\n}}")
                .expect("a string takes everything");
        }
        if self.include.is_some() {
            writeln!(text, "include \"{INCLUDED}\"").expect("a string takes everything");
        }
        text
    }
}

const INCLUDED: &str = "nats-include.conf";
