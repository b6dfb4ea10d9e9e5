//! What a client of another make does with our refusals: grpc-go with a retry policy (`services/e2e/grpc_go`).

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use tonic::metadata::MetadataMap;

use super::fleet::site::variable;
use super::overload::{at_rung, ladder};
use super::support::{Node, Person};

/// Sends are told to stay away for at least half a second.
const PAUSE_MIN_MS: u64 = 500;

/// What the client saw.
#[derive(Debug, Deserialize)]
struct Call {
    code: String,
    text: String,
    attempts: usize,
    pauses_ms: Vec<u64>,
    took_ms: u64,
}

/// It sends nothing to nobody, which is a mistake once it is let in.
async fn send(node: &Node, sender: &Person, timeout: &str) -> Call {
    let mut metadata = MetadataMap::new();
    sender.identity.authorize(&mut metadata);
    let output = Command::new(variable("SPILLWAY_TEST_GRPC_GO"))
        .args(["-address", node.server.public.strip_prefix("http://").unwrap()])
        .args(["-method", "/spillway.v1.Messages/Send", "-timeout", timeout])
        .args(["-token", metadata.get("authorization").unwrap().to_str().unwrap()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_go_waits_as_long_as_it_is_told_and_not_past_its_deadline() {
    let node = Node::start("grpc-go", &[]).await;
    let [alice, bob] = node.people().await;
    let let_in = send(&node, &alice, "20s").await;
    assert_eq!((&*let_in.code, let_in.attempts), ("InvalidArgument", 1), "{let_in:?}");

    let shut = async || {
        assert!(ladder(&node, &["set", "5"]).await.0);
        at_rung(&node, 5, true).await;
    };
    shut().await;
    let (comes_back, ()) = tokio::join!(send(&node, &alice, "20s"), async {
        tokio::time::sleep(Duration::from_millis(PAUSE_MIN_MS / 2)).await;
        assert!(ladder(&node, &["auto"]).await.0);
    });
    assert_eq!((&*comes_back.code, comes_back.attempts), ("InvalidArgument", 2), "{comes_back:?}");
    assert!(comes_back.pauses_ms[0] >= PAUSE_MIN_MS, "{comes_back:?}");

    // A pause that does not fit ends the call at once, not at its deadline, and nothing is tried again.
    shut().await;
    let hurried = send(&node, &bob, "450ms").await;
    assert_eq!((&*hurried.code, hurried.attempts), ("ResourceExhausted", 1), "{hurried:?}");
    assert!(hurried.text.contains("the operator has switched this off"), "{hurried:?}");
    assert!(hurried.took_ms < 450, "{hurried:?}");
}
