//! Apache Cassandra, one node or a ring of three on 127.0.0.1 to 127.0.0.3.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fleet::Folder;
use crate::java;
use crate::node::{NodeKind, NodePlan, Probe};
use crate::ports::{PortError, Ports};
use crate::process::Launch;

pub(crate) const VERSION: &str = "5.0.8";
pub(crate) const POM: &str = include_str!("cassandra/pom.xml");
const SETTINGS: &str = include_str!("cassandra/cassandra.yaml");
const LOGGING: &str = include_str!("cassandra/logback.xml");
const FLAGS: &str = include_str!("cassandra/jvm.flags");

/// A start of three side by side takes up to half a minute on two busy cores, one after `kill -9` as long again.
const READY_MAX_S: u64 = 180;
/// It flushes what is in memory.
const STOP_MAX_S: u64 = 30;
/// More than a small node needs for anything but its heap, which it would lock if it could.
const LOCKED_BYTES_MAX: u64 = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CassandraSpec {
    /// 1 or 3.
    pub nodes: u8,
    pub heap_mib: u32,
    pub commitlog_sync: CommitlogSync,
}

/// When a write is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitlogSync {
    /// After its fsync, which writes of the same moment share. What an acknowledgement of Spillway needs.
    Batch,
    /// The same, with 2 ms for more writes to come.
    Group,
    /// Before its fsync, which comes within 10 s. The crash of a process loses nothing, the crash of a machine may.
    Periodic,
}

impl Default for CassandraSpec {
    fn default() -> Self {
        Self { nodes: 1, heap_mib: 384, commitlog_sync: CommitlogSync::Batch }
    }
}

impl CassandraSpec {
    /// Writes the settings of each node and says how it is started. `jars` is a folder.
    pub(crate) fn plan(&self, folder: &Folder, jars: &Path, ports: &mut Ports) -> io::Result<Vec<NodePlan>> {
        let addresses: Vec<_> = (1..=self.nodes).map(|node| Ipv4Addr::new(127, 0, 0, node)).collect();
        let mut port = || ports.take_on(&addresses).map_err(|error: PortError| io::Error::other(error));
        let ports = NodePorts { cql: port()?, storage: port()?, ssl_storage: port()? };
        let agent = jamm(jars)?;
        (1..)
            .zip(&addresses)
            .map(|(number, ip)| self.node(folder, jars, &agent, number, *ip, ports))
            .collect()
    }

    fn node(
        &self,
        folder: &Folder,
        jars: &Path,
        agent: &Path,
        number: u8,
        ip: Ipv4Addr,
        ports: NodePorts,
    ) -> io::Result<NodePlan> {
        let name = format!("cassandra-{number}");
        let data = folder.data(&name);
        // Cassandra makes the others.
        for part in ["triggers", "tmp", "logs"] {
            fs::create_dir_all(data.join(part))?;
        }
        let settings = folder.settings(&format!("{name}.yaml"));
        let logging = folder.settings("cassandra-logback.xml");
        fs::write(&settings, self.settings(number, ip, ports, &data))?;
        fs::write(&logging, LOGGING)?;
        let marker = format!("-Dcassandra.config=file://{}", settings.display());
        let java = vec![
            format!("-javaagent:{}", agent.display()),
            "-cp".to_owned(),
            format!("{}/*", jars.display()),
            format!("-Xms{}m", self.heap_mib),
            format!("-Xmx{}m", self.heap_mib),
            format!("-Djava.io.tmpdir={}", data.join("tmp").display()),
            format!("-Dlogback.configurationFile=file://{}", logging.display()),
            marker.clone(),
            format!("-Dcassandra.storagedir={}", data.display()),
            format!("-Dcassandra.logdir={}", data.join("logs").display()),
            format!("-Dcassandra.triggers_dir={}", data.join("triggers").display()),
        ];
        let (program, before) = wrapped(java::program());
        let flags = FIXED.iter().copied().chain(flags()).map(str::to_owned);
        let main = "org.apache.cassandra.service.CassandraDaemon".to_owned();
        let cql = SocketAddr::from((ip, ports.cql));
        Ok(NodePlan {
            kind: NodeKind::Cassandra,
            launch: Launch {
                program,
                arguments: before.into_iter().chain(java).chain(flags).chain([main]).collect(),
                environment: [].into(),
                marker,
                log: folder.log(&name),
                record: folder.record(&name),
                locked_memory_bytes_max: Some(LOCKED_BYTES_MAX),
            },
            probe: Probe::Cql(cql),
            endpoints: [("cql".to_owned(), cql)].into(),
            ready_max_s: READY_MAX_S,
            stop_max_s: STOP_MAX_S,
            name,
        })
    }

    fn settings(&self, number: u8, ip: Ipv4Addr, ports: NodePorts, data: &Path) -> String {
        let sync = match self.commitlog_sync {
            CommitlogSync::Batch => "commitlog_sync: batch",
            CommitlogSync::Group => "commitlog_sync: group\ncommitlog_sync_group_window: 2ms",
            CommitlogSync::Periodic => "commitlog_sync: periodic\ncommitlog_sync_period: 10s",
        };
        SETTINGS
            .replace("{ip}", &ip.to_string())
            .replace("{token}", &token(number, self.nodes).to_string())
            .replace("{cql_port}", &ports.cql.to_string())
            .replace("{storage_port}", &ports.storage.to_string())
            .replace("{ssl_storage_port}", &ports.ssl_storage.to_string())
            .replace("{data}", &data.display().to_string())
            .replace("{commitlog_sync}", sync)
            .replace("{memtable_mib}", &(self.heap_mib / 4).to_string())
    }
}

/// The same for all nodes of a ring, because a node knows the others by address only.
#[derive(Clone, Copy)]
struct NodePorts {
    cql: u16,
    storage: u16,
    ssl_storage: u16,
}

/// Small, quick to start, and ready for a cluster.
const FIXED: &[&str] = &[
    "-Xss512k",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:MaxDirectMemorySize=256m",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.net.preferIPv4Stack=true",
    "-Dcassandra-foreground=yes",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    // Shorter ones break rings whose nodes start side by side.
    "-Dcassandra.ring_delay_ms=15000",
    // At 0 it would try again without a pause.
    "-Dcassandra.superuser_setup_delay_ms=1000",
    "-Dcassandra.shutdown_announce_in_ms=0",
];

fn flags() -> impl Iterator<Item = &'static str> {
    // A security manager may be set by Cassandra, which later Javas forbid unless told otherwise.
    let lines = FLAGS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.chain(["-Djava.security.manager=allow"])
}

/// The middle of each node's even share of Murmur3's ring, which goes from -2^63 to 2^63.
fn token(number: u8, nodes: u8) -> i64 {
    let (number, nodes) = (i128::from(number), i128::from(nodes));
    let token = (2 * number - 1 - nodes) * (1_i128 << 63) / nodes;
    i64::try_from(token).expect("the factor is smaller than the divisor, so it stays within 2^63")
}

/// The agent that measures objects, by whatever version the server names.
fn jamm(jars: &Path) -> io::Result<PathBuf> {
    for entry in fs::read_dir(jars)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("jamm-")) {
            return Ok(path);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("no jamm-*.jar in {}", jars.display())))
}

/// The JVM ends on SIGHUP unless that is ignored from the start. And what may lock memory locks the whole heap, which
/// doubles the resident size: root may, without the capability it may not.
fn wrapped(java: PathBuf) -> (PathBuf, Vec<String>) {
    let java = java.display().to_string();
    let without_capability =
        rustix::process::geteuid().is_root() && crate::cache::runs("setpriv", "--version");
    if without_capability {
        let before = ["--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "nohup", &java];
        return ("setpriv".into(), before.map(str::to_owned).into());
    }
    ("nohup".into(), vec![java])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_share_the_ring_evenly() {
        assert_eq!([token(1, 3), token(2, 3), token(3, 3)], [-6148914691236517205, 0, 6148914691236517205]);
        assert_eq!(token(1, 1), 0);
    }

    #[test]
    fn every_blank_of_the_settings_is_filled() {
        let ports = NodePorts { cql: 1, storage: 2, ssl_storage: 3 };
        for commitlog_sync in [CommitlogSync::Batch, CommitlogSync::Group, CommitlogSync::Periodic] {
            let spec = CassandraSpec { commitlog_sync, ..CassandraSpec::default() };
            let text = spec.settings(1, Ipv4Addr::LOCALHOST, ports, Path::new("/f"));
            let settings = text.lines().filter(|line| !line.starts_with('#'));
            assert!(!settings.clone().any(|line| line.contains(['{', '}'])), "{text}");
        }
    }
}
