//! The servers that tests need: those that `SPILLWAY_TEST_NATS` and `SPILLWAY_TEST_CQL` name, or one of each started
//! for the run. And a client of another make.
//!
//! Tests that kill servers start their own, from the same cache, whatever these variables name. All of them end with
//! this process, whether it returns, fails or is interrupted.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use spillway_fleet::{BackEnd, Cache, CassandraSpec, Fleet, FleetSpec, NatsSpec};
use tokio::runtime::Runtime;

use super::grpc_go;
use crate::{cargo, fleet};

/// Tables of many tests at once, and their compactions.
const HEAP_MIB: u32 = 512;

/// What has to be started.
#[derive(Debug)]
pub(super) struct BackEnds {
    cache: Cache,
    nats: bool,
    cassandra: bool,
    /// Once it is built.
    grpc_go: PathBuf,
}

pub(super) struct Started {
    runtime: Runtime,
    fleet: Fleet,
    environment: Vec<(&'static str, OsString)>,
    _lock: File,
}

impl BackEnds {
    /// Looks at the environment, and whether this machine can run what is missing there.
    pub(super) fn wanted() -> Result<Self> {
        let missing = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
        let wanted = Self {
            cache: fleet::cache(),
            nats: missing("SPILLWAY_TEST_NATS"),
            cassandra: missing("SPILLWAY_TEST_CQL"),
            grpc_go: PathBuf::new(),
        };
        wanted.cache.preflight(wanted.nats, wanted.cassandra)?;
        grpc_go::preflight()?;
        Ok(wanted)
    }

    /// Obtains the servers while something else goes on, which mostly waits for the compiler.
    pub(super) fn fetch_meanwhile(mut self, other: impl FnOnce() -> Result<()>) -> Result<Self> {
        thread::scope(|scope| {
            let fetch = scope.spawn(|| {
                if self.nats {
                    self.cache.fetch_nats()?;
                }
                if self.cassandra {
                    self.cache.fetch_cassandra()?;
                }
                grpc_go::build(self.cache.folder())
            });
            let other = other();
            let fetched = fetch.join().expect("fetching returns its errors");
            other?;
            self.grpc_go = fetched.context("cannot obtain what tests need")?;
            Ok::<_, anyhow::Error>(())
        })?;
        Ok(self)
    }

    pub(super) fn start(self) -> Result<Started> {
        let folder = cargo::target().join("test-back-ends");
        let lock =
            File::create(folder.with_extension("lock")).context("cannot write in the target folder")?;
        lock.try_lock().context("another `cargo xtask test` of this checkout is under way")?;
        let runtime = fleet::runtime()?;
        let nats = if self.nats { BackEnd::Own(NatsSpec::default()) } else { BackEnd::None };
        let cassandra = CassandraSpec { heap_mib: HEAP_MIB, ..CassandraSpec::default() };
        let cassandra = if self.cassandra { BackEnd::Own(cassandra) } else { BackEnd::None };
        if self.nats || self.cassandra {
            eprintln!("\n=== start the servers that tests need");
        }
        let fleet = runtime.block_on(async {
            Fleet::down(&folder).await.context("cannot stop what the last run left")?;
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).context("cannot remove the data of the last run");
                }
                _ => {}
            }
            let spec = FleetSpec::back_ends(self.cache.folder(), nats, cassandra);
            Fleet::start(spec, &folder).await.context("cannot start the servers that tests need")
        })?;
        let mut environment = vec![
            ("SPILLWAY_TEST_BACKENDS", whole(self.cache.folder().as_os_str())?),
            ("SPILLWAY_TEST_NATS_SERVER", whole(self.cache.nats_server().as_os_str())?),
            ("SPILLWAY_TEST_GRPC_GO", self.grpc_go.into_os_string()),
        ];
        if self.nats {
            environment.push(("SPILLWAY_TEST_NATS", list(fleet.nats_addresses())));
        }
        if self.cassandra {
            environment.push(("SPILLWAY_TEST_CQL", list(fleet.cql_addresses())));
        }
        Ok(Started { runtime, fleet, environment, _lock: lock })
    }
}

impl Started {
    pub(super) fn environment(&self) -> impl Iterator<Item = (&'static str, OsString)> + use<> {
        self.environment.clone().into_iter()
    }

    pub(super) fn stop(mut self) {
        // What does not end in time is killed, and what cannot be stopped ends with this process.
        if let Err(error) = self.runtime.block_on(self.fleet.shutdown()) {
            eprintln!("warning: {error}");
        }
    }
}

/// Tests run in the folders of their crates.
fn whole(path: &std::ffi::OsStr) -> Result<OsString> {
    Ok(std::path::absolute(path).context("no current folder")?.into_os_string())
}

fn list(addresses: &[SocketAddr]) -> OsString {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",").into()
}
