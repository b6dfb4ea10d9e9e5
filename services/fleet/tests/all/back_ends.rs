use spillway_fleet::{Fleet, FleetError, NodeError, NodeKind, Readiness};

use super::support::{is_alive, servers};

#[tokio::test]
async fn nats_is_frozen_killed_and_back_at_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(servers(1, 0), folder.path()).await.unwrap();
    let address = fleet.nats_addresses()[0];
    let node = fleet.node("nats-1").unwrap();
    assert!(node.resident_bytes().unwrap() > 1 << 20);

    node.freeze().await.unwrap();
    let frozen = node.readiness().await;
    assert!(matches!(&frozen, Readiness::NotReady(why) if why.contains("no answer")), "{frozen}");
    node.thaw().unwrap();
    node.wait_ready().await.unwrap();

    let first = node.pid().unwrap();
    node.kill().await.unwrap();
    assert_eq!(node.readiness().await, Readiness::NotRunning);
    assert!(!is_alive(first));
    node.start().await.unwrap();
    let second = node.pid().unwrap();
    assert_ne!(second, first);
    assert_eq!(node.endpoint("nats"), Some(address));

    // Whoever has only the folder knows of the second one.
    let stopped = Fleet::down(folder.path()).await.unwrap();
    assert_eq!(stopped.iter().map(|down| down.pid).collect::<Vec<_>>(), [second]);
    assert!(!is_alive(second));
    assert_eq!(Fleet::down(folder.path()).await.unwrap(), []);
}

#[tokio::test]
async fn three_nats_servers_are_one_cluster_that_survives_one_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(servers(3, 0), folder.path()).await.unwrap();
    fleet.node("nats-2").unwrap().kill().await.unwrap();
    for name in ["nats-1", "nats-3"] {
        fleet.node(name).unwrap().wait_ready().await.unwrap();
    }
    fleet.node("nats-2").unwrap().start().await.unwrap();
    assert_eq!(fleet.shutdown().await.unwrap().len(), 3);
}

#[tokio::test]
async fn cassandra_comes_back_after_a_kill_on_the_data_that_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(servers(0, 1), folder.path()).await.unwrap();
    let log = fleet.node("cassandra-1").unwrap().log().to_owned();
    let node = fleet.node("cassandra-1").unwrap();
    let first = node.pid().unwrap();
    node.kill().await.unwrap();
    node.start().await.unwrap();
    assert_ne!(node.pid().unwrap(), first);
    let text = std::fs::read_to_string(log).unwrap();
    assert!(text.contains("Log replay complete"), "the second start replays what the first left:\n{text}");
    assert_eq!(fleet.shutdown().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_the_end_of_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(servers(1, 0), folder.path()).await.unwrap();
    let node = fleet.of_kind(NodeKind::Nats).next().unwrap();
    node.kill().await.unwrap();
    std::fs::write(&node.plan().launch.marker, "jetstream { nonsense: [").unwrap();
    let error = node.start().await.unwrap_err();
    assert!(matches!(&error, NodeError::Ended { tail, .. } if tail.contains("Parse error")), "{error}");
}

#[tokio::test]
async fn a_folder_has_one_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Fleet::start(servers(1, 0), folder.path()).await.unwrap();
    let pid = first.node("nats-1").unwrap().pid();
    let mut same = Fleet::start(servers(1, 0), folder.path()).await.unwrap();
    assert_eq!(same.node("nats-1").unwrap().pid(), pid);
    let another = Fleet::start(servers(3, 0), folder.path()).await.unwrap_err();
    assert!(matches!(another, FleetError::Another { .. }), "{another}");
    first.shutdown().await.unwrap();
}
