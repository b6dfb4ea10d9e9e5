//! The fault matrix, bounded: `cargo xtask fault --all` has the rest of it.

use std::path::PathBuf;
use std::time::Duration;

use spillway_e2e::fault::{self, Case, Kill, Plan, Row, Times};
use spillway_fleet::{BackEnd, CassandraSpec, FleetSpec};
use spillway_types::{Clock, SystemClock};

use super::desk::logs;
use super::support::binary;

const CASES: [Case; 5] = [
    Case::Kill(Kill::Mailbox),
    Case::Kill(Kill::Gateway),
    Case::FreezeMailbox,
    Case::NatsGone,
    Case::Kill(Kill::Cassandra),
];

/// Three nodes of the database with three copies of each row; two workers where one is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_dies_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = FleetSpec::each(&binary(), &servers(), 1, 1, 3);
    (fleet.gateways, fleet.mailboxes) = (2, 2);
    fleet.cassandra = BackEnd::Own(CassandraSpec { nodes: 3, heap_mib: 256, ..CassandraSpec::default() });
    fleet.log_prefix = Some(logs().join("faults-"));
    // Nearly everything is logged, so that the search for leaked secrets is worth something.
    fleet.settings =
        toml::from_str("telemetry.level = 'debug,h2=info,hyper=info,async_nats=info,scylla=info'").unwrap();
    let seed = SystemClock.now().as_micros();
    let mut plan = Plan::new(fleet, folder.path().join("fleet"), CASES.to_vec(), seed);
    plan.secrets = Some(logs().join("faults.secrets"));
    plan.people = 20;
    plan.sends_per_s = 20.0;
    plan.times = Times {
        down: Duration::from_secs(4),
        // The fence is 20 s.
        frozen: Duration::from_secs(25),
        nats_gone: Duration::from_secs(6),
        stalls: 1,
    };
    let rows = fault::run(&plan).await.unwrap();
    fault::print(&rows);
    let failed: Vec<_> = rows.iter().filter(|row| !row.passed()).map(Row::line).collect();
    assert!(failed.is_empty(), "seed {seed}:\n{}", failed.join("\n"));
}

fn servers() -> PathBuf {
    let folder = std::env::var_os("SPILLWAY_TEST_BACKENDS").filter(|folder| !folder.is_empty());
    let folder = folder.expect(
        "SPILLWAY_TEST_BACKENDS is not set: run `cargo xtask test`, which obtains the servers that tests need",
    );
    folder.into()
}
