//! The role with a provider that speaks SMPP, to a centre that a test rules.

use std::sync::Arc;
use std::time::Duration;

use spillway_chassis::Tasks;
use spillway_registration::Config;
use spillway_registration::provider::{
    Carrier, MessageIds, Provider, ProviderError, Smpp, SmppConfig, Terms,
};
use spillway_store::verifications::Transport;
use spillway_types::PhoneNumber;

use crate::http_provider::some_code;
use crate::providers::metric;
use crate::scripted::Scripted;
use crate::smsc::{Mood, PASSWORD, Smsc};
use crate::world::{NUMBER, Node, PATIENCE, World, config, is_queue_empty, next_call, until};

fn settings(smsc: &Smsc) -> SmppConfig {
    SmppConfig { message_ids: MessageIds::HexThenDecimal, ..smsc.config() }
}

pub(crate) fn carrier(smpp: Smpp) -> Carrier {
    let terms = Terms { transports: vec![Transport::Sms], ..Terms::free("smsc") };
    Carrier { terms, provider: Arc::new(smpp) }
}

pub(crate) fn receipts(node: &Node, outcome: &str) -> u64 {
    metric(node, &format!(r#"spillway_provider_receipts_total{{outcome="{outcome}",provider="smsc"}}"#))
}

pub(crate) async fn send(smpp: &Smpp) -> Result<(), ProviderError> {
    let number = PhoneNumber::parse(NUMBER).unwrap();
    smpp.send(&number, Transport::Sms, &some_code().await).await.map(drop)
}

pub(crate) fn quick() -> Config {
    let mut config = config();
    config.routing.grace_min = Duration::from_millis(100);
    config
}

#[tokio::test]
async fn a_code_goes_out_and_its_receipt_comes_back() {
    let (world, tasks) = (World::new(), Tasks::new());
    let mut smsc = Smsc::start().await;
    let validity = Some(Duration::from_secs(600));
    let smpp = Smpp::new(&SmppConfig { validity, ..settings(&smsc) }, &tasks).unwrap();
    let node = world.node_of(quick(), vec![carrier(smpp)]);
    let session = node.start(NUMBER).await;
    let taken = tokio::time::timeout(PATIENCE, smsc.taken.recv()).await.unwrap().unwrap();
    assert_eq!(taken.message.destination_addr.as_str(), "4930123456");
    assert_eq!(taken.message.source_addr.as_str(), "Spillway");
    assert_eq!(taken.message.validity_period.as_str(), "000000001000000R");
    assert_eq!(u8::from(taken.message.esm_class), 0, "an ordinary message");
    assert_eq!(u8::from(taken.message.registered_delivery), 1, "with a receipt, whatever becomes of it");
    let code = taken.text.strip_prefix("Your code is ").unwrap();
    until("it is recorded", || is_queue_empty(&world)).await;
    assert!(node.check(&session, code).await.unwrap().verified);
    until("the receipt has come", || async { receipts(&node, "arrived") == 1 }).await;
    until("the centre is asked whether it is there", || async { smsc.enquiries() >= 2 }).await;
    assert_eq!(smsc.binds(), 1);
    tasks.close_and_wait(PATIENCE).await.unwrap();
    until("it has said good-bye", || async { smsc.goodbyes() == 1 }).await;
    node.stop().await;
    smsc.stop().await;
}

#[tokio::test]
async fn receipts_that_are_late_double_missing_early_or_garbage_harm_nobody() {
    let (world, tasks) = (World::new(), Tasks::new());
    let mut smsc = Smsc::start().await;
    let node = world.node_of(quick(), vec![carrier(Smpp::new(&settings(&smsc), &tasks).unwrap())]);
    let moods = [
        Mood::LateReceipt,
        Mood::DoubleReceipt,
        Mood::NoReceipt,
        Mood::EarlyReceipt,
        Mood::GarbageReceipt,
        Mood::FailedReceipt,
        Mood::Well,
    ];
    for (n, mood) in moods.into_iter().enumerate() {
        smsc.is(mood);
        let session = node.start(&format!("+4930{n:04}1234")).await;
        let taken = tokio::time::timeout(PATIENCE, smsc.taken.recv()).await.unwrap().unwrap();
        let code = taken.text.strip_prefix("Your code is ").unwrap();
        until("it is recorded", || is_queue_empty(&world)).await;
        assert!(node.check(&session, code).await.unwrap().verified, "{mood:?}");
    }
    // Each message that has a receipt counts once.
    until("all have come", || async { receipts(&node, "arrived") == 5 }).await;
    // The repeated ones, and perhaps the early one before its answer.
    until("the others too", || async { (2..=3).contains(&receipts(&node, "of_nobody")) }).await;
    assert_eq!((receipts(&node, "failed"), smsc.asked(), smsc.binds()), (1, 7, 1));
    node.stop().await;
    tasks.close_and_wait(PATIENCE).await.unwrap();
    smsc.stop().await;
}

/// Whoever was told that his code cannot be delivered gets the next one from another provider.
#[tokio::test]
async fn a_failed_delivery_is_remembered_in_its_session() {
    let (world, tasks) = (World::new(), Tasks::new());
    let smsc = Smsc::start().await;
    smsc.is(Mood::FailedReceipt);
    let (other, mut calls) = Scripted::accepting();
    let other = Carrier {
        terms: Terms { transports: vec![Transport::Sms], ..Terms::free("other") },
        provider: other,
    };
    let node = world.node_of(quick(), vec![carrier(Smpp::new(&settings(&smsc), &tasks).unwrap()), other]);
    let mut sessions = Vec::new();
    for n in 0..20 {
        sessions.push(node.start(&format!("+4930{n:04}1234")).await);
    }
    until("all are sent", || is_queue_empty(&world)).await;
    let failed = smsc.asked();
    until("all receipts have come", || async { receipts(&node, "failed") == failed as u64 }).await;
    assert!(failed >= 3, "both are used: {failed} of 20");
    while calls.try_recv().is_ok() {}
    // Until the failures are in their sessions.
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.clock.advance(Duration::from_secs(60));
    smsc.is(Mood::Well);
    for session in &sessions {
        node.resend(session, spillway_api::v1::Transport::Sms).await.unwrap();
    }
    until("all are sent again", || is_queue_empty(&world)).await;
    let again = smsc.asked() - failed;
    // Those whom the other one had reached the first time may come here.
    assert!(again <= 20 - failed, "{again} went to the centre that had failed {failed} of 20");
    node.stop().await;
    tasks.close_and_wait(PATIENCE).await.unwrap();
    smsc.stop().await;
}

#[tokio::test]
async fn answers_are_told_apart_and_no_secret_is_in_them() {
    let tasks = Tasks::new();
    let smsc = Smsc::start().await;
    let smpp = Smpp::new(&settings(&smsc), &tasks).unwrap();
    for (mood, expected) in [
        (Mood::Well, "taken"),
        (Mood::Throttles, "throttled"),
        (Mood::Refuses, "refused"),
        (Mood::Fails, "failed"),
        (Mood::Hangs, "unanswered"),
        (Mood::HangsUp, "unanswered"),
        (Mood::Garbage, "unanswered"),
        (Mood::Well, "taken"),
    ] {
        smsc.is(mood);
        let outcome = match send(&smpp).await {
            Ok(()) => "taken".to_owned(),
            Err(error) => {
                let told = format!("{error:?} {error}");
                assert!(!told.contains(PASSWORD) && !told.contains("4930123456"), "{told}");
                match error {
                    ProviderError::Throttled { .. } => "throttled".to_owned(),
                    ProviderError::Failed(_) => "failed".to_owned(),
                    ProviderError::Unanswered => "unanswered".to_owned(),
                    ProviderError::Refused(_) => "refused".to_owned(),
                }
            }
        };
        assert_eq!(outcome, expected, "{mood:?}");
    }
    assert!(smsc.binds() >= 3, "each time that it hung up, or said garbage, the connection was made again");
    tasks.close_and_wait(PATIENCE).await.unwrap();
    smsc.stop().await;
}

#[tokio::test]
async fn a_wrong_password_and_a_centre_that_is_not_there_are_failures() {
    let tasks = Tasks::new();
    let smsc = Smsc::start().await;
    let wrong = SmppConfig { password: "wrong".to_owned(), ..settings(&smsc) };
    let refused = Smpp::new(&wrong, &tasks).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let gone = Smpp::new(&SmppConfig { address, ..settings(&smsc) }, &tasks).unwrap();
    for smpp in [&refused, &gone] {
        let error = send(smpp).await.unwrap_err();
        assert!(matches!(error, ProviderError::Failed(_)), "{error:?}");
    }
    assert_eq!(smsc.binds(), 0);
    tasks.close_and_wait(PATIENCE).await.unwrap();
    smsc.stop().await;
}

/// No more messages than the window has room for are without an answer.
#[tokio::test]
async fn the_window_is_kept() {
    let (world, tasks) = (World::new(), Tasks::new());
    let smsc = Smsc::start().await;
    smsc.answers_after(Duration::from_millis(30));
    let narrow = SmppConfig { window: 4.try_into().unwrap(), ..settings(&smsc) };
    let node = world.node_of(quick(), vec![carrier(Smpp::new(&narrow, &tasks).unwrap())]);
    for n in 0..40 {
        node.start(&format!("+4930{n:04}1234")).await;
    }
    until("all are sent", || is_queue_empty(&world)).await;
    assert_eq!((smsc.asked(), smsc.open_max()), (40, 4));
    node.stop().await;
    tasks.close_and_wait(PATIENCE).await.unwrap();
    smsc.stop().await;
}

/// "Throttled" says how much the centre takes: no code is lost, none is given up, and what can be sent goes down.
#[tokio::test]
async fn throttling_is_a_signal_and_no_failure() {
    let (world, tasks) = (World::new(), Tasks::new());
    let smsc = Smsc::start().await;
    smsc.is(Mood::Throttles);
    let (other, mut calls) = Scripted::accepting();
    let other = Carrier {
        terms: Terms { transports: vec![Transport::Sms], ..Terms::free("other") },
        provider: other,
    };
    let mut once = quick();
    once.dispatch.attempts_max = 1.try_into().unwrap();
    let node = world.node_of(once, vec![carrier(Smpp::new(&settings(&smsc), &tasks).unwrap()), other]);
    for n in 0..10 {
        let number = format!("+4930{n:04}1234");
        node.start(&number).await;
        assert_eq!(next_call(&mut calls).await.number, number);
    }
    assert!(metric(&node, r#"spillway_provider_breaker_state{provider="smsc",transport="sms"}"#) == 0);
    node.stop().await;
    tasks.close_and_wait(PATIENCE).await.unwrap();
    smsc.stop().await;
}
