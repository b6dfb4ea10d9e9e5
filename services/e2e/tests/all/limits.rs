//! Limits are changed while they are in force.

use std::fs;

use spillway_api::Reason;

use super::desk::logs;
use super::start::text;
use super::support::{Node, eventually, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_read_again_after_a_hang_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spillway.toml");
    let write = |burst: &str| {
        fs::write(&file, format!("[quotas.messages]\nburst = {burst}\nperiod = \"1h\"\n")).unwrap();
    };
    write("2");
    let node = Node::start("limits", &[("CONFIG", text(&file))]).await;
    let [alice, bob] = node.people().await;
    for content in ["one", "two"] {
        alice.send(&bob, content).await.unwrap();
    }
    let refused = alice.send(&bob, "three").await.unwrap_err();
    assert_eq!(refused.refusal().unwrap().reason, Reason::Quota);

    let shown = async || {
        let (_, table) = get(&node.server.admin, "/limits").await;
        let row = table.lines().find(|line| line.contains(" messages ")).unwrap().to_owned();
        // Changed rows begin with a star; then name, key and burst.
        row.split_whitespace().nth(3).unwrap().to_owned()
    };
    assert_eq!(shown().await, "2");
    write("\"many\"");
    node.server.signal("HUP").await.unwrap();
    let log = logs().join("limits.log");
    eventually("the mistake is logged", || async {
        fs::read_to_string(&log).unwrap().contains("the limits stay as they are")
    })
    .await;
    assert_eq!(shown().await, "2");
    write("50");
    node.server.signal("HUP").await.unwrap();
    eventually("the new limit is shown", || async { shown().await == "50" }).await;
    alice.send(&bob, "three").await.unwrap();
}
