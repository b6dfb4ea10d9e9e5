//! Certificates, and changing them under live connections.

use std::path::Path;

use prometheus::Registry;
use spillway_chassis::Tasks;
use spillway_rpc::{Channel, ClientTls, ServerConfig, ServerTls, TcpConfig, TlsConfig, TlsError, tcp};
use tokio::net::TcpStream;
use tonic::Code;

use crate::world::{BOUND, Handler, ask, fetch, listen, metric, until};

/// Writes a new key and a certificate for localhost.
fn renew(folder: &Path) -> TlsConfig {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let config = TlsConfig { certificate: folder.join("tls.crt"), private_key: folder.join("tls.key") };
    std::fs::write(&config.certificate, pair.cert.pem()).unwrap();
    std::fs::write(&config.private_key, pair.signing_key.serialize_pem()).unwrap();
    config
}

fn connect(port: u16, trusted: &Path) -> Channel {
    let endpoint = format!("https://localhost:{port}").parse().unwrap();
    tcp(endpoint, &TcpConfig::default(), Some(&ClientTls::trusting(trusted).unwrap())).unwrap()
}

#[tokio::test]
async fn a_reload_serves_the_new_certificate_and_a_bad_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = renew(folder.path());
    let tls = ServerTls::load(config.clone()).unwrap();
    let tasks = Tasks::new();
    let (listener, port) = listen().await;
    Handler::default().server(ServerConfig::default(), &Registry::new()).serve(
        listener,
        Some(tls.clone()),
        &tasks,
    );

    let before = connect(port, &config.certificate);
    assert_eq!(ask(&before, fetch("hello")).await.unwrap(), "hello");
    let old = folder.path().join("old.crt");
    std::fs::copy(&config.certificate, &old).unwrap();

    renew(folder.path());
    tls.reload().unwrap();
    assert_eq!(ask(&connect(port, &config.certificate), fetch("hello")).await.unwrap(), "hello");
    assert_eq!(ask(&before, fetch("hello")).await.unwrap(), "hello", "the old connection was dropped");
    let distrustful = ask(&connect(port, &old), fetch("hello")).await.unwrap_err();
    assert_eq!(distrustful.code(), Code::Unavailable);

    let trusted = ClientTls::trusting(&config.certificate).unwrap();
    std::fs::write(&config.certificate, "not a certificate").unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::NoCertificate(path)) if path == config.certificate));
    let endpoint = format!("https://localhost:{port}").parse().unwrap();
    let after = tcp(endpoint, &TcpConfig::default(), Some(&trusted)).unwrap();
    assert_eq!(ask(&after, fetch("hello")).await.unwrap(), "hello");
    tasks.close_and_wait(BOUND).await.unwrap();
}

#[test]
fn errors_name_the_file_and_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let good = renew(folder.path());
    let foreign_key = TlsConfig { private_key: renew(other.path()).private_key, ..good.clone() };
    let missing = TlsConfig { certificate: folder.path().join("absent.crt"), ..good.clone() };
    let keyless = TlsConfig { private_key: good.certificate.clone(), ..good };
    for (config, file, problem) in [
        (&foreign_key, &foreign_key.private_key, "does not belong"),
        (&missing, &missing.certificate, "cannot read"),
        (&keyless, &keyless.private_key, "holds no private key"),
    ] {
        let text = ServerTls::load(config.clone()).unwrap_err().to_string();
        assert!(text.contains(problem) && text.contains(file.to_str().unwrap()), "{text}");
    }
}

#[tokio::test]
async fn a_connection_that_never_starts_tls_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let tls = ServerTls::load(renew(folder.path())).unwrap();
    let (listener, port) = listen().await;
    let (registry, tasks) = (Registry::new(), Tasks::new());
    let config =
        ServerConfig { handshake_timeout: std::time::Duration::from_millis(50), ..ServerConfig::default() };
    Handler::default().server(config, &registry).serve(listener, Some(tls), &tasks);
    let _silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let refused = || metric(&registry, "spillway_rpc_server_connections_refused_total", &["tls"]);
    until("the refusal", || refused() == 1.0).await;
}

#[tokio::test]
async fn https_without_roots_is_a_mistake_of_configuration() {
    let endpoint = "https://localhost:1".parse().unwrap();
    let error = tcp(endpoint, &TcpConfig::default(), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "endpoint https://localhost:1/ is https, but no roots of trust are configured"
    );
}
