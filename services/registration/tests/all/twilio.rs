use std::time::Duration;

use spillway_chassis::Tasks;
use spillway_registration::provider::{Provider, ProviderError, Twilio, TwilioConfig};
use spillway_store::verifications::Transport;
use spillway_types::PhoneNumber;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::http_provider::some_code;
use crate::world::{NUMBER, PATIENCE};

/// Answers every request with the given bytes.
struct Fake {
    config: TwilioConfig,
    requests: mpsc::Receiver<String>,
    tasks: Tasks,
}

impl Fake {
    async fn answering(status: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, requests) = mpsc::channel(16);
        let tasks = Tasks::new();
        let cancelled = tasks.cancelled();
        tasks.spawn("fake", async move {
            let serve = async {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    seen.send(read_request(&mut stream).await).await.unwrap();
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            };
            tokio::select! { () = serve => {}, () = cancelled => {} }
        });
        let config = TwilioConfig {
            account_sid: "AC0".to_owned(),
            auth_token: "hush".to_owned(),
            from: "+15005550006".to_owned(),
            base_url,
            timeout: Duration::from_secs(5),
            ..TwilioConfig::default()
        };
        Self { config, requests, tasks }
    }

    async fn send(&self, transport: Transport) -> Result<(), ProviderError> {
        let number = PhoneNumber::parse(NUMBER).unwrap();
        let twilio = Twilio::new(&self.config, true).unwrap();
        twilio.send(&number, transport, &some_code().await).await.map(drop)
    }

    async fn stop(self) {
        self.tasks.close_and_wait(PATIENCE).await.unwrap();
    }
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request ends early");
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() == length.parse::<usize>().unwrap() {
            return text;
        }
    }
}

const CREATED: &str = r#"{"sid": "SM0", "status": "queued", "error_code": null, "price": null}"#;

#[tokio::test]
async fn messages_and_calls_are_asked_for_as_documented() {
    let mut fake = Fake::answering("201 CREATED", CREATED).await;
    fake.send(Transport::Sms).await.unwrap();
    let request = fake.requests.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /2010-04-01/Accounts/AC0/Messages.json HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
    // "AC0:hush".
    assert!(head.contains("authorization: Basic QUMwOmh1c2g="), "{head}");
    assert!(body.starts_with("To=%2B4930123456&From=%2B15005550006&Body=Your+code+is+"), "{body}");

    fake.send(Transport::Voice).await.unwrap();
    let request = fake.requests.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /2010-04-01/Accounts/AC0/Calls.json HTTP/1.1\r\n"), "{head}");
    assert!(body.contains("&Twiml=%3CResponse%3E%3CSay%3EYour+code+is+"), "{body}");

    fake.config.messaging_service_sid = "MG0".to_owned();
    fake.send(Transport::Sms).await.unwrap();
    let request = fake.requests.recv().await.unwrap();
    assert!(request.contains("&MessagingServiceSid=MG0&") && !request.contains("From="), "{request}");
    fake.stop().await;
}

#[tokio::test]
async fn answers_are_told_apart() {
    for (status, body, expected) in [
        ("201 CREATED", CREATED, "taken"),
        ("201 CREATED", "<html>garbage</html>", "failed"),
        ("201 CREATED", "", "failed"),
        ("201 CREATED", r#"{"sid": "SM0", "status": "failed", "error_code": 30003}"#, "failed"),
        ("429 Too Many Requests", r#"{"code": 20429, "status": 429}"#, "throttled"),
        ("429 Too Many Requests", "", "throttled"),
        ("400 Bad Request", r#"{"code": 30022, "status": 400}"#, "throttled"),
        (
            "400 Bad Request",
            r#"{"code": 21211, "message": "The 'To' number +4930123456 is not valid", "status": 400}"#,
            "refused",
        ),
        ("400 Bad Request", r#"{"code": 21610, "status": 400}"#, "refused"),
        ("400 Bad Request", r#"{"code": 30006, "status": 400}"#, "failed"),
        ("401 Unauthorized", r#"{"code": 20003, "status": 401}"#, "failed"),
        ("500 Oops", "", "failed"),
        ("503 Oops", r#"{"code": 20503, "status": 503}"#, "failed"),
        ("302 Found", "", "failed"),
    ] {
        let fake = Fake::answering(status, body).await;
        let outcome = match fake.send(Transport::Sms).await {
            Ok(()) => "taken".to_owned(),
            Err(error) => {
                let told = format!("{error:?} {error}");
                assert!(!told.contains("4930123456") && !told.contains("hush"), "{told}");
                match error {
                    ProviderError::Throttled { .. } => "throttled".to_owned(),
                    ProviderError::Failed(_) => "failed".to_owned(),
                    ProviderError::Refused(_) => "refused".to_owned(),
                }
            }
        };
        assert_eq!(outcome, expected, "{status} {body}");
        fake.stop().await;
    }
}
