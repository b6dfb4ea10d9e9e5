//! The waiting room follows what can be sent and paid for, in a real process; and whoever is in already does not notice.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spillway_api::v1;
use spillway_api::v1::sandbox_codes_client::SandboxCodesClient;
use spillway_api::v1::status_client::StatusClient;
use spillway_client::{DeviceSecret, Standing};
use spillway_types::PhoneNumber;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tonic::transport::Endpoint;

use super::desk::population;
use super::start::text;
use super::support::{NO_SEND_QUOTA, Node, PATIENCE, eventually};

/// Everybody comes from one network here.
const NO_START_QUOTA: (&str, &str) = ("QUOTAS__VERIFICATION_START_NETWORK__ENABLED", "false");
/// Codes a second that the provider takes, on a good day and on a bad one.
const GOOD: u32 = 40;
const BAD: u32 = 4;

async fn node(name: &'static str, settings: &str, more: &[(&str, &str)]) -> (Node, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spillway.toml");
    fs::write(&file, settings).unwrap();
    let settings = [&[("CONFIG", text(&file)), NO_SEND_QUOTA, NO_START_QUOTA], more].concat();
    (Node::start(name, &settings).await, folder)
}

async fn behave(node: &Node, rate_per_second: u32) {
    let codes = Endpoint::from_shared(node.server.codes.clone().unwrap()).unwrap().connect().await.unwrap();
    let request = v1::BehaveRequest { rate_per_second: Some(rate_per_second), ..Default::default() };
    SandboxCodesClient::new(codes).behave(request).await.unwrap();
}

/// Sign-ups a second that are let in.
async fn rate(node: &Node) -> f64 {
    node.metric("spillway_control_room_rate", "").await
}

async fn bound_by(node: &Node, bound: &str) -> bool {
    node.metric("spillway_control_room_bound", &format!("\"{bound}\"")).await > 0.5
}

/// Seconds until the rate is in this range.
async fn until_rate(node: &Node, range: std::ops::Range<f64>) -> f64 {
    let began = Instant::now();
    loop {
        let now = rate(node).await;
        if range.contains(&now) {
            return began.elapsed().as_secs_f64();
        }
        assert!(began.elapsed() < PATIENCE, "the rate is {now} and not within {range:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_let_in_follows_the_provider_and_existing_users_do_not_notice() {
    let settings = format!(
        "[[registration.providers]]\nname = \"only\"\nrate_per_second = {GOOD}\nsandbox = {{ rate_per_second = {GOOD} }}\n"
    );
    let (node, _folder) = node("codes-provider", &settings, &[]).await;
    let [alice, bob] = node.people().await;
    let is_over = Arc::new(AtomicBool::new(false));
    // As many come as the provider takes on a good day.
    let (over, client) = (Arc::clone(&is_over), node.client().await);
    let crowd = tokio::spawn(async move {
        let mut index = 1_000;
        while !over.load(Ordering::Relaxed) {
            let number = PhoneNumber::parse(&population().person(index).number).unwrap();
            client.start_verification(&number, v1::Transport::Sms).await.unwrap();
            index += 1;
            sleep(Duration::from_millis(1_000 / u64::from(GOOD))).await;
        }
        index - 1_000
    });
    let (over, talking) = (Arc::clone(&is_over), (alice.clone(), bob.clone()));
    let talk = tokio::spawn(async move {
        let (mut sent, mut slowest) = (0, Duration::ZERO);
        while !over.load(Ordering::Relaxed) {
            let began = Instant::now();
            talking.0.send(&talking.1, format!("message {sent}")).await.unwrap();
            slowest = slowest.max(began.elapsed());
            sent += 1;
            sleep(Duration::from_millis(50)).await;
        }
        (sent, slowest)
    });
    until_rate(&node, f64::from(GOOD) * 0.5..f64::from(GOOD) * 1.1).await;
    sleep(Duration::from_secs(3)).await;
    behave(&node, BAD).await;
    let down = until_rate(&node, 0.0..f64::from(BAD) * 1.5).await;
    assert!(bound_by(&node, "provider").await);
    behave(&node, 0).await;
    let up = until_rate(&node, f64::from(GOOD) * 0.5..f64::from(GOOD) * 1.1).await;
    is_over.store(true, Ordering::Relaxed);
    let (came, (sent, slowest)) = (crowd.await.unwrap(), talk.await.unwrap());
    println!(
        "{came} sign-ups; the rate followed down in {down:.1} s and up in {up:.1} s; {sent} messages meanwhile, the slowest in {slowest:?}"
    );
    assert!(down <= 10.0, "{down} s");
    assert!(sent >= 20);
}

/// Nothing is left of the budget: nothing is spent, nobody is let in, everybody is told why, and whoever is in already goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_is_used_up_closes_the_room_and_nothing_else() {
    let required = [("GATEWAY__ROOM__REQUIRED", "true")];
    let (mut node, folder) = node("codes-budget", "", &[]).await;
    let [alice, bob] = node.people().await;
    node.kill().await;
    let paid = "[[registration.providers]]\nname = \"paid\"\ncost = { default = 50_000 }\n\
                [registration.budget]\nhour = 0\n";
    fs::write(folder.path().join("spillway.toml"), paid).unwrap();
    node.start_again_with(&required).await;
    let [alice, bob] = [node.again(&alice).await, node.again(&bob).await];

    eventually("the room says so", || async { bound_by(&node, "budget").await }).await;
    assert!(rate(&node).await == 0.0);
    let client = node.client().await;
    let secret = DeviceSecret::from_bytes(&[1; 32]);
    let told = Instant::now() + PATIENCE;
    loop {
        let standing = client.enter(&secret).await.map(|(_, standing)| standing);
        if matches!(&standing, Ok(Standing::Waiting(wait)) if wait.reason == v1::WaitReason::Budget) {
            break;
        }
        assert!(Instant::now() < told, "{standing:?}");
        sleep(Duration::from_millis(100)).await;
    }
    let status = status(&node).await;
    assert_eq!((&*status.bounded_by, status.per_second), ("budget", Some(0.0)));
    for n in 0..20 {
        alice.send(&bob, format!("message {n}")).await.unwrap();
    }
    assert!(node.metric("spillway_provider_spent_micros_total", "").await == 0.0);
}

async fn status(node: &Node) -> v1::SignUpStatus {
    let channel = Endpoint::from_shared(node.server.public.clone()).unwrap().connect().await.unwrap();
    let status = StatusClient::new(channel).get(v1::GetStatusRequest {}).await.unwrap().into_inner();
    status.sign_ups.unwrap_or_default()
}
