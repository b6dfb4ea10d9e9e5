//! A fleet in its folder.

mod folder;
mod plan;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::cache::FetchError;
use crate::node::{Node, NodeError, NodeKind, NodePlan};
use crate::ports::PortError;
use crate::process::{Ended, Process, ProcessError, Signal};
use crate::roles::Role;
use crate::spec::FleetSpec;

pub(crate) use folder::Folder;

/// Making a schema in three nodes takes 6 to 9 s on two quiet cores.
const PREPARE_MAX: Duration = Duration::from_secs(120);

/// A node of a database answers before it knows of the others, and then refuses what needs a quorum. On a busy machine it
/// takes some seconds until it does; what may be repeated is tried again for so long.
const SETTLE_MAX: Duration = Duration::from_secs(30);
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The processes of a fleet that was started here or found in its folder. What was started here ends with this value,
/// unless it is [detached](Self::detach).
#[derive(Debug)]
pub struct Fleet {
    folder: Folder,
    description: Description,
    /// Back ends first, gateways last.
    nodes: Vec<Node>,
}

/// `fleet.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Description {
    spec: FleetSpec,
    nats: Vec<SocketAddr>,
    cql: Vec<SocketAddr>,
    nodes: Vec<NodePlan>,
    /// What runs once between the start of the back ends and that of the roles.
    prepare: Vec<Preparation>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Preparation {
    program: PathBuf,
    arguments: Vec<String>,
    /// Not done when this file is there. Without one it may be repeated.
    unless: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("{} has another fleet; stop it first, or use another folder", folder.display())]
    Another { folder: PathBuf },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("no ports for the fleet")]
    Ports(#[from] PortError),
    #[error("cannot read or write {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} cannot be understood; remove it when nothing of that fleet runs", path.display())]
    Description {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{command}` failed ({status}):\n{output}")]
    Prepare { command: String, status: String, output: String },
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("a process of the fleet cannot be stopped")]
    Process(#[from] ProcessError),
}

/// What a stop found and how it went, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    pub name: String,
    pub pid: u32,
    pub ended: Ended,
}

impl Fleet {
    /// Starts a fleet and waits until all of it serves. A fleet of the same description in that folder goes on where it
    /// was, on its data and ports.
    ///
    /// Obtains servers when the cache lacks them, which can take a minute.
    ///
    /// # Errors
    ///
    /// When the folder has a different fleet, or anything cannot be started; nothing that was started here is left then.
    pub async fn start(spec: FleetSpec, folder: &Path) -> Result<Self, FleetError> {
        let mut fleet = match Self::open(folder)? {
            Some(fleet) if fleet.description.spec == spec => fleet,
            Some(_) => return Err(FleetError::Another { folder: folder.to_owned() }),
            None => {
                // Of a fleet that nothing describes any more.
                Self::down(folder).await?;
                Self::plan(spec, folder).await?
            }
        };
        fleet.start_all().await?;
        Ok(fleet)
    }

    /// The fleet of a folder, running or not. None when the folder has none.
    ///
    /// # Errors
    ///
    /// When what is there cannot be read.
    pub fn open(folder: &Path) -> Result<Option<Self>, FleetError> {
        let folder = Folder::at(folder)?;
        let path = folder.description();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FleetError::File { path, source }),
        };
        let description: Description =
            serde_json::from_slice(&text).map_err(|source| FleetError::Description { path, source })?;
        let nodes = description.nodes.iter().cloned().map(Node::attach).collect::<Result<_, _>>()?;
        Ok(Some(Self { folder, description, nodes }))
    }

    async fn plan(spec: FleetSpec, folder: &Path) -> Result<Self, FleetError> {
        let folder = Folder::at(folder)?.with_log_prefix(spec.log_prefix.as_deref())?;
        // It may run Go and Maven.
        let planned = tokio::task::spawn_blocking({
            let folder = folder.clone();
            move || plan::plan(spec, &folder)
        });
        let description = planned.await.expect("planning returns its errors")?;
        let path = folder.description();
        let text = serde_json::to_vec_pretty(&description).expect("names, numbers and paths made of text");
        fs::write(&path, text).map_err(|source| FleetError::File { path, source })?;
        let nodes = description.nodes.iter().cloned().map(Node::attach).collect::<Result<_, _>>()?;
        Ok(Self { folder, description, nodes })
    }

    /// Starts what does not run and waits until all of it serves.
    ///
    /// # Errors
    ///
    /// Of the first that cannot be started.
    pub async fn start_all(&mut self) -> Result<(), FleetError> {
        self.start_those(|kind| !matches!(kind, NodeKind::Role(_))).await?;
        for preparation in &self.description.prepare {
            preparation.run().await?;
        }
        self.start_those(|kind| matches!(kind, NodeKind::Role(_))).await
    }

    /// All of them side by side.
    async fn start_those(&mut self, wanted: impl Fn(NodeKind) -> bool) -> Result<(), FleetError> {
        for node in self.nodes.iter_mut().filter(|node| wanted(node.kind())) {
            node.launch().await?;
        }
        for node in self.nodes.iter_mut().filter(|node| wanted(node.kind())) {
            node.wait_ready().await?;
        }
        Ok(())
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn spec(&self) -> &FleetSpec {
        &self.description.spec
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// By name, such as `mailbox-2`.
    pub fn node(&mut self, name: &str) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|node| node.name() == name)
    }

    pub fn of_kind(&mut self, kind: NodeKind) -> impl Iterator<Item = &mut Node> {
        self.nodes.iter_mut().filter(move |node| node.kind() == kind)
    }

    pub fn of_role(&mut self, role: Role) -> impl Iterator<Item = &mut Node> {
        self.of_kind(NodeKind::Role(role))
    }

    pub fn nats_addresses(&self) -> &[SocketAddr] {
        &self.description.nats
    }

    pub fn cql_addresses(&self) -> &[SocketAddr] {
        &self.description.cql
    }

    /// Of the gateways.
    pub fn public_addresses(&self) -> Vec<SocketAddr> {
        self.endpoints("public")
    }

    /// Of every process of Spillway.
    pub fn admin_addresses(&self) -> Vec<SocketAddr> {
        self.endpoints("admin")
    }

    /// Where codes can be read: each registration process has those that it handed over.
    pub fn codes_addresses(&self) -> Vec<SocketAddr> {
        self.endpoints("codes")
    }

    fn endpoints(&self, purpose: &str) -> Vec<SocketAddr> {
        self.nodes.iter().filter_map(|node| node.endpoint(purpose)).collect()
    }

    /// Lets the fleet outlive this process.
    pub fn detach(&mut self) {
        for node in &mut self.nodes {
            node.detach();
        }
    }

    /// Stops all of it, gateways first and back ends last, each kind at once and within its bound. Data and logs stay.
    ///
    /// # Errors
    ///
    /// When a process cannot be stopped.
    pub async fn shutdown(&mut self) -> Result<Vec<Down>, FleetError> {
        let mut down = Vec::new();
        let groups = Role::ALL.map(NodeKind::Role).into_iter().rev();
        for kind in groups.chain([NodeKind::Cassandra, NodeKind::Nats]) {
            // First the signal for each, so that they end side by side.
            let mut told = Vec::new();
            for node in self.of_kind(kind) {
                if node.runs() {
                    node.signal(Signal::TERM)?;
                    told.push(node);
                }
            }
            for node in told {
                let (name, pid) = (node.name().to_owned(), node.pid().unwrap_or_default());
                let ended = node.stop().await?;
                down.push(Down { name, pid, ended });
            }
        }
        Ok(down)
    }

    /// Stops whatever runs of a folder's fleet, also what its `fleet.json` does not know. Nothing is left afterwards.
    ///
    /// # Errors
    ///
    /// When a process cannot be stopped.
    pub async fn down(folder: &Path) -> Result<Vec<Down>, FleetError> {
        let records = Folder::at(folder)?;
        // An unreadable description must not keep what runs alive.
        let mut down = match Self::open(folder) {
            Ok(Some(mut fleet)) => fleet.shutdown().await?,
            Ok(None) | Err(_) => Vec::new(),
        };
        for record in records.records() {
            if let Some(mut process) = Process::find(&record)? {
                let name = record.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let pid = process.pid();
                let ended = process.stop(Duration::from_secs(30)).await?;
                down.push(Down { name, pid, ended });
            }
        }
        Ok(down)
    }
}

impl Preparation {
    async fn run(&self) -> Result<(), FleetError> {
        if self.unless.as_ref().is_some_and(|file| file.exists()) {
            return Ok(());
        }
        let settled = Instant::now() + SETTLE_MAX;
        loop {
            match self.attempt().await {
                Err(_) if self.unless.is_none() && Instant::now() < settled => sleep(AGAIN_AFTER).await,
                outcome => return outcome,
            }
        }
    }

    async fn attempt(&self) -> Result<(), FleetError> {
        let command = format!("{} {}", self.program.display(), self.arguments.join(" "));
        let failed =
            |status: String, output: String| FleetError::Prepare { command: command.clone(), status, output };
        let mut process = Command::new(&self.program);
        process.args(&self.arguments).stdin(Stdio::null()).kill_on_drop(true);
        let started = Instant::now();
        let output = match timeout(PREPARE_MAX, process.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(failed(error.to_string(), String::new())),
            Err(_) => {
                return Err(failed(format!("not done after {:?}", started.elapsed()), String::new()));
            }
        };
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stdout, output.stderr].concat();
        Err(failed(output.status.to_string(), String::from_utf8_lossy(&text).into_owned()))
    }
}
