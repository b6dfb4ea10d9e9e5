use std::time::Duration;

use prometheus::Registry;
use spillway_api::v1;
use spillway_api::v1::sandbox_codes_client::SandboxCodesClient;
use spillway_chassis::Tasks;
use spillway_registration::provider::{ProviderError, Sandbox, SandboxConfig};
use spillway_registration::sandbox::Codes;
use spillway_rpc::{ServerMetrics, in_process};
use tonic::service::Routes;

use crate::scripted::{Scripted, failed, throttled};
use crate::world::{NUMBER, OTHER_NUMBER, PATIENCE, World, config, is_queue_empty, next_call, until};

/// The process dies with one code at the provider and one that has not even begun; the next one sends both.
#[tokio::test]
async fn queued_codes_survive_the_process() {
    let world = World::new();
    let (dead, mut calls) = Scripted::holding();
    let mut narrow = config();
    narrow.dispatch.concurrency = 1.try_into().unwrap();
    narrow.dispatch.provider_timeout = Duration::from_millis(50);
    let node = world.node(narrow.clone(), dead);
    let mut sessions = Vec::new();
    for number in [NUMBER, OTHER_NUMBER] {
        sessions.push((number, node.start(number).await));
        world.clock.advance(Duration::from_secs(1));
    }
    let before = next_call(&mut calls).await;
    node.stop().await;
    // The pause after the failure.
    world.clock.advance(Duration::from_secs(1));

    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(narrow, provider);
    for (number, session) in &sessions {
        let call = next_call(&mut calls).await;
        assert_eq!(&call.number, number, "who has waited longest comes first");
        if call.number == before.number {
            assert_eq!(call.code, before.code, "what was on its way already stays good");
        }
        assert!(node.check(session, &call.code).await.unwrap().verified);
    }
    assert!(is_queue_empty(&world).await);
}

#[tokio::test]
async fn a_failure_is_tried_again_and_others_do_not_wait() {
    let world = World::new();
    let (provider, mut calls) = Scripted::failing_for(NUMBER);
    let mut slow = config();
    slow.dispatch.backoff_min = Duration::from_secs(3_600);
    slow.dispatch.backoff_max = Duration::from_secs(3_600);
    slow.dispatch.concurrency = 1.try_into().unwrap();
    let node = world.node(slow, provider);
    node.start(NUMBER).await;
    assert_eq!(next_call(&mut calls).await.number, NUMBER);
    let other = node.start(OTHER_NUMBER).await;
    let call = next_call(&mut calls).await;
    assert_eq!(call.number, OTHER_NUMBER);
    assert!(node.check(&other, &call.code).await.unwrap().verified);
    assert!(!is_queue_empty(&world).await, "the failed one still waits");
}

#[tokio::test]
async fn attempts_are_capped_and_throttling_is_not_an_attempt() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let mut few = config();
    few.dispatch.attempts_max = 3.try_into().unwrap();
    let node = world.node(few.clone(), provider.clone());
    world.run_clock(&node.tasks);
    provider.fail_next([failed(), throttled(), throttled(), throttled(), failed()]);
    let session = node.start(NUMBER).await;
    let mut last = next_call(&mut calls).await;
    for _ in 0..5 {
        last = next_call(&mut calls).await;
    }
    assert!(node.check(&session, &last.code).await.unwrap().verified);

    provider.fail_next([failed(), failed(), failed()]);
    node.start(OTHER_NUMBER).await;
    until("the request is given up", || is_queue_empty(&world)).await;
    node.stop().await;
    assert_eq!(std::iter::from_fn(|| calls.try_recv().ok()).count(), 3);
}

#[tokio::test]
async fn a_refusal_is_final_and_the_person_may_ask_again() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    provider.fail_next([ProviderError::Refused("no such subscriber".to_owned())]);
    let node = world.node(config(), provider);
    let session = node.start(NUMBER).await;
    next_call(&mut calls).await;
    until("the request is dropped", || is_queue_empty(&world)).await;
    world.clock.advance(Duration::from_secs(60));
    node.resend(&session, v1::Transport::Sms).await.unwrap();
    let call = next_call(&mut calls).await;
    assert!(node.check(&session, &call.code).await.unwrap().verified);
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_sent() {
    let world = World::new();
    let (dead, mut calls) = Scripted::holding();
    let mut narrow = config();
    narrow.dispatch.concurrency = 1.try_into().unwrap();
    narrow.dispatch.provider_timeout = Duration::from_millis(20);
    let node = world.node(narrow, dead);
    node.start(NUMBER).await;
    next_call(&mut calls).await;
    node.stop().await;
    world.clock.advance(Duration::from_secs(3_600));

    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    until("the stale entry is dropped", || is_queue_empty(&world)).await;
    node.stop().await;
    assert!(calls.try_recv().is_err());
}

#[tokio::test]
async fn the_sandbox_shows_its_codes() {
    let world = World::new();
    let tasks = Tasks::new();
    let sandbox = Sandbox::new(SandboxConfig::default(), &tasks);
    let node = world.node(config(), std::sync::Arc::new(sandbox.clone()));
    let metrics = ServerMetrics::new(&Registry::new());
    let mut codes = SandboxCodesClient::new(in_process(Routes::new(Codes::into_server(sandbox)), &metrics));
    let mut watch = codes.watch(v1::WatchCodesRequest {}).await.unwrap().into_inner();
    let unknown = codes.read(v1::ReadCodeRequest { number: NUMBER.to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);

    let session = node.start(NUMBER).await;
    let seen = tokio::time::timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(seen.number, NUMBER);
    assert!(
        node.check(&session, &seen.code).await.unwrap().verified,
        "at zero delay the check overtakes the disk"
    );
    let read = codes.read(v1::ReadCodeRequest { number: NUMBER.to_owned() }).await.unwrap().into_inner();
    assert_eq!(read.code, seen.code);
    let metrics = prometheus::TextEncoder::new().encode_to_string(&node.registry.gather()).unwrap();
    assert!(metrics.contains(r#"spillway_verification_codes_total{outcome="accepted",provider="only"} 1"#));
    assert!(
        metrics.contains(r#"spillway_verifications_total{event="verified",transport="sms"} 1"#),
        "{metrics}"
    );
}
