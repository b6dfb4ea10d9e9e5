use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use bytes::Bytes;
use tokio::process::Command;

use super::super::desk::population;
use super::super::multi_device::is_found;
use super::super::start::{run, text};
use super::super::support::{NO_SEND_QUOTA, Node, PATIENCE, Person, binary, connect, eventually};
use super::site::{Running, Site};

/// So many that an import which writes one at a time is still at it when it is killed.
const MESSAGES: usize = 600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_moves_to_a_fleet_and_nobody_notices() {
    let mut node = Node::start("before-migration", &[NO_SEND_QUOTA]).await;
    let [alice, bob] = node.people().await;
    let tablet = node.desk.link(&bob, node.client().await).await;
    let mail: Vec<Bytes> = (0..MESSAGES).map(|n| Bytes::from(format!("before the move {n}"))).collect();
    for content in &mail {
        bob.send(&alice, content.clone()).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export");
    export(&mut node, &file).await;

    let mut site = Site::with_schema("migration").await;
    let other = import(&site, &file).await;
    assert_eq!(other.status.code(), Some(1), "{other:?}");
    let said = String::from_utf8(other.stderr).unwrap();
    assert!(said.contains(text(&site.secrets)) && said.contains("other secrets"), "{said}");
    assert!(!progress(&file).exists(), "nothing was begun");

    site.secrets = node.data().join("secrets.toml");
    kill_in_the_middle(&site, &file).await;
    let imported = import(&site, &file).await;
    let shown = String::from_utf8(imported.stdout.clone()).unwrap();
    assert_eq!(imported.status.code(), Some(0), "{imported:?}");
    assert!(shown.contains("  equal") && !shown.contains("DIFFERENT"), "{shown}");
    let messages =
        shown.lines().find(|line| line.starts_with("messages")).unwrap_or_else(|| panic!("{shown}"));
    assert!(messages.contains(&format!(" {MESSAGES} ")), "{messages}");

    let spec = site.spec();
    let fleet = Running::start(site, spec).await;
    everybody_is_there(&fleet, &alice, &bob, &tablet, &mail).await;
}

/// Refused while the server runs, and done after it has ended.
async fn export(node: &mut Node, file: &Path) {
    let data = node.data();
    let export = async || run(&["export", text(file)], &[("NODE__DATA", text(&data))]).await;
    let refused = export().await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("in use") && said.contains("stop the server first"), "{said}");
    assert!(!file.exists());

    node.server.signal("TERM").await.unwrap();
    assert_eq!(node.server.wait().await.unwrap().code(), Some(0));
    let exported = export().await;
    assert_eq!(exported.status.code(), Some(0), "{exported:?}");
    let shown = String::from_utf8(exported.stdout).unwrap();
    assert!(shown.contains(text(&data.join("secrets.toml"))), "says what else has to be moved: {shown}");
    let again = export().await;
    assert!(
        String::from_utf8(again.stderr).unwrap().contains("exists already"),
        "an export is not overwritten"
    );
}

async fn import(site: &Site, file: &Path) -> Output {
    site.run(&["import", text(file)]).await
}

async fn kill_in_the_middle(site: &Site, file: &Path) {
    let mut command = Command::new(binary());
    command
        .args(["import", "--concurrency", "1", text(file)])
        .envs(site.settings().into_iter().map(|(key, value)| (format!("SPILLWAY_{key}"), value)));
    let mut importing =
        command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    // It writes a first state before the first record, and the next ones as it gets on.
    eventually("the import begins", || async { progress(file).exists() }).await;
    let first = fs::read(progress(file)).unwrap();
    eventually("the import gets on", || async { fs::read(progress(file)).is_ok_and(|now| now != first) })
        .await;
    importing.start_kill().unwrap();
    let status = tokio::time::timeout(PATIENCE, importing.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), None, "it was over before it was killed");
}

fn progress(file: &Path) -> PathBuf {
    file.with_extension("progress")
}

async fn everybody_is_there(fleet: &Running, alice: &Person, bob: &Person, tablet: &Person, mail: &[Bytes]) {
    let at = async |gateway, person: &Person| Person {
        client: connect(&fleet.gateway(gateway)).await,
        ..person.clone()
    };
    let (alice, bob, tablet) = (at(0, alice).await, at(1, bob).await, at(0, tablet).await);
    let mut inbox = alice.inbox().await;
    assert_eq!(inbox.backlog().await, mail, "everything undelivered, in order");
    bob.send(&alice, "after the move").await.unwrap();
    assert_eq!(inbox.message().await, "after the move");
    assert!(tablet.inbox().await.backlog().await.is_empty());

    let number = population().person(bob.index).number;
    assert!(is_found(&alice.client, &alice.identity, &number).await, "found by the number");
    let desk = fleet.desk("migration").await;
    let again = desk.person(&fleet.gateway(1), alice.index).await;
    assert_eq!(again.account(), alice.account(), "a number has the account that it had");
    let carol = desk.person(&fleet.gateway(1), 50).await;
    carol.reaches(&again).await;
}
