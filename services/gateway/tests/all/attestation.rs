//! Devices that are asked who they are when their turn has come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use spillway_api::Reason;
use spillway_api::v1::place::State;
use spillway_gateway::{
    Attestation, AttestationConfig, AttestationError, Config, Evidence, RoomConfig, Verdict,
    WebhookAttestation, WebhookConfig,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::room::{Phone, poll, publish};
use super::support::{Node, assert_refused};

/// Believes what a device says of itself, and knows nothing of those who say nothing.
#[derive(Debug, Default)]
struct Credulous {
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl Attestation for Credulous {
    async fn judge(&self, evidence: &Evidence<'_>) -> Result<Verdict, AttestationError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match evidence.statement {
            b"a phone" => Ok(Verdict::Genuine),
            b"a script" => Ok(Verdict::Counterfeit),
            _ => Err(AttestationError("no idea".into())),
        }
    }
}

fn asked_by(attestation: &Arc<Credulous>, admit_unjudged: bool) -> Node {
    let asked = AttestationConfig { admit_unjudged, ..AttestationConfig::default() };
    let room = RoomConfig { required: true, attestation: Some(asked), ..RoomConfig::default() };
    let attestation = Arc::clone(attestation) as Arc<dyn Attestation>;
    Node::asking(Config { room, ..Config::default() }, Some(attestation))
}

#[tokio::test(start_paused = true)]
async fn a_machine_waits_like_everybody_and_is_never_called() {
    let attestation = Arc::default();
    let node = asked_by(&attestation, false);
    publish(&node, 1, 5).await;
    let (honest, machine) = (Phone::new(1), Phone::new(2));
    let place = machine.enter(&node).await.unwrap();
    assert_refused(machine.claim_with(&node, &place, b"a script").await, Reason::WaitingRoom);
    let waiting = poll(&node, &place).await.unwrap();
    assert!(matches!(waiting.state, Some(State::Waiting(_))), "{waiting:?}");
    // Neither with the ticket of before nor with the one of now, nor at a gateway that has not seen it.
    assert_refused(machine.claim_with(&node, &place, b"a phone").await, Reason::WaitingRoom);
    let other = asked_by(&attestation, false);
    publish(&other, 1, 5).await;
    let still = poll(&other, &waiting).await.unwrap();
    assert!(matches!(still.state, Some(State::Waiting(_))), "{still:?}");
    assert_eq!(attestation.asked.load(Ordering::Relaxed), 1, "it is not asked about again");

    let place = honest.enter(&node).await.unwrap();
    honest.claim_with(&node, &place, b"a phone").await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let reports = node.control.state().reports.clone();
    let counted: u64 = reports.iter().flat_map(|report| &report.claimed).map(|claim| claim.count).sum();
    assert_eq!(counted, 1, "the machine has not come");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_called_while_nobody_can_judge() {
    let node = asked_by(&Arc::default(), false);
    publish(&node, 1, 5).await;
    let phone = Phone::new(1);
    let place = phone.enter(&node).await.unwrap();
    let refused = assert_refused(phone.claim_with(&node, &place, b"").await, Reason::Unavailable);
    assert_eq!(refused.retry_after, Some(Duration::from_secs(5)));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let spare = |node: &Node| node.control.state().reports.back().and_then(|report| report.spare);
    assert_eq!(spare(&node), Some(0.0));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_ne!(spare(&node), Some(0.0), "or nobody would ever find out that it is over");
    phone.claim_with(&node, &place, b"a phone").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_operator_may_let_in_whom_nobody_can_judge() {
    let node = asked_by(&Arc::default(), true);
    publish(&node, 1, 5).await;
    let (phone, machine) = (Phone::new(1), Phone::new(2));
    let place = phone.enter(&node).await.unwrap();
    phone.claim_with(&node, &place, b"").await.unwrap();
    let place = machine.enter(&node).await.unwrap();
    assert_refused(machine.claim_with(&node, &place, b"a script").await, Reason::WaitingRoom);
    let endless = vec![0; 16 * 1024 + 1];
    assert_refused(phone.claim_with(&node, &place, &endless).await, Reason::InvalidArgument);
}

/// What is judged by a webhook that answers so, and what it was asked.
async fn webhook(evidence: &Evidence<'_>, answer: &str) -> (Result<Verdict, AttestationError>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/judge", listener.local_addr().unwrap());
    let serve = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !String::from_utf8_lossy(&request).ends_with('}') {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request ends early");
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    };
    let headers = BTreeMap::from([("authorization".to_owned(), "Bearer hush".to_owned())]);
    let config = WebhookConfig { url, headers, ..WebhookConfig::default() };
    let webhook = WebhookAttestation::new(&config).unwrap();
    tokio::join!(webhook.judge(evidence), serve)
}

#[tokio::test]
async fn a_webhook_is_asked_once_and_only_its_verdict_counts() {
    let answer = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let evidence = Evidence { statement: b"a phone", challenge: b"now", device_key: &[7; 32] };
    for (verdict, is) in [("genuine", Verdict::Genuine), ("counterfeit", Verdict::Counterfeit)] {
        let body = format!(r#"{{"verdict": "{verdict}", "why": "not read"}}"#);
        let (verdict, request) = webhook(&evidence, &answer("200 OK", &body)).await;
        assert_eq!(verdict.unwrap(), is);
        assert!(request.starts_with("POST /judge ") && request.contains("authorization: Bearer hush"));
        assert!(request.contains(r#"{"statement":"YSBwaG9uZQ==","challenge":"bm93","device_key":"BwcH"#));
    }
    let genuine = r#"{"verdict": "genuine"}"#;
    for wrong in [
        answer("500 Internal Server Error", genuine),
        answer("302 Found\r\nlocation: http://127.0.0.1:1/", genuine),
        answer("200 OK", r#"{"verdict": "probably"}"#),
        answer("200 OK", "<html>"),
        "gibberish".to_owned(),
    ] {
        let (verdict, _) = webhook(&evidence, &wrong).await;
        verdict.expect_err(&wrong);
    }
    let nobody = WebhookConfig { url: "http://127.0.0.1:1/".to_owned(), ..WebhookConfig::default() };
    let error = WebhookAttestation::new(&nobody).unwrap().judge(&evidence).await.unwrap_err();
    assert!(!format!("{error:?}").contains("127.0.0.1:1/"), "addresses may hold passwords: {error:?}");
}

#[tokio::test]
async fn the_secret_of_a_webhook_is_never_printed() {
    let headers = BTreeMap::from([("authorization".to_owned(), "Bearer hush".to_owned())]);
    let url = "https://user:password@judge.example".to_owned();
    let config = WebhookConfig { url, headers, ..WebhookConfig::default() };
    let debug = format!("{config:?} {:?}", WebhookAttestation::new(&config).unwrap());
    assert!(!debug.contains("hush") && !debug.contains("password"), "{debug}");
    assert!(!serde_json::to_string(&config).unwrap().contains("hush"));
}
