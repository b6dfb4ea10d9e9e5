//! The waiting room of a real process: who comes waits in order, and keeps his place when the process is killed.

use std::process::Stdio;
use std::time::Duration;

use spillway_api::{Reason, v1};
use spillway_client::{Admission, CallError, Client, DeviceSecret, Place, Standing};
use spillway_types::PhoneNumber;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::desk::population;
use super::support::{Node, PATIENCE, binary, eventually};

/// Let in a second, and how many come.
const RATE: f64 = 5.0;
const PEOPLE: u8 = 40;

fn reason<T: std::fmt::Debug>(outcome: Result<T, CallError>) -> Reason {
    outcome.unwrap_err().refusal().unwrap().reason
}

fn number(index: u64) -> PhoneNumber {
    PhoneNumber::parse(&population().person(index).number).unwrap()
}

/// The next second may be needed until somebody holds the lease.
async fn enter(client: &Client, secret: &DeviceSecret) -> (Place, Standing) {
    let until = Instant::now() + PATIENCE;
    loop {
        match client.enter(secret).await {
            Ok(entered) => return entered,
            Err(error) => assert!(Instant::now() < until, "{error:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_wait_in_order_and_keep_their_places_over_kill_9() {
    let settings =
        [("GATEWAY__ROOM__REQUIRED", "true"), ("CONTROL__ROOM__SIGN_UPS_PER_SECOND", &RATE.to_string())];
    let mut node = Node::start("room", &settings).await;
    let client = node.client().await;
    let alone = client.start_verification(&number(0), v1::Transport::Sms).await;
    assert_eq!(reason(alone), Reason::WaitingRoom);

    let began = Instant::now();
    let mut people: Vec<(DeviceSecret, Place, Option<Admission>)> = Vec::new();
    for seed in 1..=PEOPLE {
        let secret = DeviceSecret::from_bytes(&[seed; 32]);
        let (place, standing) = enter(&client, &secret).await;
        let admission = if let Standing::Admitted(admission) = standing { Some(admission) } else { None };
        people.push((secret, place, admission));
    }
    assert!(people.last().unwrap().2.is_none(), "{PEOPLE} do not get in at once");
    // Until control has told the store of them.
    sleep(Duration::from_secs(3)).await;
    node.kill().await;
    node.start_again().await;
    let client = node.client().await;

    let until = Instant::now() + PATIENCE;
    while people.iter().any(|(_, _, admission)| admission.is_none()) {
        assert!(
            Instant::now() < until,
            "{:?}",
            people.iter().map(|person| person.2.is_some()).collect::<Vec<_>>()
        );
        // From the last to the first, since the frontier may move between two polls: who asks later and is further ahead has been
        // called by then.
        let mut called = false;
        for (secret, place, admission) in people.iter_mut().rev() {
            if admission.is_some() {
                called = true;
                continue;
            }
            match client.poll(secret, place).await.unwrap() {
                Standing::Admitted(admitted) => {
                    called = true;
                    *admission = Some(admitted);
                }
                Standing::Waiting(_) => assert!(!called, "somebody was overtaken"),
                Standing::Over => panic!("a place was lost"),
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
    // Until claims are counted three in ten are expected to stay away.
    let least = f64::from(PEOPLE) / RATE * 0.3;
    assert!(began.elapsed().as_secs_f64() > least, "all in after {:?}", began.elapsed());

    let (_, _, admission) = people.remove(0);
    let admission = admission.unwrap();
    let code = node.desk.phones.expect(&population().person(0).number);
    let session =
        client.start_admitted_verification(&number(0), v1::Transport::Sms, &admission).await.unwrap();
    let again = client.start_admitted_verification(&number(0), v1::Transport::Sms, &admission).await.unwrap();
    assert_eq!(session.session_id(), again.session_id());
    let other = client.start_admitted_verification(&number(1), v1::Transport::Sms, &admission).await;
    assert_eq!(reason(other), Reason::AdmissionUsed);
    let code = code.within(PATIENCE).await.expect("a code arrives");
    node.keep_secret(&code);
    assert!(client.check_code(&session, &code).await.unwrap().is_verified());
}

async fn order(node: &Node, words: &[&str]) -> (bool, String) {
    let admin = node.server.admin.strip_prefix("http://").unwrap();
    let mut command = Command::new(binary());
    let output = command.arg("room").args(words).args(["--admin", admin]).stdin(Stdio::null()).output();
    let output = output.await.unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_freezes_and_opens_the_room() {
    let node = Node::start("room-order", &[]).await;
    let client = node.client().await;
    let secret = DeviceSecret::from_bytes(&[1; 32]);
    enter(&client, &secret).await;
    let (taken, said) = order(&node, &["rate", "-1"]).await;
    assert!(!taken, "{said}");
    let (taken, said) = order(&node, &["freeze"]).await;
    assert!(taken && said.contains("ordered freeze"), "{said}");
    let mut place = None;
    eventually("the order has reached the gateway", || {
        let (client, secret) = (client.clone(), DeviceSecret::from_bytes(&[2; 32]));
        async move {
            let (_, standing) = client.enter(&secret).await.unwrap();
            matches!(standing, Standing::Waiting(wait) if wait.reason == v1::WaitReason::Frozen)
        }
    })
    .await;
    let (mut waiting, standing) = client.enter(&secret).await.unwrap();
    assert!(matches!(standing, Standing::Waiting(_)), "{standing:?}");
    assert!(order(&node, &["open"]).await.0);
    let until = Instant::now() + PATIENCE;
    while place.is_none() {
        assert!(Instant::now() < until, "nobody is let in");
        sleep(Duration::from_millis(100)).await;
        if let Standing::Admitted(admission) = client.poll(&secret, &mut waiting).await.unwrap() {
            place = Some(admission);
        }
    }
    let (_, said) = order(&node, &["auto"]).await;
    assert!(said.contains("ordered auto"), "{said}");
    assert!(node.metric("spillway_gateway_room_answers_total", "\"waiting\"").await >= 2.0);
    assert!(node.metric("spillway_gateway_room_answers_total", "\"admitted\"").await >= 1.0);
    assert!(node.metric("spillway_control_room_issued", "").await >= 3.0);
}

/// On a quiet day nobody notices that there is a room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_room_lets_everybody_in_at_once() {
    let node = Node::start("empty-room", &[("GATEWAY__ROOM__REQUIRED", "true")]).await;
    let client = node.client().await;
    // The first ones may be earlier than the first frontier.
    let secret = DeviceSecret::from_bytes(&[1; 32]);
    let (mut place, mut standing) = enter(&client, &secret).await;
    let until = Instant::now() + PATIENCE;
    while !matches!(standing, Standing::Admitted(_)) {
        assert!(Instant::now() < until, "{standing:?}");
        sleep(Duration::from_millis(50)).await;
        standing = client.poll(&secret, &mut place).await.unwrap();
    }
    for seed in 2..=10 {
        let (_, standing) = client.enter(&DeviceSecret::from_bytes(&[seed; 32])).await.unwrap();
        assert!(matches!(standing, Standing::Admitted(_)), "{seed}: {standing:?}");
    }
}
