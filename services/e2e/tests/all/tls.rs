//! TLS of the public port.

use std::fs;
use std::path::{Path, PathBuf};

use spillway_api::{Reason, Refusal, v1, v1::devices_client::DevicesClient};
use spillway_rpc::{Channel, ClientTls, TcpConfig, tcp};
use tonic::{Code, Status};

use super::raw::refusal;
use super::support::{Node, eventually};

/// Writes a new key and a certificate for localhost.
fn renew(folder: &Path) -> (PathBuf, PathBuf) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    fs::write(&certificate, pair.cert.pem()).unwrap();
    fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

fn connect(node: &Node, trusted: &Path) -> Channel {
    let port = node.server.public.rsplit_once(':').unwrap().1;
    let endpoint = format!("https://localhost:{port}").parse().unwrap();
    tcp(endpoint, &TcpConfig::default(), Some(&ClientTls::trusting(trusted).unwrap())).unwrap()
}

/// Nobody is signed in, so an answer is a refusal of the service; one of the transport has another reason.
async fn answer(channel: &Channel) -> Status {
    DevicesClient::new(channel.clone()).list(v1::ListDevicesRequest {}).await.unwrap_err()
}

async fn is_answered(channel: &Channel) -> bool {
    refusal(&answer(channel).await).reason == Reason::Unauthenticated
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_served_after_a_hang_up_and_old_connections_live_on() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = renew(folder.path());
    let settings =
        [("TLS__CERTIFICATE", certificate.to_str().unwrap()), ("TLS__PRIVATE_KEY", key.to_str().unwrap())];
    let node = Node::start("tls", &settings).await;
    let before = connect(&node, &certificate);
    assert!(is_answered(&before).await);
    let plain = super::support::connect(&node.server.public).await;
    let status = plain.devices().list(v1::ListDevicesRequest {}).await.unwrap_err();
    assert_eq!(Refusal::from_status(&status), None, "nothing is served without TLS");

    let old = folder.path().join("old.crt");
    fs::copy(&certificate, &old).unwrap();
    renew(folder.path());
    node.server.signal("HUP").await.unwrap();
    eventually("the new certificate is served", || async {
        is_answered(&connect(&node, &certificate)).await
    })
    .await;
    assert_eq!(answer(&connect(&node, &old)).await.code(), Code::Unavailable, "the old one is not served");
    // Its client trusts only the old certificate, so it could not have connected again.
    assert!(is_answered(&before).await);

    let good = folder.path().join("good.crt");
    fs::copy(&certificate, &good).unwrap();
    fs::write(&certificate, "half a certificate").unwrap();
    node.server.signal("HUP").await.unwrap();
    assert!(is_answered(&connect(&node, &good)).await, "a bad file replaces nothing");
}
