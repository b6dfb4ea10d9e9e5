use std::time::Duration;

use spillway_chassis::Tasks;
use spillway_registration::provider::{Delivery, Provider, ProviderError, Receipt, Twilio, TwilioConfig};
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
        Self::telling(status, body, &[]).await
    }

    /// Asked what became of a message, it gives these answers, and the last of them again and again.
    async fn telling(
        status: &'static str,
        body: &'static str,
        answers: &'static [(&'static str, &'static str)],
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, requests) = mpsc::channel(16);
        let tasks = Tasks::new();
        let cancelled = tasks.cancelled();
        let mut answers = Answers(answers);
        tasks.spawn("fake", async move {
            let serve = async {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let request = read_request(&mut stream).await;
                    let (status, body) =
                        if request.starts_with("GET ") { answers.next() } else { (status, body) };
                    seen.send(request).await.unwrap();
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
            receipt_after: Duration::from_millis(5),
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

struct Answers(&'static [(&'static str, &'static str)]);

impl Answers {
    fn next(&mut self) -> (&'static str, &'static str) {
        let (first, rest) = self.0.split_first().unwrap();
        if !rest.is_empty() {
            self.0 = rest;
        }
        *first
    }
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request ends early");
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() == length.map_or(0, |length| length.parse().unwrap()) {
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

/// Asked until it says something final; what is garbage, refused or on its way says nothing.
#[tokio::test]
async fn it_is_asked_what_became_of_a_message() {
    for (last, delivery) in [
        (r#"{"sid": "SM0", "status": "delivered", "error_code": null}"#, Delivery::Arrived),
        (r#"{"sid": "SM0", "status": "undelivered", "error_code": 30005}"#, Delivery::Failed),
    ] {
        let answers: &'static [(&str, &str)] = Box::leak(Box::new([
            ("200 OK", r#"{"sid": "SM0", "status": "sending", "error_code": null}"#),
            ("200 OK", "<garbage>"),
            ("429 Too Many Requests", r#"{"code": 20429, "status": 429}"#),
            ("500 Oops", ""),
            ("200 OK", last),
        ]));
        let mut fake = Fake::telling("201 CREATED", CREATED, answers).await;
        let twilio = Twilio::new(&fake.config, true).unwrap();
        let number = PhoneNumber::parse(NUMBER).unwrap();
        let accepted = twilio.send(&number, Transport::Sms, &some_code().await).await.unwrap();
        assert_eq!(accepted.message.as_deref(), Some("SM0"));
        let receipt = tokio::time::timeout(PATIENCE, twilio.next_receipt()).await.unwrap();
        assert_eq!(receipt, Receipt { message: "SM0".to_owned(), delivery });
        fake.requests.recv().await.unwrap();
        for _ in answers {
            let request = fake.requests.recv().await.unwrap();
            assert!(
                request.starts_with("GET /2010-04-01/Accounts/AC0/Messages/SM0.json HTTP/1.1\r\n"),
                "{request}"
            );
            assert!(request.contains("authorization: Basic QUMwOmh1c2g="), "{request}");
        }
        // Of calls nothing is asked.
        let called = twilio.send(&number, Transport::Voice, &some_code().await).await.unwrap();
        assert_eq!(called.message, None);
        fake.stop().await;
    }
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
                    ProviderError::Unanswered => "unanswered".to_owned(),
                    ProviderError::Refused(_) => "refused".to_owned(),
                }
            }
        };
        assert_eq!(outcome, expected, "{status} {body}");
        fake.stop().await;
    }
}
