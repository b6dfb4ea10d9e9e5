use std::path::Path;
use std::process::{Child, Command, Stdio};

use spillway_fleet::Fleet;

use super::support::{eventually, is_alive, servers};

/// Tells the copy of this test binary that it is an owner, and of what.
const FOLDER: &str = "SPILLWAY_FLEET_OWNER_OF";
const DETACHES: &str = "SPILLWAY_FLEET_OWNER_DETACHES";

/// Not a test of its own: what the other processes run.
#[tokio::test]
async fn owner() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let mut fleet = Fleet::start(servers(1, 0), Path::new(&folder)).await.unwrap();
    if std::env::var_os(DETACHES).is_some() {
        fleet.detach();
    }
    std::fs::write(Path::new(&folder).join("started"), "").unwrap();
    std::future::pending().await
}

#[tokio::test]
async fn processes_end_with_an_owner_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut owner = start_owner(folder.path(), false);
    let pid = pid_when_started(folder.path()).await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the server ends with its owner", || !is_alive(pid)).await;
    assert_eq!(Fleet::down(folder.path()).await.unwrap(), []);
}

#[tokio::test]
async fn down_finds_what_a_killed_owner_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut owner = start_owner(folder.path(), true);
    let pid = pid_when_started(folder.path()).await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(is_alive(pid));
    // Also without the description, which an interrupted start may not have written.
    std::fs::remove_file(folder.path().join("fleet.json")).unwrap();
    let down = Fleet::down(folder.path()).await.unwrap();
    assert_eq!(down.iter().map(|down| down.pid).collect::<Vec<_>>(), [pid]);
    assert!(!is_alive(pid));
}

fn start_owner(folder: &Path, detaches: bool) -> Child {
    let mut owner = Command::new(std::env::current_exe().unwrap());
    owner.args(["all::owner::owner", "--exact"]).env(FOLDER, folder);
    if detaches {
        owner.env(DETACHES, "1");
    }
    owner.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

async fn pid_when_started(folder: &Path) -> u32 {
    let started = folder.join("started");
    eventually("the owner has started its server", || started.exists()).await;
    Fleet::open(folder).unwrap().unwrap().nodes()[0].pid().unwrap()
}
