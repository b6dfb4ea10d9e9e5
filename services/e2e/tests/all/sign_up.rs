//! Signing up when many do, and when somebody guesses.

use std::collections::HashSet;
use std::sync::Arc;

use spillway_api::{Reason, v1};
use spillway_client::{Client, Identity};
use spillway_types::PhoneNumber;
use tokio::task::JoinSet;

use super::desk::population;
use super::raw::{refusal, request};
use super::support::{Node, PATIENCE, impatient};

const RACERS: usize = 200;

/// Without the limit on a number, which would let only a few through, everybody proves the same number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_sign_ups_of_one_number_make_one_account() {
    let settings = [
        ("QUOTAS__VERIFICATION_START__ENABLED", "false"),
        ("QUOTAS__CODE_CHECK__ENABLED", "false"),
        ("QUOTAS__AUTHENTICATE__ENABLED", "false"),
    ];
    let node = Arc::new(Node::start("one-number", &settings).await);
    let client = node.client().await;
    // One at a time: the phone cannot tell whose code it shows.
    let mut verified = Vec::new();
    for _ in 0..RACERS {
        verified.push(node.verified(&client, 0).await);
    }
    let mut racers = JoinSet::new();
    for verification in verified {
        let (node, client) = (node.clone(), client.clone());
        racers.spawn(async move {
            let identity = node.desk.create(&client, &verification, 0).await.unwrap();
            // Repeated, it answers the same, unless another has taken the place meanwhile.
            // Two hundred at a time may be more than a busy machine can do: then he comes back as he is told.
            let again = async {
                loop {
                    match node.desk.create(&client, &verification, 0).await {
                        Err(error) if error.refusal().is_some_and(|told| told.reason == Reason::Overload) => {
                            tokio::time::sleep(error.refusal().unwrap().retry_after.unwrap()).await;
                        }
                        outcome => return outcome,
                    }
                }
            };
            match tokio::time::timeout(PATIENCE, again).await.unwrap() {
                Ok(again) => assert_eq!(again.credential(), identity.credential()),
                Err(error) => assert_eq!(error.refusal().unwrap().reason, Reason::VerificationNotFound),
            }
            identity
        });
    }
    let identities = racers.join_all().await;
    let accounts: HashSet<_> = identities.iter().map(Identity::account).collect();
    assert_eq!(accounts.len(), 1);

    let mut good = 0;
    for identity in &identities {
        match client.devices().list(request(identity, v1::ListDevicesRequest {})).await {
            Ok(list) => {
                assert_eq!(list.into_inner().devices.len(), 1);
                good += 1;
            }
            Err(status) => assert_eq!(refusal(&status).reason, Reason::Unauthenticated),
        }
    }
    assert_eq!(good, 1, "the last one has the account");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_codes_are_counted_until_no_try_is_left() {
    let node = Node::start(
        "wrong-codes",
        &[
            ("REGISTRATION__VERIFICATION__CHECK_DELAYS", r#"["0s", "0s", "0s", "0s", "0s"]"#),
            ("QUOTAS__CODE_CHECK__ENABLED", "false"),
        ],
    )
    .await;
    let client = node.client().await;
    let person = population().person(0);
    let number = PhoneNumber::parse(&person.number).unwrap();
    node.keep_secret(&person.number);
    let code = node.desk.phones.expect(&person.number);
    let mut verification = client.start_verification(&number, v1::Transport::Sms).await.unwrap();
    let code = code.within(PATIENCE).await.unwrap();
    node.keep_secret(&code);
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let mut tries = 0;
    while verification.checks_left() > 0 || tries == 0 {
        verification = client.check_code(&verification, wrong).await.unwrap();
        assert!(!verification.is_verified());
        tries += 1;
        assert!(tries < 20, "the tries never run out");
    }
    let refused = client.check_code(&verification, &code).await.unwrap_err();
    assert_eq!(refused.refusal().unwrap().reason, Reason::ChecksExhausted, "the right code comes too late");
}

/// The limits of a number and of trying codes hold without any setting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_number_cannot_ask_for_codes_without_end() {
    let node = Node::start("number-quota", &[]).await;
    let client = Client::connect(&node.server.public, impatient()).await.unwrap();
    let person = population().person(0);
    node.keep_secret(&person.number);
    let number = PhoneNumber::parse(&person.number).unwrap();
    let mut started = 0;
    let refused = loop {
        match client.start_verification(&number, v1::Transport::Sms).await {
            Ok(_) => started += 1,
            Err(error) => break error,
        }
        assert!(started < 100, "no limit");
    };
    let refusal = refused.refusal().unwrap();
    assert_eq!(refusal.reason, Reason::Quota);
    assert!(refusal.retry_after.is_some(), "says when to come back");
    assert_eq!(started, 6, "the burst of the table in services/admission");
}

/// A new session brings new tries of its own, but none beyond those of the number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_at_a_numbers_codes_are_limited_over_all_its_sessions() {
    let delays = ("REGISTRATION__VERIFICATION__CHECK_DELAYS", r#"["0s", "0s", "0s", "0s", "0s"]"#);
    let node = Node::start("guesses", &[delays]).await;
    let client = node.client().await;
    let person = population().person(0);
    node.keep_secret(&person.number);
    let number = PhoneNumber::parse(&person.number).unwrap();
    let mut guesses = 0;
    let refused = 'guessing: loop {
        let code = node.desk.phones.expect(&person.number);
        let verification = client.start_verification(&number, v1::Transport::Sms).await.unwrap();
        let code = code.within(PATIENCE).await.unwrap();
        node.keep_secret(&code);
        let wrong = if code == "000000" { "000001" } else { "000000" };
        for _ in 0..3 {
            match client.check_code(&verification, wrong).await {
                Ok(_) => guesses += 1,
                Err(error) => break 'guessing error,
            }
        }
        assert!(guesses < 20, "no limit");
    };
    assert_eq!(refused.refusal().unwrap().reason, Reason::Quota);
    assert_eq!(guesses, 5, "the burst of the table in services/admission");
}
