//! The part of the shared servers that one fleet has for itself.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use spillway_fleet::{BackEnd, Fleet, FleetSpec};
use tempfile::TempDir;
use toml::Table;

use super::super::desk::{Desk, logs};
use super::super::start::{run, text};
use super::super::support::binary;
use super::cql;

/// What is logged, so that the search for leaked secrets is worth something.
pub(crate) const LEVEL: &str = "debug,h2=info,hyper=info,async_nats=info,scylla=info";

pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `cargo xtask test`, which starts what the tests need")
    })
}

/// Keyspaces, subjects and secrets. Nothing of it is left when it is dropped.
pub(crate) struct Site {
    pub(crate) name: &'static str,
    /// Of keyspaces and of subjects.
    pub(crate) prefix: String,
    pub(crate) nats: String,
    pub(crate) cql: String,
    pub(crate) secrets: PathBuf,
    folder: TempDir,
}

impl Site {
    /// The secrets are there, the schema is not.
    pub(crate) async fn new(name: &'static str) -> Self {
        forget_logs(name);
        let folder = tempfile::tempdir().unwrap();
        let secrets = folder.path().join("secrets.toml");
        let made = run(&["secrets", "new", text(&secrets)], &[]).await;
        assert!(made.status.success(), "{made:?}");
        let first = |list: String| list.split(',').next().unwrap_or_default().to_owned();
        Self {
            name,
            prefix: format!("e2e_{}_{:08x}", name.replace('-', "_"), rand::random::<u32>()),
            nats: first(variable("SPILLWAY_TEST_NATS")),
            cql: first(variable("SPILLWAY_TEST_CQL")),
            secrets,
            folder,
        }
    }

    pub(crate) async fn with_schema(name: &'static str) -> Self {
        let site = Self::new(name).await;
        site.apply_schema().await;
        site
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What any process here needs to know, as variables of the environment without `SPILLWAY_`.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("NODE__DATA", text(&self.folder().join("data")).to_owned()),
            ("SECRETS__FILE", text(&self.secrets).to_owned()),
            ("STORE__KIND", "cql".to_owned()),
            ("STORE__CQL__CONTACT_POINTS", format!("[{:?}]", self.cql)),
            ("STORE__CQL__KEYSPACE_PREFIX", self.prefix.clone()),
            ("STORE__CQL__REPLICATION_FACTOR", "1".to_owned()),
            ("BUS__KIND", "nats".to_owned()),
            ("BUS__NATS__SERVERS", format!("[\"nats://{}\"]", self.nats)),
            ("BUS__NATS__PREFIX", self.prefix.clone()),
            ("TELEMETRY__LEVEL", LEVEL.to_owned()),
        ]
    }

    /// Runs the binary to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let settings = self.settings();
        let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
        run(arguments, &settings).await
    }

    pub(crate) async fn apply_schema(&self) {
        let applied = self.run(&["schema", "apply"]).await;
        assert!(applied.status.success(), "{applied:?}");
    }

    pub(crate) fn execute(&self, statements: &[String]) {
        cql::execute(&self.cql, statements).unwrap();
    }

    /// One process of each role, two of the gateway.
    pub(crate) fn spec(&self) -> FleetSpec {
        let one = |address: &str| vec![address.parse().unwrap()];
        // Servers are not obtained, so there is no folder of them.
        let mut spec = FleetSpec::each(&binary(), Path::new(""), 1, 1, 1);
        spec.gateways = 2;
        spec.nats = BackEnd::Existing(one(&self.nats));
        spec.cassandra = BackEnd::Existing(one(&self.cql));
        spec.log_prefix = Some(logs().join(format!("{}-", self.name)));
        spec.settings = self.fleet_settings();
        spec
    }

    fn fleet_settings(&self) -> Table {
        let Self { prefix, secrets, .. } = self;
        let text = format!(
            "[secrets]\nfile = {secrets:?}\n\
             [store.cql]\nkeyspace_prefix = {prefix:?}\n\
             [bus.nats]\nprefix = {prefix:?}\n\
             [telemetry]\nlevel = {LEVEL:?}\n\
             [quotas.verification_start_network]\nenabled = false\n\
             [quotas.messages]\nenabled = false\n\
             [gateway.session]\nmigrate_spread = \"1s\"\nmigrate_grace = \"500ms\"\n"
        );
        text.parse().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let keyspaces =
            ["identity", "mailbox"].map(|part| format!("DROP KEYSPACE IF EXISTS {}_{part}", self.prefix));
        // Another test's failure is not to be hidden behind this one.
        if let Err(error) = cql::execute(&self.cql, &keyspaces).and_then(|()| self.delete_stream()) {
            eprintln!("{} is left in the shared servers: {error}", self.prefix);
        }
    }
}

impl Site {
    /// The queue of codes, if a registration process has made one.
    fn delete_stream(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect(&self.nats)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let delete = format!("$JS.API.STREAM.DELETE.{}_verification", self.prefix);
        write!(stream, "CONNECT {{\"verbose\":false}}\r\nPUB {delete} 0\r\n\r\nPING\r\n")?;
        let mut lines = BufReader::new(stream).lines();
        while let Some(line) = lines.next().transpose()? {
            if line == "PONG" {
                break;
            }
        }
        Ok(())
    }
}

/// Processes of all roles, and their site, which must outlive them.
pub(crate) struct Running {
    fleet: Fleet,
    _site: Site,
}

impl Running {
    /// Starts what `spec` says, in the folder of the site.
    pub(crate) async fn start(site: Site, spec: FleetSpec) -> Self {
        let fleet = Fleet::start(spec, &site.folder().join("fleet")).await.unwrap();
        Self { fleet, _site: site }
    }

    /// `http://` address of a gateway: 0 or 1.
    pub(crate) fn gateway(&self, number: usize) -> String {
        http(self.public_addresses()[number])
    }

    /// A desk where this fleet's codes arrive.
    pub(crate) async fn desk(&self, name: &'static str) -> Desk {
        let mut desk = Desk::new(name);
        for address in self.codes_addresses() {
            desk.answer_phones(&http(address)).await;
        }
        desk
    }
}

impl Deref for Running {
    type Target = Fleet;

    fn deref(&self) -> &Fleet {
        &self.fleet
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Fleet {
        &mut self.fleet
    }
}

/// Of an earlier run. So no name is the beginning of another.
fn forget_logs(name: &str) {
    for entry in fs::read_dir(logs()).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file == format!("{name}.log") || (file.starts_with(&format!("{name}-")) && file.ends_with(".log"))
        {
            fs::remove_file(path).ok();
        }
    }
}

pub(crate) fn http(address: SocketAddr) -> String {
    format!("http://{address}")
}
