//! What is said when a cluster cannot be used. None of it needs one.

use std::path::Path;

use spillway_store::OpenError;
use spillway_store::cql::{Config, ConfigError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::open;

const SUPPORTED: u8 = 0x06;
const AUTHENTICATE: u8 = 0x03;
const ERROR: u8 = 0x00;
const OPTIONS: u8 = 0x05;
const STARTUP: u8 = 0x01;

fn config_at(address: String) -> Config {
    Config { contact_points: vec![address], ..Config::default() }
}

fn with_password(config: Config, file: &Path) -> Config {
    Config { username: Some("spillway".to_owned()), password_file: Some(file.to_owned()), ..config }
}

/// A node that lets nobody in.
async fn refuse(mut connection: TcpStream) -> std::io::Result<()> {
    loop {
        let mut header = [0; 9];
        connection.read_exact(&mut header).await?;
        let [_, _, stream_high, stream_low, opcode, length @ ..] = header;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        connection.read_exact(&mut body).await?;
        let (opcode, body) = match opcode {
            OPTIONS => (SUPPORTED, vec![0, 0]),
            STARTUP => (AUTHENTICATE, [&[0, 21], &b"PasswordAuthenticator"[..]].concat()),
            _ => (ERROR, [&[0, 0, 1, 0, 0, 5], &b"wrong"[..]].concat()),
        };
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let head = [&[0x84, 0, stream_high, stream_low, opcode], &length[..]].concat();
        connection.write_all(&[head, body].concat()).await?;
    }
}

#[tokio::test]
async fn a_node_that_lets_nobody_in_is_no_reason_to_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut node = JoinSet::new();
    node.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((connection, _)) = listener.accept().await {
            connections.spawn(refuse(connection));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    for config in [config_at(address.clone()), with_password(config_at(address), &file)] {
        let error = open(&config).await.unwrap_err();
        assert!(
            matches!(&error, OpenError::Credentials { username, .. } if *username == config.username),
            "{error:?}"
        );
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn a_cluster_that_is_not_there_may_come() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    for address in [address, "no-such-host.invalid:9042".to_owned()] {
        let error = open(&config_at(address.clone())).await.unwrap_err();
        assert!(matches!(&error, OpenError::Unreachable { .. }), "{error:?}");
        assert!(error.is_transient() && error.to_string().contains(&address));
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_named() {
    let empty = Config { contact_points: Vec::new(), ..Config::default() };
    let error = open(&empty).await.unwrap_err();
    assert!(matches!(error, OpenError::Config(ConfigError::NoContactPoints)), "{error:?}");
    let missing = Path::new("/no/such/file");
    let error = open(&with_password(config_at("127.0.0.1:1".to_owned()), missing)).await.unwrap_err();
    assert!(matches!(&error, OpenError::File { path, .. } if path == missing), "{error:?}");
}
