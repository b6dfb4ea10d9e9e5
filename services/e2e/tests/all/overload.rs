//! Overload control as operators and clients see it.

use std::fs;
use std::process::Stdio;

use spillway_api::v1::status_client::StatusClient;
use spillway_api::v1::{self, GetStatusRequest};
use spillway_api::{Reason, Refusal};
use tokio::process::Command;
use tonic::Request;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::desk::logs;
use super::start::text;
use super::support::{Node, binary, eventually, get};

async fn status(node: &Node) -> v1::GetStatusResponse {
    let channel = Endpoint::from_shared(node.server.public.clone()).unwrap().connect().await.unwrap();
    StatusClient::new(channel).get(GetStatusRequest {}).await.unwrap().into_inner()
}

pub(super) async fn ladder(node: &Node, arguments: &[&str]) -> (bool, String) {
    let admin = node.server.admin.strip_prefix("http://").unwrap();
    let output = Command::new(binary())
        .arg("ladder")
        .args(arguments)
        .args(["--admin", admin])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let both = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(both).unwrap())
}

/// Orders are taken up by the next tick.
pub(super) async fn at_rung(node: &Node, rung: u32, held: bool) -> v1::GetStatusResponse {
    eventually("the ladder has moved", || async {
        let now = status(node).await;
        (now.brownout_rung, now.brownout_held) == (rung, held)
    })
    .await;
    status(node).await
}

fn reason(status: &tonic::Status) -> Option<Reason> {
    Refusal::from_status(status).map(|refusal| refusal.reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_walks_the_ladder_up_and_down() {
    let node = Node::start("ladder", &[]).await;
    let [alice, bob] = node.people().await;
    let calm = at_rung(&node, 0, false).await;
    assert!(calm.classes.iter().all(|class| class.open_ratio >= 1.0), "{calm:?}");
    assert_eq!(ladder(&node, &["show"]).await.1.lines().count(), 1);

    let mut served = Vec::new();
    for rung in [0, 3, 4, 5, 4, 3, 0] {
        let (taken, said) = ladder(&node, &["set", &rung.to_string()]).await;
        assert!(taken && said.contains(&format!("rung {rung}")), "{said}");
        let now = at_rung(&node, rung, true).await;
        let mut sign_up = alice.client.sign_up();
        let mut start = Request::new(v1::StartVerificationRequest {
            number: format!("+4915112345{:03}", 100 + served.len()),
            transport: v1::Transport::Sms.into(),
            ..Default::default()
        });
        // What a caller says of his own importance.
        start.metadata_mut().insert("x-spillway-level", "0.0".parse().unwrap());
        let started = sign_up.start_verification(start).await;
        if let Err(refused) = &started {
            assert_eq!(reason(refused), Some(Reason::Overload), "{refused:?}");
            assert!(Refusal::from_status(refused).unwrap().retry_after.is_some());
        }
        let sent = alice.send(&bob, format!("at rung {rung}")).await.is_ok();
        let open = |name: &str| now.classes.iter().find(|class| class.name == name).unwrap().open_ratio > 0.0;
        assert_eq!((started.is_ok(), sent), (open("start_sign_up"), open("send")), "{now:?}");
        served.push((rung, started.is_ok(), sent));
    }
    assert_eq!(
        served,
        [
            (0, true, true),
            (3, false, true),
            (4, false, true),
            (5, false, false),
            (4, false, true),
            (3, false, true),
            (0, true, true)
        ]
    );
    assert!(ladder(&node, &["auto"]).await.0);
    at_rung(&node, 0, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_orders_to_the_ladder_say_what_to_do() {
    let node = Node::start("ladder-wrong", &[]).await;
    let (taken, said) = ladder(&node, &["set", "6"]).await;
    assert!(!taken && said.contains("0..=5"), "{said}");
    let output = Command::new(binary())
        .args(["ladder", "auto", "--admin", "127.0.0.1:1"])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("admin port does not answer"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_whatever_is_switched_off() {
    let node = Node::start("ladder-health", &[]).await;
    ladder(&node, &["set", "5"]).await;
    at_rung(&node, 5, true).await;
    let channel = Endpoint::from_shared(node.server.public.clone()).unwrap().connect().await.unwrap();
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    assert_eq!(get(&node.server.admin, "/health/ready").await.0, 200);
    let (_, page) = get(&node.server.admin, "/admission").await;
    assert!(page.starts_with("gateway: ") && page.contains("rung 5, set by the operator"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admission_settings_are_read_again_after_a_hang_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spillway.toml");
    let write = |mode: &str, cache: &str| {
        let settings = format!("[admission.gateway]\nmode = \"{mode}\"\n[gateway.devices]\n{cache}\n");
        fs::write(&file, settings).unwrap();
    };
    write("shadow", "");
    let node = Node::start("admission-reload", &[("CONFIG", text(&file))]).await;
    let page = async || get(&node.server.admin, "/admission").await.1;
    eventually("shadow is shown", || async { page().await.contains("mode Shadow") }).await;
    // In shadow nothing is refused, whatever the rung.
    ladder(&node, &["set", "5"]).await;
    at_rung(&node, 5, true).await;
    let [alice, bob] = node.people().await;
    alice.send(&bob, "in shadow").await.unwrap();

    write("on", "accounts_max = 77");
    node.server.signal("HUP").await.unwrap();
    eventually("the mode is shown", || async { page().await.contains("mode On") }).await;
    assert!(alice.send(&bob, "refused").await.is_err());
    let log = logs().join("admission-reload.log");
    eventually("the rest waits for a restart, and the log says so", || async {
        fs::read_to_string(&log).unwrap().contains("are taken up at the next start")
    })
    .await;
}
