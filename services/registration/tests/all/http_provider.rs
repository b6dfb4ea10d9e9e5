use std::time::Duration;

use spillway_chassis::Tasks;
use spillway_registration::provider::{
    Code, HttpConfig, HttpProvider, Provider, ProviderError, Sandbox, SandboxConfig,
};
use spillway_store::verifications::Transport;
use spillway_types::PhoneNumber;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::scripted::Scripted;
use crate::world::{NUMBER, PATIENCE, World, config, next_call};

/// Answers one request on each connection with the given bytes; an empty answer is never given.
struct Webhook {
    url: String,
    requests: mpsc::Receiver<String>,
    tasks: Tasks,
}

impl Webhook {
    async fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/send", listener.local_addr().unwrap());
        let (seen, requests) = mpsc::channel(16);
        let tasks = Tasks::new();
        let cancelled = tasks.cancelled();
        tasks.spawn("webhook", async move {
            let serve = async {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut request = Vec::new();
                    while !String::from_utf8_lossy(&request).ends_with('}') {
                        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request ends early");
                    }
                    seen.send(String::from_utf8(request).unwrap()).await.unwrap();
                    if answer.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            };
            tokio::select! { () = serve => {}, () = cancelled => {} }
        });
        Self { url, requests, tasks }
    }

    fn config(&self) -> HttpConfig {
        HttpConfig {
            url: self.url.clone(),
            headers: [("authorization".to_owned(), "Bearer hush".to_owned())].into(),
            body: r#"{"to": "{number}", "text": "Your code: {code}", "by": "{transport}"}"#.to_owned(),
            ..HttpConfig::default()
        }
    }

    async fn send(&self, code: &Code) -> Result<(), ProviderError> {
        let config = HttpConfig { timeout: Duration::from_millis(300), ..self.config() };
        let provider = HttpProvider::new(&config).unwrap();
        let number = PhoneNumber::parse(NUMBER).unwrap();
        provider.send(&number, Transport::Voice, code).await.map(drop)
    }

    async fn stop(self) {
        self.tasks.close_and_wait(PATIENCE).await.unwrap();
    }
}

/// Codes are made only by the role, so one is taken from it.
pub(crate) async fn some_code() -> Code {
    let world = World::new();
    let sandbox = Sandbox::new(SandboxConfig::default(), &Tasks::new());
    let mut delivered = sandbox.watch();
    let node = world.node(config(), std::sync::Arc::new(sandbox));
    node.start(NUMBER).await;
    tokio::time::timeout(PATIENCE, delivered.recv()).await.unwrap().unwrap().code
}

#[tokio::test]
async fn the_webhook_gets_the_filled_template() {
    let mut webhook = Webhook::answering("HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok").await;
    let world = World::new();
    let node = world.node(config(), std::sync::Arc::new(HttpProvider::new(&webhook.config()).unwrap()));
    let session = node.start(NUMBER).await;
    let request = tokio::time::timeout(PATIENCE, webhook.requests.recv()).await.unwrap().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("POST /send HTTP/1.1\r\n") && head.contains("authorization: Bearer hush"),
        "{head}"
    );
    assert!(head.contains("content-type: application/json"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["to"], &body["by"]), (&NUMBER.into(), &"sms".into()));
    let code = body["text"].as_str().unwrap().strip_prefix("Your code: ").unwrap();
    assert!(node.check(&session, code).await.unwrap().verified);
    node.stop().await;
    webhook.stop().await;
}

#[tokio::test]
async fn answers_are_told_apart() {
    let code = some_code().await;
    for (answer, expected) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", "taken"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<garbage>", "taken"),
        ("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", "failed"),
        ("HTTP/1.1 408 Slow\r\ncontent-length: 0\r\n\r\n", "failed"),
        ("HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n", "refused"),
        ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", "refused"),
        ("HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", "throttled for 7s"),
        ("HTTP/1.1 429 Slow\r\nretry-after: soon\r\ncontent-length: 0\r\n\r\n", "throttled for 1s"),
        ("this is not HTTP\r\n\r\n", "unanswered"),
        ("", "unanswered"),
    ] {
        let webhook = Webhook::answering(answer).await;
        let outcome = match webhook.send(&code).await {
            Ok(()) => "taken".to_owned(),
            Err(ProviderError::Throttled { retry_after }) => format!("throttled for {retry_after:?}"),
            Err(ProviderError::Failed(error)) => {
                assert!(!error.to_string().contains("127.0.0.1"), "an address may hold a password: {error}");
                "failed".to_owned()
            }
            Err(ProviderError::Unanswered) => "unanswered".to_owned(),
            Err(ProviderError::Refused(_)) => "refused".to_owned(),
        };
        assert_eq!(outcome, expected, "{answer:?}");
        webhook.stop().await;
    }
}

#[tokio::test]
async fn nobody_listening_is_a_failure() {
    let code = some_code().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let provider = HttpProvider::new(&HttpConfig { url, ..HttpConfig::default() }).unwrap();
    let number = PhoneNumber::parse(NUMBER).unwrap();
    let error = provider.send(&number, Transport::Sms, &code).await.unwrap_err();
    assert!(error.retryable(), "{error}");
}

/// A provider that hangs is cut off by the dispatcher, and the code goes out at the next attempt.
#[tokio::test]
async fn a_call_that_hangs_is_cut_off() {
    let world = World::new();
    let (provider, mut calls) = Scripted::holding();
    let mut impatient = config();
    impatient.dispatch.provider_timeout = Duration::from_millis(20);
    impatient.dispatch.attempts_max = 200.try_into().unwrap();
    let node = world.node(impatient, provider.clone());
    world.run_clock(&node.tasks);
    let session = node.start(NUMBER).await;
    let first = next_call(&mut calls).await;
    next_call(&mut calls).await;
    provider.release(1_000);
    crate::world::until("it is taken", || crate::world::is_queue_empty(&world)).await;
    assert!(node.check(&session, &first.code).await.unwrap().verified);
}
