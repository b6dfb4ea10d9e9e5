//! A service that asks a webhook about devices when their turn has come.

use std::time::Duration;

use bytes::Bytes;
use spillway_client::{Attest, Client, ClientConfig, DeviceSecret, Standing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::support::{Node, PATIENCE, eventually};

/// "a phone" and "a script" in base64; of others it knows nothing.
const PHONE: &str = r#""statement":"YSBwaG9uZQ==""#;
const SCRIPT: &str = r#""statement":"YSBzY3JpcHQ=""#;

async fn judge(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !String::from_utf8_lossy(&request).ends_with('}') {
            if stream.read_buf(&mut request).await.unwrap() == 0 {
                break;
            }
        }
        let request = String::from_utf8_lossy(&request).into_owned();
        let (status, body) = match () {
            () if request.contains(PHONE) => ("200 OK", r#"{"verdict":"genuine"}"#),
            () if request.contains(SCRIPT) => ("200 OK", r#"{"verdict":"counterfeit"}"#),
            () => ("500 Internal Server Error", ""),
        };
        let answer =
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn client(node: &Node, statement: &'static str) -> Client {
    let attest = Attest::new(move |challenge: Bytes| {
        assert!(!challenge.is_empty());
        Box::pin(async move { Bytes::from_static(statement.as_bytes()) })
    });
    let config = ClientConfig { attest: Some(attest), ..ClientConfig::default() };
    Client::connect(&node.server.public, config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_gets_in_and_a_script_waits_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/judge", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(judge(listener));
    let settings =
        [("GATEWAY__ROOM__REQUIRED", "true"), ("GATEWAY__ROOM__ATTESTATION__WEBHOOK__URL", url.as_str())];
    let node = Node::start("attestation", &settings).await;
    // Until somebody holds the lease.
    let phone = client(&node, "a phone").await;
    eventually("the phone gets in", async || {
        let secret = DeviceSecret::from_bytes(&[1; 32]);
        timeout(PATIENCE, phone.wait_for_admission(&secret, &mut None, |_| {}))
            .await
            .is_ok_and(|got| got.is_ok())
    })
    .await;

    let script = client(&node, "a script").await;
    let secret = DeviceSecret::from_bytes(&[2; 32]);
    let (mut place, standing) = script.enter(&secret).await.unwrap();
    assert!(matches!(standing, Standing::Waiting(_)), "{standing:?}");
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let standing = script.poll(&secret, &mut place).await.unwrap();
        assert!(matches!(standing, Standing::Waiting(_)), "{standing:?}");
    }
}
