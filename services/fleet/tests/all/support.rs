use std::path::Path;
use std::time::Duration;

use spillway_fleet::{BackEnd, Cache, CassandraSpec, FleetSpec, NatsSpec};
use tokio::time::{Instant, sleep};

pub(crate) fn servers(nats: u8, cassandra: u8) -> FleetSpec {
    let cache = Cache::of_environment(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
    let nats = match nats {
        0 => BackEnd::None,
        nodes => BackEnd::Own(NatsSpec { nodes, ..NatsSpec::default() }),
    };
    let cassandra = match cassandra {
        0 => BackEnd::None,
        nodes => BackEnd::Own(CassandraSpec { nodes, heap_mib: 256, ..CassandraSpec::default() }),
    };
    FleetSpec::back_ends(cache.folder(), nats, cassandra)
}

/// Whether a process is there, other than as a zombie that nobody has asked about.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, state)| !state.trim_start().starts_with('Z'))
}

pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "{what}: not within 20 s");
        sleep(Duration::from_millis(20)).await;
    }
}
