use std::time::Duration;

use futures::future::join_all;
use spillway_api::internal::v1 as internal;
use spillway_api::{Reason, Refusal, v1};
use spillway_store::verifications::Transport;
use spillway_types::Clock as _;
use tonic::{Response, Status};

use crate::scripted::Scripted;
use crate::world::{
    NUMBER, Node, OTHER_NUMBER, World, config, is_queue_empty, next_call, reason, seconds, until,
};

fn wrong(code: &str) -> &'static str {
    if code == "000000" { "000001" } else { "000000" }
}

#[tokio::test]
async fn a_right_code_verifies_and_keeps_verified() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let session = node.start(NUMBER).await;
    assert!(!session.verified);
    assert_eq!((seconds(session.next_sms), session.next_voice, session.next_check), (Some(60), None, None));

    let call = next_call(&mut calls).await;
    assert_eq!((&*call.number, call.transport), (NUMBER, Transport::Sms));
    let missed = node.check(&session, wrong(&call.code)).await.unwrap();
    assert_eq!((missed.verified, missed.checks_left), (false, 5));
    assert_eq!((seconds(missed.next_check), seconds(missed.next_voice)), (Some(0), Some(60)));
    assert_eq!(seconds(missed.code_expires_in), Some(600));

    let right = node.check(&session, &call.code).await.unwrap();
    assert!(right.verified);
    assert_eq!((right.next_sms, right.next_voice, right.next_check), (None, None, None));
    let again = node.check(&session, "anything").await.unwrap();
    assert_eq!((again.verified, again.checks_left), (true, 4), "a verified session counts nothing");
}

#[tokio::test]
async fn wrong_codes_are_spaced_and_capped() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let session = node.start(NUMBER).await;
    let code = next_call(&mut calls).await.code;
    for (left, wait) in [(5, 0), (4, 0), (3, 5), (2, 15), (1, 60), (0, 0)] {
        let answer = node.check(&session, wrong(&code)).await.unwrap();
        assert_eq!((answer.verified, answer.checks_left), (false, left));
        if wait > 0 {
            assert_eq!(seconds(answer.next_check), Some(wait));
            world.clock.advance(Duration::from_secs(wait as u64) - Duration::from_micros(1));
            let early = Refusal::from_status(&node.check(&session, &code).await.unwrap_err()).unwrap();
            assert_eq!(early.reason, Reason::Quota);
            assert_eq!(early.retry_after, Some(Duration::from_micros(1)));
            world.clock.advance(Duration::from_micros(1));
        }
    }
    let exhausted = node.check(&session, &code).await.unwrap_err();
    assert_eq!(reason(&exhausted), Reason::ChecksExhausted, "even with the right code");
}

#[tokio::test]
async fn tries_that_race_are_all_counted() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let mut config = config();
    config.verification.check_delays = vec![Duration::ZERO; 5];
    let node = world.node(config, provider);
    let session = node.start(NUMBER).await;
    let code = next_call(&mut calls).await.code;
    let tries = join_all((0..60).map(|_| node.check(&session, wrong(&code)))).await;
    let mut left: Vec<u32> = tries.iter().flatten().map(|answer| answer.checks_left).collect();
    left.sort_unstable();
    assert_eq!(left, [0, 1, 2, 3, 4, 5], "six tries, each counted once");
    assert!(
        tries.iter().flat_map(|answer| answer.as_ref().err()).all(|s| reason(s) == Reason::ChecksExhausted)
    );
}

#[tokio::test]
async fn no_code_can_be_tried_before_its_hand_over() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    provider.fail_next([crate::scripted::failed()]);
    let mut slow = config();
    slow.dispatch.backoff_min = Duration::from_secs(3_600);
    slow.dispatch.backoff_max = Duration::from_secs(3_600);
    let node = world.node(slow, provider);
    let session = node.start(NUMBER).await;
    let code = next_call(&mut calls).await.code;
    let early = node.check(&session, &code).await.unwrap_err();
    assert_eq!(reason(&early), Reason::CodeNotSent);
}

/// The phone can be faster than the disk: the check waits for the record of the hand-over that is under way.
#[tokio::test]
async fn a_code_that_overtakes_its_record_is_good() {
    let world = World::new();
    let (provider, mut calls) = Scripted::holding();
    let node = world.node(config(), provider.clone());
    let session = node.start(NUMBER).await;
    let code = next_call(&mut calls).await.code;
    let (answer, ()) = tokio::join!(node.check(&session, &code), async { provider.release(1) });
    assert!(answer.unwrap().verified);
}

#[tokio::test]
async fn a_codes_life_starts_at_its_hand_over() {
    let world = World::new();
    let (provider, mut calls) = Scripted::holding();
    let node = world.node(config(), provider.clone());
    let session = node.start(NUMBER).await;
    let code = next_call(&mut calls).await.code;
    world.clock.advance(Duration::from_secs(400));
    provider.release(1);
    let (answer, _) = tokio::join!(node.check(&session, wrong(&code)), async {});
    let answer = answer.unwrap();
    assert_eq!(seconds(answer.code_expires_in), Some(1_600), "four times the 400 s it took");
    assert_eq!(seconds(answer.delivery_estimate), Some(400));

    world.clock.advance(Duration::from_secs(1_599));
    node.check(&session, wrong(&code)).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    let late = node.check(&session, &code).await.unwrap_err();
    assert!(matches!(reason(&late), Reason::CodeExpired | Reason::VerificationNotFound), "{late:?}");
}

#[tokio::test]
async fn a_resend_replaces_a_code_that_waits() {
    let world = World::new();
    let (provider, mut calls) = Scripted::holding();
    let mut narrow = config();
    narrow.dispatch.concurrency = 1.try_into().unwrap();
    let node = world.node(narrow, provider.clone());
    let first = node.start(NUMBER).await;
    assert_eq!(next_call(&mut calls).await.number, NUMBER);
    let waiting = node.start(OTHER_NUMBER).await;
    let early = node.resend(&waiting, v1::Transport::Sms).await.unwrap_err();
    assert_eq!(reason(&early), Reason::Quota);
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(60));
        node.resend(&waiting, v1::Transport::Sms).await.unwrap();
    }
    provider.release(100);
    let call = next_call(&mut calls).await;
    assert_eq!(call.number, OTHER_NUMBER);
    assert!(node.check(&waiting, &call.code).await.unwrap().verified);
    assert!(!node.check(&first, "").await.unwrap().verified);
    node.stop().await;
    assert!(calls.try_recv().is_err(), "one code for each session, however often it was asked for");
}

#[tokio::test]
async fn resends_are_spaced_counted_and_carry_the_same_code() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let session = node.start(NUMBER).await;
    let first = next_call(&mut calls).await;
    let no_call_yet = node.check(&session, wrong(&first.code)).await.unwrap();
    assert_eq!(seconds(no_call_yet.next_voice), Some(60));

    world.clock.advance(Duration::from_secs(60));
    node.resend(&session, v1::Transport::Voice).await.unwrap();
    let call = next_call(&mut calls).await;
    assert_eq!((call.transport, &call.code), (Transport::Voice, &first.code));
    until("the call is recorded", || is_queue_empty(&world)).await;
    for wait in [0, 180, 600] {
        world.clock.advance(Duration::from_secs(wait));
        node.resend(&session, v1::Transport::Sms).await.unwrap();
        assert_eq!(next_call(&mut calls).await.code, first.code);
        until("the SMS is recorded", || is_queue_empty(&world)).await;
    }
    world.clock.advance(Duration::from_secs(300));
    let over = node.resend(&session, v1::Transport::Sms).await.unwrap_err();
    assert_eq!(reason(&over), Reason::ResendsExhausted);
}

#[tokio::test]
async fn a_pass_opens_one_session_however_often_and_wherever_it_is_shown() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let (one, other) = (world.node(config(), provider.clone()), world.node(config(), provider));
    let pass = internal::Pass { room: 0, number: 7, shown_for: None };
    let start = start_with;
    let (first, again) = tokio::join!(start(&one, NUMBER, pass), start(&other, NUMBER, pass));
    let (first, again) = (first.unwrap(), again.unwrap());
    assert_eq!(first.session_id, again.session_id);
    let used = start(&other, OTHER_NUMBER, pass).await.unwrap_err();
    assert_eq!(reason(&used), Reason::AdmissionUsed);

    let code = next_call(&mut calls).await.code;
    assert!(one.check(&first, &code).await.unwrap().verified);
    assert!(start(&one, NUMBER, pass).await.unwrap().verified, "it is the same session still");
    let next = start(&one, OTHER_NUMBER, internal::Pass { number: 8, ..pass }).await.unwrap();
    assert_ne!(next.session_id, first.session_id);
    assert_eq!(next_call(&mut calls).await.number, OTHER_NUMBER);
}

async fn start_with(
    node: &Node,
    number: &str,
    pass: internal::Pass,
) -> Result<v1::VerificationSession, Status> {
    let request = internal::StartVerificationRequest {
        number: number.to_owned(),
        pass: Some(pass),
        ..Default::default()
    };
    node.client.clone().start_verification(request).await.map(Response::into_inner)
}

#[tokio::test]
async fn a_place_opens_no_second_session_while_it_can_be_shown() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let shown_for = prost_types::Duration { seconds: 4_205, nanos: 0 };
    let pass = internal::Pass { room: 0, number: 7, shown_for: Some(shown_for) };
    let first = start_with(&node, NUMBER, pass).await.unwrap();
    next_call(&mut calls).await;
    until("the SMS is recorded", || is_queue_empty(&world)).await;

    // The session is over; whoever claims his ticket again has a good pass still.
    world.clock.advance(Duration::from_secs(4_204));
    world.store.verifications.expire(world.clock.now()).await.unwrap();
    assert_eq!(reason(&node.check(&first, "").await.unwrap_err()), Reason::VerificationNotFound);
    for number in [NUMBER, OTHER_NUMBER] {
        let used = start_with(&node, number, pass).await.unwrap_err();
        assert_eq!(reason(&used), Reason::AdmissionUsed);
    }
    assert!(calls.try_recv().is_err(), "nothing is sent for a place that was used");

    // No pass of this place can be good by now, and nothing is kept of it.
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(world.store.verifications.expire(world.clock.now()).await.unwrap(), 1);
    let never = prost_types::Duration { seconds: -1, nanos: 0 };
    let wrong = internal::Pass { shown_for: Some(never), ..pass };
    assert_eq!(reason(&start_with(&node, NUMBER, wrong).await.unwrap_err()), Reason::InvalidArgument);
}

#[tokio::test]
async fn wrong_requests_name_their_field_and_expired_sessions_are_gone() {
    let world = World::new();
    let (provider, mut calls) = Scripted::accepting();
    let node = world.node(config(), provider);
    let mut client = node.client.clone();
    let voice = internal::StartVerificationRequest {
        number: NUMBER.to_owned(),
        transport: v1::Transport::Voice.into(),
        ..Default::default()
    };
    let network = internal::StartVerificationRequest {
        number: NUMBER.to_owned(),
        network: vec![1; 7].into(),
        ..Default::default()
    };
    for request in [internal::StartVerificationRequest::default(), voice, network] {
        let status = client.start_verification(request).await.unwrap_err();
        assert_eq!(reason(&status), Reason::InvalidArgument);
    }
    let session = node.start(NUMBER).await;
    let code = next_call(&mut calls).await.code;
    node.check(&session, wrong(&code)).await.unwrap();
    world.clock.advance(Duration::from_secs(3_600));
    assert_eq!(reason(&node.check(&session, &code).await.unwrap_err()), Reason::VerificationNotFound);
    let resend = node.resend(&session, v1::Transport::Sms).await.unwrap_err();
    assert_eq!(reason(&resend), Reason::VerificationNotFound);
}
